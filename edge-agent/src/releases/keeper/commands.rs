//! What a person on the box may do, without any server.

use std::fmt::Write as _;
use std::sync::Arc;

use shared::release::digest;

use super::{Keeper, blocking};
use crate::releases::gate::Origin;
use crate::releases::job::stored;
use crate::releases::local::{Command, Reply};
use crate::releases::state::{Digest, Failed, Until};
use crate::releases::vet::Fault;

impl Keeper {
    /// Does it; what to tell the person.
    pub(super) async fn command(&mut self, command: Command) -> Reply {
        match command {
            Command::List => Ok(self.list()),
            Command::Install { file, signature } => self.install(file, signature).await,
            Command::Rollback { head } => self.roll_back(&head).await,
            Command::Pin { head } => self.pin(&head, true).await,
            Command::Unpin { head } => self.pin(&head, false).await,
        }
    }

    /// One line a head.
    fn list(&self) -> String {
        let goals = self.goals();
        let mut text = String::new();
        for head in self.names(&goals) {
            let report = self.head_report(&head, &goals);
            let short =
                |id: Option<protocol::ReleaseId>| id.map_or_else(|| "none".to_owned(), |id| id.short());
            let _ = write!(text, "{head}: {}, {} answers", short(report.active), report.answers);
            if report.pinned {
                text += ", pinned";
            }
            if !report.channel.is_empty() {
                let _ = write!(text, "; {} wants {}", report.channel, short(report.wanted));
            }
            if let Some(previous) = self.state.heads.get(&head).and_then(|slot| slot.previous) {
                let _ = write!(text, "; before it {}", previous.0.short());
            }
            if !report.error.is_empty() {
                let _ = write!(text, "; {}", report.error);
            }
            text.push('\n');
        }
        if text.is_empty() { "no heads\n".to_owned() } else { text }
    }

    /// Takes a head file as it is. Where a channel wants another one it is pinned, or that would replace it at once.
    async fn install(&mut self, file: Vec<u8>, signature: Option<Vec<u8>>) -> Reply {
        let case = self.case(digest(&file), None, Origin::Local);
        let (store, release) = (Arc::clone(&self.store), case.release);
        let vetted = blocking::<_, Fault>(move || {
            let loaded = case.vet(&file, signature.as_deref())?;
            let kept = store.keep_head(release, &file, signature.as_deref());
            kept.map_err(|error| Fault::new(error.to_string(), Until::Another))?;
            Ok(Arc::new(loaded))
        });
        let loaded = vetted.await.map_err(|fault| fault.words)?;
        let head = loaded.info.name.clone();
        self.not_fixed(&head)?;
        let goal = self.goals().remove(&head);
        let before = self.state.clone();
        let slot = self.state.heads.entry(head.clone()).or_default();
        slot.activate(release, None);
        let pin = goal.as_ref().is_some_and(|goal| goal.release != Some(release));
        slot.pinned |= pin;
        if !self.keep(before).await {
            return Err(self.disk());
        }
        self.run_from_now_on(&head, loaded);
        self.sweep();
        let pinned = match goal.filter(|_| pin) {
            Some(goal) => {
                format!(" It is pinned, because {} wants another; unpin {head} to let it.", goal.channel)
            }
            None => String::new(),
        };
        Ok(format!("{head}: release {} answers from now on.{pinned}\n", release.short()))
    }

    /// Back to the one before; the one that was is not taken again until another one is wanted.
    async fn roll_back(&mut self, head: &str) -> Reply {
        self.not_fixed(head)?;
        let slot = self.state.heads.get(head).cloned().unwrap_or_default();
        let (Some(active), Some(previous)) = (slot.active, slot.previous) else {
            return Err(format!("{head}: there is no release before this one"));
        };
        let case = Arc::new(self.case(previous.0, Some(head), Origin::Kept));
        let loaded = stored(Arc::clone(&self.store), case).await.map_err(|fault| fault.words)?;
        let before = self.state.clone();
        let slot = self.state.heads.entry(head.to_owned()).or_default();
        (slot.active, slot.previous) = (Some(previous), None);
        let error = "rolled back by someone on the box".to_owned();
        slot.failed = Some(Failed { release: Digest(active.0), error, until: Until::Another });
        if !self.keep(before).await {
            return Err(self.disk());
        }
        self.run_from_now_on(head, loaded);
        Ok(format!("{head}: back to release {}\n", previous.0.short()))
    }

    async fn pin(&mut self, head: &str, pinned: bool) -> Reply {
        self.not_fixed(head)?;
        let before = self.state.clone();
        let slot = self.state.heads.get_mut(head).filter(|slot| slot.active.is_some());
        let Some(slot) = slot else { return Err(format!("{head}: no such head runs here")) };
        slot.pinned = pinned;
        if !self.keep(before).await {
            return Err(self.disk());
        }
        self.report(head);
        let words = if pinned { "stays, whatever is pushed" } else { "follows its channel again" };
        Ok(format!("{head} {words}\n"))
    }

    fn not_fixed(&self, head: &str) -> Result<(), String> {
        match self.fixed.iter().any(|fixed| fixed.info.name == head) {
            true => {
                Err(format!("{head}: the agent was started with this head (--head): start it without first"))
            }
            false => Ok(()),
        }
    }

    fn disk(&self) -> String {
        self.complaints.get("").cloned().unwrap_or_default()
    }
}
