//! What does not run, and the way back to what did.

use std::sync::Arc;

use protocol::ReleaseId;

use super::Keeper;
use crate::releases::gate::Origin;
use crate::releases::job::stored;
use crate::releases::state::{Digest, Failed, Until};
use crate::releases::vet::Fault;

impl Keeper {
    /// A release does not run: the last good one stays.
    pub(super) async fn failed(&mut self, head: &str, release: ReleaseId, fault: Fault) {
        tracing::warn!("head {head}, release {}, does not run here: {}", release.short(), fault.words);
        let slot = self.state.heads.entry(head.to_owned()).or_default();
        slot.failed = Some(Failed { release: Digest(release), error: fault.words, until: fault.until });
        // On a full disk it is known until the restart, and that tries it again.
        self.write().await;
        self.report(head);
    }

    /// A release that answered fails: back to the one before.
    pub(super) async fn trouble(&mut self) {
        let troubled: Vec<_> = self
            .loaded
            .iter()
            .filter_map(|(head, loaded)| Some((head.clone(), loaded.release, loaded.tally.counts().trouble?)))
            .collect();
        for (head, release, words) in troubled {
            let before = self.go_back(&head).await;
            let to = before.map_or_else(|| "none is left".to_owned(), |id| format!("back to {}", id.short()));
            let words = format!("it was taken off after it ran: {words}; {to}");
            self.failed(&head, release, Fault::new(words, Until::Another)).await;
        }
    }

    /// The previous release answers again, if it still can.
    async fn go_back(&mut self, head: &str) -> Option<ReleaseId> {
        let slot = self.state.heads.get(head)?.clone();
        let mut back = None;
        if let Some(previous) = slot.previous {
            let case = Arc::new(self.case(previous.0, Some(head), Origin::Kept));
            match stored(Arc::clone(&self.store), case).await {
                Ok(loaded) => back = Some(loaded),
                Err(fault) => tracing::warn!("head {head}, the release before: {}", fault.words),
            }
        }
        let release = back.as_ref().map(|loaded| loaded.release);
        let slot = self.state.heads.entry(head.to_owned()).or_default();
        (slot.active, slot.previous) = (release.map(Digest), None);
        match back {
            Some(loaded) => drop(self.loaded.insert(head.to_owned(), loaded)),
            None => drop(self.loaded.remove(head)),
        }
        self.swap();
        release
    }
}
