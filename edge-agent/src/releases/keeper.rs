//! The one task that knows which releases are here, and says which of them answer.
//!
//! ```text
//! events (link, socket) ─► accept, in batches ─► state on the disk ─► Job ─► activate ─► state on the disk ─► swap
//! trouble in a head ────► the one before ─► state on the disk ─► swap                           └─► reports
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::{HeadReport, ReleaseId, Wanted};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::gate::{Gate, Origin};
use super::job::{Ended, Errand, Job, blocking, vet_stored};
use super::local::{Command, Reply};
use super::plan::{self, Goal, Step};
use super::state::{Digest, Slot, State, Until};
use super::store::{Store, StoreError};
use super::vet::{Case, Fault, Terms};
use crate::heads::{HeadSet, Heads, Loaded};
use crate::uplink::session::Session;

mod accept;
mod back;
mod commands;
mod report;

/// Reports without a change: a rollout is judged over hours.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Events that wait. When it is full, the control stream waits.
const EVENTS: usize = 64;
/// Reports that wait for the control stream. When it is full they are left out: the next ones say more.
const REPORTS: usize = 256;

/// What the keeper hears of.
#[derive(Debug)]
pub enum Event {
    /// A connection is there.
    Up(Session),
    /// It is gone.
    Down,
    /// A key ring, as signed.
    KeyRing(Vec<u8>),
    /// An assignment.
    Wanted(Wanted),
    /// A person on the box.
    Local(Command, oneshot::Sender<Reply>),
}

/// The link's end of the keeper.
#[derive(Debug)]
pub struct Port {
    /// To the keeper.
    pub events: mpsc::Sender<Event>,
    /// For the control stream.
    pub reports: mpsc::Receiver<HeadReport>,
}

/// What a keeper starts with.
#[derive(Debug)]
pub struct Start {
    /// The folder.
    pub store: Store,
    /// Whose signatures count.
    pub gate: Gate,
    /// The camera.
    pub camera: String,
    /// The agent's uplink transformation.
    pub uplink: String,
    /// What a head may take for a frame.
    pub budget: Duration,
    /// Heads that were named on the command line: pushes leave them alone.
    pub fixed: HeadSet,
    /// Where heads go.
    pub heads: Arc<Heads>,
}

/// The task's own.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    gate: Gate,
    camera: String,
    uplink: String,
    budget: Duration,
    fixed: HeadSet,
    heads: Arc<Heads>,
    state: State,
    /// What answers, by head.
    loaded: BTreeMap<String, Arc<Loaded>>,
    session: Option<Session>,
    /// Connections so far.
    connections: u64,
    /// The one over which nothing more is fetched.
    spent: Option<u64>,
    job: Option<Job>,
    events: mpsc::Receiver<Event>,
    reports: mpsc::Sender<HeadReport>,
    /// What was refused, by head; the empty name is all of them. Said once.
    complaints: BTreeMap<String, String>,
    /// The head with which a round of reports goes on that the queue had no room for.
    unreported: String,
}

impl Keeper {
    /// Reads the folder and starts with the last good releases; waits for the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(start: Start) -> Result<(Self, Port), StoreError> {
        let Start { store, gate, camera, uplink, budget, fixed, heads } = start;
        let state = store.state()?;
        let ((send, events), (reports, receive)) = (mpsc::channel(EVENTS), mpsc::channel(REPORTS));
        let mut keeper = Self {
            store: Arc::new(store),
            gate,
            camera,
            uplink,
            budget,
            fixed,
            heads,
            state,
            loaded: BTreeMap::new(),
            session: None,
            connections: 0,
            spent: None,
            job: None,
            events,
            reports,
            complaints: BTreeMap::new(),
            unreported: String::new(),
        };
        let names: Vec<String> = keeper.state.heads.keys().cloned().collect();
        names.iter().for_each(|head| keeper.start_with_last_good(head));
        keeper.swap();
        Ok((keeper, Port { events: send, reports: receive }))
    }

    /// Where its socket is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        super::local::socket_path(self.store.dir())
    }

    fn start_with_last_good(&mut self, head: &str) {
        let Some(slot) = self.state.heads.get(head) else { return };
        for release in [slot.active, slot.previous].into_iter().flatten() {
            match vet_stored(&self.store, &self.case(release.0, Some(head), Origin::Kept)) {
                Ok(loaded) => {
                    tracing::info!(head, release = loaded.info.release, "head loaded");
                    self.loaded.insert(head.to_owned(), loaded);
                    break;
                }
                Err(fault) => {
                    tracing::warn!("head {head}, release {}: {}", release.0.short(), fault.words);
                }
            }
        }
        let active = self.loaded.get(head).map(|loaded| Digest(loaded.release));
        let Some(slot) = self.state.heads.get_mut(head) else { return };
        if active != slot.active {
            slot.previous = None;
            slot.active = active;
        }
    }

    /// Works until nobody sends events any more.
    pub async fn run(mut self) {
        let heads = Arc::clone(&self.heads);
        let mut ticks = interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let job = async {
                match &mut self.job {
                    Some(job) => job.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.batch(event).await,
                    None => return,
                },
                ended = job => self.ended(ended).await,
                () = heads.trouble() => self.trouble().await,
                _ = ticks.tick() => self.report_all(),
            }
        }
    }

    /// Takes all events that wait, so that a thousand of them are few writes.
    async fn batch(&mut self, first: Event) {
        let (before, wanted) = (self.state.clone(), self.goals());
        let (mut next, mut commands) = (Some(first), Vec::new());
        while let Some(event) = next {
            match event {
                Event::Up(session) => self.up(session),
                Event::Down => self.session = None,
                Event::KeyRing(document) => self.ring(document).await,
                Event::Wanted(wanted) => self.wanted(&wanted),
                Event::Local(command, reply) => commands.push((command, reply)),
            }
            next = self.events.try_recv().ok();
        }
        let goals = self.goals();
        plan::forgive(&mut self.state, &goals, &[]);
        if self.keep(before).await {
            self.act().await;
            // Whoever watches a channel waits for its counter, also where the release stays.
            plan::changed(&wanted, &self.goals()).for_each(|head| self.report(head));
        }
        for (command, reply) in commands {
            // A person who went away does not need the answer.
            let _ = reply.send(self.command(command).await);
            self.act().await;
        }
    }

    /// Gets, drops, or leaves alone what is wanted or not.
    async fn act(&mut self) {
        let goals = self.goals();
        let mut gets = Vec::new();
        for (head, goal) in &goals {
            if self.fixed.iter().any(|fixed| fixed.info.name == *head) {
                continue;
            }
            let slot = self.state.heads.get(head).cloned().unwrap_or_default();
            match plan::step(&slot, goal) {
                Step::Keep => {}
                Step::Drop => self.drop_head(head).await,
                Step::Get(release) => gets.push((head, release)),
            }
        }
        if self.job.as_ref().is_some_and(|job| !gets.contains(&(&job.head, job.release))) {
            self.job = None;
        }
        if self.job.is_none()
            && let (Some(session), Some((head, release))) = (&self.session, gets.first())
            && self.spent != Some(self.connections)
        {
            tracing::info!(head = head.as_str(), release = release.short(), "getting a release");
            let (store, session) = (Arc::clone(&self.store), session.clone());
            let case = self.case(*release, Some(head), Origin::Wire);
            self.job = Some(Job::start((*head).clone(), self.connections, Errand { store, session, case }));
        }
    }

    async fn drop_head(&mut self, head: &str) {
        let before = self.state.clone();
        self.state.heads.remove(head);
        if self.keep(before).await {
            tracing::info!(head, "its channel gives it no more");
            self.loaded.remove(head);
            self.swap();
            self.report(head);
        }
    }

    /// A job is over.
    async fn ended(&mut self, ended: Result<Arc<Loaded>, Ended>) {
        let Some(job) = self.job.take() else { return };
        let (head, release, connection) = (job.head.clone(), job.release, job.connection);
        drop(job);
        match ended {
            Ok(loaded) => self.activate(&head, loaded).await,
            // This connection gives no more; another one goes on.
            Err(Ended::Interrupted(words)) => {
                tracing::debug!(head, words, "a fetch was interrupted");
                self.spent = Some(connection);
            }
            Err(Ended::Fault(fault)) => self.failed(&head, release, fault).await,
        }
        self.act().await;
    }

    async fn activate(&mut self, head: &str, loaded: Arc<Loaded>) {
        let Some(goal) = self.goals().remove(head) else { return };
        let mut slot = self.state.heads.get(head).cloned().unwrap_or_default();
        if plan::step(&slot, &goal) != Step::Get(loaded.release) {
            return;
        }
        let before = self.state.clone();
        let release = loaded.release;
        slot.activate(release, Some(goal.channel));
        self.state.heads.insert(head.to_owned(), slot);
        if !self.keep(before).await {
            let words = self.complaints.get("").cloned().unwrap_or_default();
            return self.failed(head, release, Fault::new(words, Until::Connection)).await;
        }
        self.sweep();
        self.run_from_now_on(head, loaded);
    }

    fn run_from_now_on(&mut self, head: &str, loaded: Arc<Loaded>) {
        tracing::info!(head, release = loaded.info.release, "a release answers from now on");
        self.complaints.remove(head);
        self.loaded.insert(head.to_owned(), loaded);
        self.swap();
        self.report(head);
    }

    fn goals(&self) -> BTreeMap<String, Goal> {
        let trust = self.gate.trust.as_ref();
        trust.map_or_else(BTreeMap::new, |trust| plan::goals(&self.state, trust, &self.camera))
    }

    fn case(&self, release: ReleaseId, head: Option<&str>, origin: Origin) -> Case {
        let session = self.session.as_ref().filter(|_| origin != Origin::Kept);
        Case {
            gate: self.gate.clone(),
            release,
            head: head.map(str::to_owned),
            origin,
            // What ran before goes on wherever it fits.
            terms: session.map(|session| Terms::of(session.welcome())),
            uplink: self.uplink.clone(),
            budget: self.budget,
            path: self.store.head_path(release),
        }
    }

    /// All frames from now on are answered by what is loaded.
    fn swap(&self) {
        let fixed = self.fixed.iter().cloned();
        self.heads.replace(HeadSet::of(fixed.chain(self.loaded.values().cloned()).collect()));
    }

    /// Writes the state down, or goes back to `before`; `true`: it is on the disk.
    async fn keep(&mut self, before: State) -> bool {
        if self.state == before || self.write().await {
            return true;
        }
        self.state = before;
        false
    }

    async fn write(&mut self) -> bool {
        let (store, state) = (Arc::clone(&self.store), self.state.clone());
        let disk = |error: StoreError| Fault::new(error.to_string(), Until::Connection);
        match blocking(move || store.keep_state(&state).map_err(disk)).await {
            Ok(()) => {
                self.complaints.remove("");
                true
            }
            Err(fault) => {
                self.complain("", &fault.words);
                false
            }
        }
    }

    fn sweep(&self) {
        let slots = self.state.heads.values();
        let kept = slots.flat_map(|slot: &Slot| [slot.active, slot.previous]).flatten().map(|id| id.0);
        let wanted = self.goals().into_values().filter_map(|goal| goal.release);
        let needed: BTreeSet<ReleaseId> = kept.chain(wanted).collect();
        self.store.sweep(&needed.into_iter().collect::<Vec<_>>());
    }

    /// Says what was refused, once, and in reports.
    fn complain(&mut self, head: &str, words: &str) {
        let said = self.complaints.insert(head.to_owned(), words.to_owned());
        if said.as_deref() != Some(words) {
            tracing::warn!("{words}");
            match head {
                "" => self.report_all(),
                head => self.report(head),
            }
        }
    }
}

#[cfg(test)]
mod tests;
