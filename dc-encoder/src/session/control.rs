//! A session that was admitted: its control stream, and the frame streams it accepts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, Goodbye, GoodbyeReason, Hello, Ping, Pong, close};
use quinn::{Connection, ConnectionStats, SendStream};
use shared::tls::{PeerIdentity, diagnose_expired, expired};
use shared::wire::{MsgReader, WireError};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::frame::{self, Malformed};
use super::live::Seat;
use super::{Context, End, stream, write_control};
use crate::registry::Snapshot;

/// A session looks this often within [`Timeouts::silence`](crate::serve::config::Timeouts::silence) whether its
/// agent was heard from.
const LOOKS_PER_SILENCE: u32 = 10;

/// An admitted agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) hello: Hello,
    connection: Connection,
    context: Arc<Context>,
    send: SendStream,
    reader: MsgReader,
    seat: Seat,
    identity: PeerIdentity,
    frames: JoinSet<Result<(), Malformed>>,
    shared: Arc<frame::Shared>,
    /// What the registry wants, and what of it the agent was told.
    wanted: Option<watch::Receiver<Arc<Snapshot>>>,
    told: Arc<Snapshot>,
    /// What the connection had moved when it was last looked at.
    moved: ConnectionStats,
    /// When the goodbye of a draining server was sent.
    said_goodbye: Option<tokio::time::Instant>,
}

impl Session {
    /// `seat` comes with what the certificate says that it was given to.
    pub(super) fn new(
        connection: &Connection,
        context: &Arc<Context>,
        (send, reader): (SendStream, MsgReader),
        hello: Hello,
        (seat, identity): (Seat, PeerIdentity),
    ) -> Self {
        let shared = Arc::new(frame::Shared::new(Arc::clone(context), seat.key(), &hello.camera));
        Self {
            hello,
            connection: connection.clone(),
            context: Arc::clone(context),
            send,
            reader,
            seat,
            identity,
            frames: JoinSet::new(),
            shared,
            wanted: context.registrar.as_ref().map(|registrar| {
                let mut wanted = registrar.watch();
                wanted.mark_changed();
                wanted
            }),
            told: Arc::default(),
            moved: ConnectionStats::default(),
            said_goodbye: None,
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
                    let peer = self.connection.remote_address().to_string();
                    let why = diagnose_expired(&self.identity, &context.about(&peer));
                    Err(End::new(close::EXPIRED, why.to_string()))
                }
                message = self.reader.next() => self.on_message(message).await,
                stream = self.connection.accept_bi() => match stream {
                    Ok(stream) => { self.spawn(stream); Ok(()) }
                    Err(error) => Err(End::lost(error)),
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

    async fn on_message(&mut self, message: Result<Option<AgentToEncoderMsg>, WireError>) -> Result<(), End> {
        match message {
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
        write_control(&mut self.send, &pong, &self.context).await
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
            write_control(&mut self.send, &ring, &self.context).await?;
        }
        for (channel, given) in &next.channels {
            let Some(wanted) = given.wanted(&camera) else { continue };
            let told = self.told.channels.get(channel).and_then(|given| given.wanted(&camera));
            if told.as_ref() != Some(&wanted) {
                write_control(&mut self.send, &EncoderToAgentMsg::Wanted(wanted), &self.context).await?;
            }
        }
        self.told = next;
        Ok(())
    }

    fn spawn(&mut self, (send, recv): (SendStream, quinn::RecvStream)) {
        let draining = self.said_goodbye.is_some();
        self.frames.spawn(stream::serve(send, recv, Arc::clone(&self.shared), draining));
    }

    async fn say_goodbye(&mut self) -> Result<(), End> {
        let goodbye = Goodbye::new(GoodbyeReason::Draining, "connect to another encoder");
        write_control(&mut self.send, &EncoderToAgentMsg::Goodbye(goodbye), &self.context).await?;
        self.said_goodbye = Some(tokio::time::Instant::now());
        Ok(())
    }

    /// When a draining session may close: every frame is answered, and those under way had time to arrive.
    fn leaves_at(&self) -> Option<tokio::time::Instant> {
        self.said_goodbye.filter(|_| self.frames.is_empty()).map(|said| said + self.context.timeouts.linger)
    }

    /// Any datagram is a sign of life, an acknowledgement of a keep-alive too.
    fn listen(&mut self) {
        let now = self.connection.stats();
        if now.udp_rx.datagrams != self.moved.udp_rx.datagrams {
            self.seat.heard(Instant::now());
        }
        let (received, sent) = self.context.metrics.moved(&self.moved, &now);
        self.shared.account.moved(received, sent);
        self.moved = now;
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

/// This machine's clock, in microseconds since the Unix epoch; 0 if it is set before that.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
