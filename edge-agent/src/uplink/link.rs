//! The link to an encoder: connects, keeps it alive, moves on when it fails.
//!
//! ```text
//! Candidates ─► dial ─► Session ─► watch ─► frame path
//!      ▲                   │ pings, pongs; Goodbye(Draining): on to the next while frames finish
//!      └── failed, lost ◄──┘
//! ```
//! One task owns the dialer and the candidates; the frame path sees only [`State`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, Goodbye, GoodbyeReason, HeadReport, Ping, SpaceId, close,
};
use rand::Rng;
use shared::wire::WireError;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::candidates::{Candidates, Next};
use super::dial::Dialer;
use super::failure::{Failure, Heals};
use super::session::{Control, OnWire, Session};
use crate::config::ServerAddr;
use crate::releases::keeper::{Event, Port};
use crate::work::Work;

/// Keeps carriers' NAT tables open and measures the round trip. An encoder that was restarted knows of nobody: a camera that
/// films rarely learns it from the answer to this.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Four pings and their pongs lost: an encoder that is alive answers a ping within milliseconds.
const SILENCE: Duration = Duration::from_secs(5);
/// A session that lasted this long was a good one; before that, its end counts as one more failure.
const LASTING: Duration = Duration::from_secs(10);
/// How long frames may finish at an encoder that is going away.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// One round trip on a slow link.
const FAREWELL_WITHIN: Duration = Duration::from_millis(500);

/// What the frame path needs to know.
#[derive(Debug, Clone)]
pub enum State {
    /// No encoder now; why, in words.
    Down(Arc<str>),
    /// An encoder takes frames.
    Up(Session),
    /// No encoder will ever take this agent as it is; why, in words.
    Hopeless(Arc<str>),
}

/// What the link is to do.
pub struct Options {
    /// Encoders, the preferred first.
    pub servers: Vec<ServerAddr>,
    /// Most frames on the wire at once.
    pub on_wire: OnWire,
    /// The heads' spaces at the time of a greeting.
    pub spaces: Box<dyn Fn() -> Vec<SpaceId> + Send>,
    /// Ends the task when every encoder refuses for good. Before the first welcome that is always so; after
    /// it, a source that goes on for ever may live to see the encoders change.
    pub give_up: bool,
    /// What this box computes: the encoder is told with every ping.
    pub work: Arc<Work>,
    /// Who is told what is wanted, and says how heads do. `None`: nothing is pushed to this agent.
    pub releases: Option<Port>,
}

/// A running link. Dropping it breaks the connection off; [`Link::close`] says goodbye first.
#[derive(Debug)]
pub struct Link {
    state: watch::Receiver<State>,
    sessions: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts connecting.
    #[must_use]
    pub fn start(dialer: Dialer, options: Options) -> Self {
        let now = Instant::now();
        let (publish, state) = watch::channel(State::Down("connecting to the first encoder".into()));
        let (stop, stopped) = oneshot::channel();
        let candidates = Candidates::new(options.servers.len(), now);
        let sessions = Arc::new(AtomicU64::new(0));
        let keeper = Keeper { dialer, candidates, options, publish, sessions: Arc::clone(&sessions) };
        Self { state, sessions, stop, task: tokio::spawn(keeper.run(stopped)) }
    }

    /// The state now and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How many times an encoder welcomed this agent so far.
    #[must_use]
    pub fn sessions(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sessions)
    }

    /// Says goodbye and waits a little until that is sent.
    pub async fn close(self) {
        // An error means that the task ended by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the link ended badly: please report this");
        }
    }
}

struct Keeper {
    dialer: Dialer,
    candidates: Candidates,
    options: Options,
    publish: watch::Sender<State>,
    sessions: Arc<AtomicU64>,
}

/// Why a session ended.
enum Ended {
    /// The encoder asked us to go; frames may finish.
    Left(Failure, Control),
    /// It is gone.
    Lost(Failure),
    /// The agent stops.
    Stopped(Control),
}

impl Keeper {
    async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        while !self.candidates.hopeless() || self.was_up() && !self.options.give_up {
            let index = match self.candidates.next(Instant::now()) {
                Next::Try(index) => index,
                Next::Wait(until) => {
                    self.publish.send_replace(State::Down(self.candidates.words().into()));
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => continue,
                        _ = &mut stop => return self.dialer.close().await,
                    }
                }
            };
            let server = self.options.servers[index].clone();
            let spaces = (self.options.spaces)();
            let dialed = tokio::select! {
                dialed = self.dialer.dial(&server, spaces, self.options.on_wire) => dialed,
                _ = &mut stop => return self.dialer.close().await,
            };
            match dialed {
                Ok((session, control)) => {
                    if !self.serve(index, session, control, &mut stop).await {
                        return self.dialer.close().await;
                    }
                }
                Err(failure) => self.failed(index, failure),
            }
        }
        self.publish.send_replace(State::Hopeless(self.candidates.words().into()));
        self.dialer.close().await;
    }

    /// Lives through one session; `false`: the agent stops.
    async fn serve(
        &mut self,
        index: usize,
        session: Session,
        control: Control,
        stop: &mut oneshot::Receiver<()>,
    ) -> bool {
        let welcome = session.welcome();
        let (server, model, space) = (session.server(), &welcome.model, welcome.space.short());
        tracing::info!(server, model, note = welcome.note, %space, "connected");
        let start = Instant::now();
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.candidates.welcomed(index);
        self.publish.send_replace(State::Up(session.clone()));
        let releases = &mut self.options.releases;
        greet_releases(releases, &session).await;
        let ended = accompany(&session, control, stop, (releases, &self.options.work)).await;
        tell(releases, Event::Down).await;
        if start.elapsed() >= LASTING {
            self.candidates.lasted(index);
        }
        match ended {
            Ended::Stopped(control) => {
                farewell(control, &self.options.work).await;
                return false;
            }
            Ended::Left(failure, control) => {
                tracing::warn!("{failure}: moving on");
                self.publish.send_replace(State::Down(failure.words.as_str().into()));
                self.candidates.left(index, failure, Instant::now());
                tokio::spawn(drain(session, control, Arc::clone(&self.options.work)));
            }
            Ended::Lost(failure) => {
                self.publish.send_replace(State::Down(failure.words.as_str().into()));
                self.failed(index, failure);
            }
        }
        true
    }

    fn was_up(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) > 0
    }

    fn failed(&mut self, index: usize, failure: Failure) {
        let jitter = rand::rng().random_range(0.0..1.0);
        let Failure { words, heals, .. } = failure.clone();
        let failures = self.candidates.failed(index, failure, Instant::now(), jitter);
        // What a person must act on is said every time; what heals by itself, ever more rarely.
        if heals != Heals::Soon || failures.is_power_of_two() {
            tracing::warn!(failures, "{words}");
        }
        self.publish.send_replace(State::Down(self.candidates.words().into()));
    }
}

/// Pings, and listens, until the session ends.
async fn accompany(
    session: &Session,
    mut control: Control,
    stop: &mut oneshot::Receiver<()>,
    (releases, work): (&mut Option<Port>, &Work),
) -> Ended {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut asked) = (Instant::now(), Instant::now());
    let mut id = 0;
    let mut expired = std::pin::pin!(session.expired());
    loop {
        tokio::select! {
            _ = &mut *stop => return Ended::Stopped(control),
            failure = &mut expired => return Ended::Lost(failure),
            message = control.next() => match message {
                Ok(Some(EncoderToAgentMsg::Pong(pong))) => {
                    heard = Instant::now();
                    if pong.id == id {
                        session.heard(&pong, (asked, heard));
                    }
                    tracing::debug!(id = pong.id, rtt = ?session.round_trip(), "pong");
                }
                Ok(Some(EncoderToAgentMsg::KeyRing { document })) => {
                    heard = Instant::now();
                    tell(releases, Event::KeyRing(document)).await;
                }
                Ok(Some(EncoderToAgentMsg::Wanted(wanted))) => {
                    heard = Instant::now();
                    tell(releases, Event::Wanted(wanted)).await;
                }
                Ok(Some(EncoderToAgentMsg::Goodbye(goodbye))) => return said_goodbye(session, &goodbye, control),
                other => return Ended::Lost(broken(session, other)),
            },
            report = next_report(releases) => {
                let report = AgentToEncoderMsg::Head(report);
                if let Err(error) = control.say(&report).await {
                    return Ended::Lost(broken(session, Err(error)));
                }
            }
            _ = ticks.tick() => {
                if heard.elapsed() > SILENCE {
                    let words = format!("no sign of life from {} for {} s", session.server(), SILENCE.as_secs());
                    session.end(close::OK, &words);
                    return Ended::Lost(Failure::new(words, Heals::Soon));
                }
                id += 1;
                asked = Instant::now();
                let ping = AgentToEncoderMsg::Ping(Ping { id, sent_us: wall_clock_us() });
                for message in [ping, AgentToEncoderMsg::Work(work.so_far())] {
                    if let Err(error) = control.say(&message).await {
                        return Ended::Lost(broken(session, Err(error)));
                    }
                }
            }
        }
    }
}

/// A new connection: reports that an earlier one did not take are void, all come anew.
async fn greet_releases(releases: &mut Option<Port>, session: &Session) {
    if let Some(port) = releases {
        while port.reports.try_recv().is_ok() {}
    }
    tell(releases, Event::Up(session.clone())).await;
}

/// Waits where the keeper is behind: then the control stream does, too.
async fn tell(releases: &Option<Port>, event: Event) {
    match releases {
        // The keeper is gone only when the run ends.
        Some(port) => drop(port.events.send(event).await),
        None => tracing::debug!("this agent has no heads_dir, and runs those heads that it was started with"),
    }
}

async fn next_report(releases: &mut Option<Port>) -> HeadReport {
    if let Some(port) = releases
        && let Some(report) = port.reports.recv().await
    {
        return report;
    }
    std::future::pending().await
}

fn said_goodbye(session: &Session, goodbye: &Goodbye, control: Control) -> Ended {
    let heals = match goodbye.reason {
        GoodbyeReason::Revoked => Heals::ByPerson,
        _ => Heals::Soon,
    };
    let failure = Failure::new(format!("{} said goodbye: {goodbye}", session.server()), heals);
    match goodbye.reason {
        GoodbyeReason::Draining | GoodbyeReason::Shutdown => Ended::Left(failure, control),
        _ => {
            session.end(close::OK, &failure.words);
            Ended::Lost(failure)
        }
    }
}

/// The control stream brought something other than a pong or a farewell.
fn broken(session: &Session, message: Result<Option<EncoderToAgentMsg>, WireError>) -> Failure {
    if let Some(failure) = session.why_lost() {
        return failure;
    }
    let what = match message {
        Ok(None) => "it ended the control stream".to_owned(),
        Ok(Some(_)) => "it greeted twice".to_owned(),
        Err(error) => error.to_string(),
    };
    let words = format!("{} broke the protocol: {what}", session.server());
    session.end(close::MALFORMED, &words);
    Failure::new(words, Heals::Soon)
}

/// Lets frames in flight finish at an encoder that goes away.
async fn drain(session: Session, control: Control, work: Arc<Work>) {
    tokio::select! {
        _ = timeout(DRAIN_WITHIN, session.drained()) => {}
        () = session.closed() => {}
    }
    farewell(control, &work).await;
    session.end(close::OK, "the agent moved on to another encoder");
}

/// What was computed since the last ping, and goodbye.
async fn farewell(mut control: Control, work: &Work) {
    let work = AgentToEncoderMsg::Work(work.so_far());
    let goodbye = AgentToEncoderMsg::Goodbye(Goodbye::new(GoodbyeReason::Shutdown, ""));
    // The connection may be gone already, and then nobody needs the farewell. Closing it at once would throw that away.
    let _ = timeout(FAREWELL_WITHIN, async {
        if control.say(&work).await.is_ok() && control.say(&goodbye).await.is_ok() {
            control.finish().await;
        }
    })
    .await;
}

fn wall_clock_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
