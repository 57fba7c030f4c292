//! One connection to one encoder, and what was agreed on it.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use protocol::{Welcome, close};
use quinn::{ConnectionError, SendStream, VarInt};
use rustls::time_provider::TimeProvider;
use shared::tls::{self, Context, Identity, PeerIdentity};
use shared::wire::{MsgReader, WireError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{Failure, diagnosed, soon};
use crate::ledger::Dropped;

/// A connection with a [`Welcome`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

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
    pub(super) connection: quinn::Connection,
    /// The agent's own.
    pub(super) identity: Identity,
    /// What the encoder's certificate says.
    pub(super) encoder: PeerIdentity,
    /// What certificates are held against.
    pub(super) clock: Arc<dyn TimeProvider>,
}

impl Connected {
    /// Why the connection failed or ended, in words.
    pub(super) fn diagnosed(&self, error: &ConnectionError) -> Failure {
        diagnosed(tls::diagnose(error, &context(&self.identity, &self.server, &*self.clock)))
    }
}

#[derive(Debug)]
struct Inner {
    connected: Connected,
    welcome: Welcome,
    slots: Arc<Semaphore>,
    most: u32,
    /// Why this side ended it.
    ended: OnceLock<String>,
}

/// Both directions of the control stream.
#[derive(Debug)]
pub struct Control {
    /// Pings and farewell.
    pub send: SendStream,
    /// Pongs and farewell.
    pub reader: MsgReader,
}

impl Session {
    pub(super) fn new(connected: Connected, welcome: Welcome, OnWire { in_flight, patches }: OnWire) -> Self {
        let in_flight = if patches && welcome.patch.is_some() { 1 } else { in_flight };
        let most = u32::from(in_flight.min(welcome.limits.max_in_flight).max(1));
        let slots = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner { connected, welcome, slots, most, ended: OnceLock::new() }))
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
    pub fn connection(&self) -> &quinn::Connection {
        &self.0.connected.connection
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
        self.connection().close(VarInt::from_u32(code), words.as_bytes());
    }

    /// Waits until the encoder's certificate has expired, then closes the connection; why, in words.
    pub(super) async fn expired(&self) -> Failure {
        let Connected { server, identity, encoder, clock, .. } = &self.0.connected;
        tls::expired(encoder.not_after, &**clock).await;
        let failure = diagnosed(tls::diagnose_expired(encoder, &context(identity, server, &**clock)));
        self.end(close::EXPIRED, &failure.words);
        failure
    }

    /// Why the connection is gone, in words.
    #[must_use]
    pub fn why_lost(&self, error: &ConnectionError) -> Failure {
        match self.0.ended.get() {
            Some(words) => soon(words.clone()),
            None => self.0.connected.diagnosed(error),
        }
    }

    /// What an error on a frame's stream means for the frame.
    #[must_use]
    pub fn dropped_by(&self, error: WireError) -> Dropped {
        match self.connection().close_reason() {
            Some(reason) => Dropped::LinkLost(self.why_lost(&reason).words),
            None => Dropped::BadReply(error.to_string()),
        }
    }
}

/// What is known besides an error when it is explained.
pub(super) fn context<'a>(identity: &'a Identity, peer: &'a str, clock: &dyn TimeProvider) -> Context<'a> {
    Context { identity, peer, now: tls::now(clock) }
}
