//! A session that was admitted: its control messages, and the frames it sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, Goodbye, GoodbyeReason, Hello, Ping, Pong, close};
use shared::tls::{PeerIdentity, diagnose_expired, expired};
use shared::wire::WireError;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::frame::{self, Malformed};
use super::live::Seat;
use super::transport::{Step, Transport};
use super::{Context, End, unix_us};
use crate::registry::Snapshot;

/// A session looks this often within [`Timeouts::silence`](crate::serve::config::Timeouts::silence) whether its
/// agent was heard from.
const LOOKS_PER_SILENCE: u32 = 10;

/// An admitted agent.
#[derive(Debug)]
pub(super) struct Session<T> {
    pub(super) hello: Hello,
    transport: T,
    context: Arc<Context>,
    seat: Seat,
    identity: PeerIdentity,
    frames: JoinSet<Result<(), Malformed>>,
    shared: Arc<frame::Shared>,
    /// What the registry wants, and what of it the agent was told.
    wanted: Option<watch::Receiver<Arc<Snapshot>>>,
    told: Arc<Snapshot>,
    /// When the goodbye of a draining server was sent.
    said_goodbye: Option<tokio::time::Instant>,
}

impl<T: Transport> Session<T> {
    /// `seat` comes with what the certificate says that it was given to.
    pub(super) fn new(
        transport: T,
        shared: Arc<frame::Shared>,
        hello: Hello,
        (seat, identity): (Seat, PeerIdentity),
    ) -> Self {
        let context = Arc::clone(shared.context());
        Self {
            hello,
            transport,
            seat,
            identity,
            frames: JoinSet::new(),
            shared,
            wanted: context.registrar.as_ref().filter(|_| T::FETCHES).map(|registrar| {
                let mut wanted = registrar.watch();
                wanted.mark_changed();
                wanted
            }),
            told: Arc::default(),
            said_goodbye: None,
            context,
        }
    }

    /// Counts the session's frames, also after it ended.
    pub(super) fn frames(&self) -> Arc<frame::Shared> {
        Arc::clone(&self.shared)
    }

    /// Serves the agent until the session ends.
    pub(super) async fn serve(mut self) -> End {
        let context = Arc::clone(&self.context);
        let PeerIdentity { serial, not_after, .. } = self.identity.clone();
        let revoked = context.revocations.revoked(&serial);
        let expired = expired(not_after, &*context.clock);
        tokio::pin!(revoked, expired);
        let mut draining = context.draining.clone();
        let often = context.timeouts.silence / LOOKS_PER_SILENCE;
        let mut tick = tokio::time::interval(often.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let leaves_at = self.leaves_at();
            let step = tokio::select! {
                () = &mut revoked => {
                    let why = format!("the certificate of {} was revoked (serial {serial})", self.hello.camera);
                    Err(End::new(close::REVOKED, why))
                }
                () = &mut expired => {
                    let peer = self.transport.address().to_string();
                    let why = diagnose_expired(&self.identity, &context.about(&peer));
                    Err(End::new(close::EXPIRED, why.to_string()))
                }
                step = self.transport.next() => match step {
                    Ok(Step::Said(message)) => self.on_message(message).await,
                    Ok(Step::Began(work)) => { self.begin(work); Ok(()) }
                    Err(end) => Err(end),
                },
                Some(done) = self.frames.join_next() => on_frame_done(done),
                () = changed(self.wanted.as_mut()) => self.push().await,
                () = async { drop(draining.wait_for(|draining| *draining).await) },
                    if self.said_goodbye.is_none() => self.say_goodbye().await,
                () = tokio::time::sleep_until(leaves_at.unwrap_or_else(tokio::time::Instant::now)),
                    if leaves_at.is_some() => Err(End::new(close::DRAINING, "the encoder is shutting down")),
                _ = tick.tick() => { self.listen(); Ok(()) }
            };
            if let Err(end) = step {
                self.listen();
                return end;
            }
        }
    }

    async fn on_message(
        &mut self,
        message: Result<Option<Box<AgentToEncoderMsg>>, WireError>,
    ) -> Result<(), End> {
        match message.map(|message| message.map(|message| *message)) {
            Ok(Some(AgentToEncoderMsg::Ping(ping))) => self.pong(ping).await,
            Ok(Some(AgentToEncoderMsg::Goodbye(goodbye))) => Err(End::new(close::OK, goodbye.to_string())),
            Ok(Some(AgentToEncoderMsg::Head(report))) => {
                if let Some(registrar) = &self.context.registrar {
                    registrar.hear(&self.hello.camera, report, jiff::Timestamp::now());
                }
                Ok(())
            }
            Ok(Some(AgentToEncoderMsg::Work(work))) => {
                self.shared.account.edge(work);
                Ok(())
            }
            Ok(Some(AgentToEncoderMsg::Hello(_))) => Err(End::malformed("a second greeting")),
            Ok(None) => Err(End::new(close::OK, "the agent ended its control stream")),
            Err(error) => Err(End::of_stream(&error)),
        }
    }

    async fn pong(&mut self, Ping { id, .. }: Ping) -> Result<(), End> {
        let received_us = unix_us();
        let pong = EncoderToAgentMsg::Pong(Pong { id, received_us, sent_us: unix_us() });
        self.transport.say(&pong, &self.context).await
    }

    /// Tells the agent what changed since it was last told. Changes that came in between are not: the newest of each
    /// channel is all that counts, so a slow agent never makes us hold more than one state.
    async fn push(&mut self) -> Result<(), End> {
        let Some(wanted) = &mut self.wanted else { return Ok(()) };
        let next = Arc::clone(&wanted.borrow_and_update());
        let camera = self.hello.camera.clone();
        if let Some((_, document)) = next.ring.as_ref().filter(|ring| Some(*ring) != self.told.ring.as_ref())
        {
            let ring = EncoderToAgentMsg::KeyRing { document: document.clone() };
            self.transport.say(&ring, &self.context).await?;
        }
        for (channel, given) in &next.channels {
            let Some(wanted) = given.wanted(&camera) else { continue };
            let told = self.told.channels.get(channel).and_then(|given| given.wanted(&camera));
            if told.as_ref() != Some(&wanted) {
                self.transport.say(&EncoderToAgentMsg::Wanted(wanted), &self.context).await?;
            }
        }
        self.told = next;
        Ok(())
    }

    fn begin(&mut self, work: T::Work) {
        let draining = self.said_goodbye.is_some();
        self.frames.spawn(self.transport.serve(work, Arc::clone(&self.shared), draining));
    }

    async fn say_goodbye(&mut self) -> Result<(), End> {
        let goodbye = Goodbye::new(GoodbyeReason::Draining, "connect to another encoder");
        self.transport.say(&EncoderToAgentMsg::Goodbye(goodbye), &self.context).await?;
        self.said_goodbye = Some(tokio::time::Instant::now());
        Ok(())
    }

    /// When a draining session may close: every frame is answered, and those under way had time to arrive.
    fn leaves_at(&self) -> Option<tokio::time::Instant> {
        self.said_goodbye.filter(|_| self.frames.is_empty()).map(|said| said + self.context.timeouts.linger)
    }

    fn listen(&mut self) {
        if self.transport.look(&self.context.metrics, &self.shared.account) {
            self.seat.heard(Instant::now());
        }
    }
}

/// Waits for the next change; for ever without a registry.
async fn changed(wanted: Option<&mut watch::Receiver<Arc<Snapshot>>>) {
    match wanted {
        // The registrar lives as long as the context that the session holds.
        Some(wanted) => drop(wanted.changed().await),
        None => std::future::pending().await,
    }
}

fn on_frame_done(done: Result<Result<(), Malformed>, JoinError>) -> Result<(), End> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Malformed(why))) => Err(End::malformed(why)),
        Err(error) => {
            // A defect of ours; the agent sees a stream without a reply and goes on.
            tracing::error!("a frame task failed: {error}");
            Ok(())
        }
    }
}
