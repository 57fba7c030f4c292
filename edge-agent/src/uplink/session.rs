//! One connection to one encoder, and what was agreed on it.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, Pong, Welcome, close};
use quinn::{SendStream, VarInt};
use rustls::time_provider::TimeProvider;
use shared::tls::{self, Context, Floor, Identity, PeerIdentity};
use shared::wire::{MsgReader, WireError, write_msg};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::clocks::{Bounds, Exchange, OneWay, way_back};
use super::failure::{Failure, diagnosed, soon};
use super::tcp;
use crate::ledger::Dropped;

/// A connection with a [`Welcome`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

/// What carries a session.
#[derive(Debug, Clone)]
pub enum Connection {
    /// A stream for each frame.
    Quic(quinn::Connection),
    /// One message after another.
    Tcp(tcp::Connection),
}

/// How many frames may be on the wire at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnWire {
    /// Whole frames.
    pub in_flight: u16,
    /// Frames travel as patches where the encoder takes those: then one at a time.
    pub patches: bool,
}

/// Tells one session from all others, also after it ended.
#[derive(Debug, Clone)]
pub struct Mark(Weak<dyn Any + Send + Sync>);

impl Mark {
    /// Of what lives as long as the session.
    pub(super) fn of<T: Any + Send + Sync>(of: &Arc<T>) -> Self {
        let mark: Weak<T> = Arc::downgrade(of);
        Self(mark)
    }
}

impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        // The memory behind a weak pointer is given to nobody else.
        self.0.as_ptr().cast::<()>() == other.0.as_ptr().cast::<()>()
    }
}

/// A connection, not yet greeted.
#[derive(Debug)]
pub(super) struct Connected {
    /// The encoder's address as configured.
    pub(super) server: String,
    pub(super) connection: Connection,
    /// The agent's own.
    pub(super) identity: Identity,
    /// What the encoder's certificate says.
    pub(super) encoder: PeerIdentity,
    /// What certificates are held against.
    pub(super) clock: Arc<dyn TimeProvider>,
    /// What learns the time from the encoder.
    pub(super) floor: Option<Floor>,
}

impl Connected {
    /// Why the connection failed or ended, in words; `None`: it has not.
    pub(super) fn failure(&self) -> Option<Failure> {
        let context = context(&self.identity, &self.server, &*self.clock);
        let error = match &self.connection {
            Connection::Quic(connection) => {
                return Some(diagnosed(tls::diagnose(&connection.close_reason()?, &context)));
            }
            Connection::Tcp(connection) => connection.ended()?,
        };
        Some(match &error {
            WireError::Io(io) if let Some(error) = tls::tls_error(io) => {
                diagnosed(tls::diagnose(error, &context))
            }
            WireError::Ended => soon(format!("{} closed the connection", self.server)),
            error => soon(format!("{}: {error}", self.server)),
        })
    }
}

#[derive(Debug)]
struct Inner {
    connected: Connected,
    welcome: Welcome,
    slots: Arc<Semaphore>,
    most: u32,
    /// Our clock counts from here.
    start: Instant,
    clocks: Mutex<Bounds>,
    /// Why this side ended it.
    ended: OnceLock<String>,
}

/// Both directions of the control messages.
#[derive(Debug)]
pub enum Control {
    /// On a stream of their own.
    Quic {
        /// To the encoder.
        send: SendStream,
        /// From it.
        reader: MsgReader,
    },
    /// Among frames and replies.
    Tcp {
        /// To the encoder.
        connection: tcp::Connection,
        /// From it.
        messages: mpsc::Receiver<EncoderToAgentMsg>,
    },
}

impl Control {
    /// The next message; `None`: the encoder says no more. Cancel-safe.
    ///
    /// # Errors
    /// As [`MsgReader::next`].
    pub async fn next(&mut self) -> Result<Option<EncoderToAgentMsg>, WireError> {
        match self {
            Self::Quic { reader, .. } => reader.next().await,
            Self::Tcp { connection, messages } => match messages.recv().await {
                Some(message) => Ok(Some(message)),
                None => match connection.ended() {
                    None | Some(WireError::Ended) => Ok(None),
                    Some(error) => Err(error),
                },
            },
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// As [`write_msg`].
    pub async fn say(&mut self, message: &AgentToEncoderMsg) -> Result<(), WireError> {
        match self {
            Self::Quic { send, .. } => write_msg(send, message, MAX_CONTROL_BYTES).await,
            Self::Tcp { connection, .. } => connection.say(message),
        }
    }

    /// Ends what this side says, and waits until the encoder has it.
    pub(super) async fn finish(self) {
        match self {
            Self::Quic { mut send, .. } => {
                // Errors say that nobody is there to hear it.
                let _ = send.finish();
                let _ = send.stopped().await;
            }
            Self::Tcp { connection, .. } => connection.finish().await,
        }
    }
}

impl Session {
    pub(super) fn new(connected: Connected, welcome: Welcome, OnWire { in_flight, patches }: OnWire) -> Self {
        let in_flight = if patches && welcome.patch.is_some() { 1 } else { in_flight };
        let most = u32::from(in_flight.min(welcome.limits.max_in_flight).max(1));
        let slots = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner {
            connected,
            welcome,
            slots,
            most,
            start: Instant::now(),
            clocks: Mutex::default(),
            ended: OnceLock::new(),
        }))
    }

    /// The encoder's address as configured.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.connected.server
    }

    /// What was agreed.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.0.welcome
    }

    /// The connection itself.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.0.connected.connection
    }

    /// To the encoder and back: as QUIC measures it, or the last ping over TCP.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        match self.connection() {
            Connection::Quic(connection) => connection.rtt(),
            Connection::Tcp(connection) => connection.round_trip(),
        }
    }

    /// A ping that left at `sent` was answered at `received`.
    pub(super) fn heard(&self, pong: &Pong, (sent, received): (Instant, Instant)) {
        if let Connection::Tcp(connection) = self.connection() {
            connection.took(received - sent);
        }
        let theirs = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        let exchange = Exchange {
            sent: self.ours(sent),
            arrived: theirs(pong.received_us),
            left: theirs(pong.sent_us),
            received: self.ours(received),
        };
        if !self.clocks().heard(&exchange) {
            tracing::warn!("the clock of {} was set: one-way times start anew", self.server());
        }
        self.learn(pong.sent_us);
    }

    /// The encoder's clock can be believed, whose certificate was good: it is this late at least.
    fn learn(&self, theirs_us: u64) {
        let Some(floor) = self.0.connected.floor.clone() else { return };
        let Ok(theirs) = Timestamp::from_microsecond(i64::try_from(theirs_us).unwrap_or(i64::MAX)) else {
            return;
        };
        if floor.trust(theirs) {
            // A memory card may take its time.
            tokio::task::spawn_blocking(move || floor.keep());
        }
    }

    /// How long an answer was on its way back that left at `left_us` by the encoder's clock and came at `received`, when
    /// both ways took `both`; `None` before the first ping was answered.
    pub(super) fn way_back(&self, left_us: u64, received: Instant, both: Duration) -> Option<OneWay> {
        let received = self.ours(received);
        let range = self.clocks().at(received)?;
        Some(way_back(range, i64::try_from(left_us).unwrap_or(i64::MAX), received, both))
    }

    /// Microseconds since the session began.
    fn ours(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.0.start).as_micros()).unwrap_or(i64::MAX)
    }

    fn clocks(&self) -> MutexGuard<'_, Bounds> {
        self.0.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection is gone.
    pub(super) async fn closed(&self) {
        match self.connection() {
            Connection::Quic(connection) => drop(connection.closed().await),
            Connection::Tcp(connection) => connection.closed().await,
        }
    }

    /// What tells it from other sessions.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::of(&self.0)
    }

    /// Waits for a place among the frames in flight.
    pub async fn slot(&self) -> OwnedSemaphorePermit {
        let slots = Arc::clone(&self.0.slots);
        slots.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Waits until no frame is in flight.
    pub async fn drained(&self) {
        let all = self.0.slots.acquire_many(self.0.most).await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// Closes the connection; frames still in flight are dropped with `words`.
    pub fn end(&self, code: u32, words: &str) {
        // The first reason is the true one.
        let _ = self.0.ended.set(words.to_owned());
        match self.connection() {
            Connection::Quic(connection) => connection.close(VarInt::from_u32(code), words.as_bytes()),
            Connection::Tcp(connection) => connection.close(),
        }
    }

    /// Waits until the encoder's certificate has expired, then closes the connection; why, in words.
    pub(super) async fn expired(&self) -> Failure {
        let Connected { server, identity, encoder, clock, .. } = &self.0.connected;
        tls::expired(encoder.not_after, &**clock).await;
        let failure = diagnosed(tls::diagnose_expired(encoder, &context(identity, server, &**clock)));
        self.end(close::EXPIRED, &failure.words);
        failure
    }

    /// Why the connection is gone, in words; `None`: it is not.
    #[must_use]
    pub fn why_lost(&self) -> Option<Failure> {
        let failure = self.0.connected.failure()?;
        Some(self.0.ended.get().map_or(failure, |words| soon(words.clone())))
    }

    /// What an error on a frame's stream means for the frame.
    #[must_use]
    pub fn dropped_by(&self, error: WireError) -> Dropped {
        match self.why_lost() {
            Some(failure) => Dropped::LinkLost(failure.words),
            None => Dropped::BadReply(error.to_string()),
        }
    }
}

/// What is known besides an error when it is explained.
pub(super) fn context<'a>(identity: &'a Identity, peer: &'a str, clock: &dyn TimeProvider) -> Context<'a> {
    Context { identity, peer, now: tls::now(clock) }
}
