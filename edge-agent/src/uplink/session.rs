//! One connection to one encoder, and what was agreed on it.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use protocol::Welcome;
use quinn::{ConnectionError, SendStream, VarInt};
use shared::tls::{self, Context, Identity};
use shared::wire::{MsgReader, WireError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{Failure, diagnosed, soon};
use crate::ledger::Dropped;

/// A connection with a [`Welcome`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: String,
    connection: quinn::Connection,
    identity: Identity,
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
    pub(super) fn new(
        server: String,
        connection: quinn::Connection,
        identity: Identity,
        welcome: Welcome,
        in_flight: u16,
    ) -> Self {
        let most = u32::from(in_flight.min(welcome.limits.max_in_flight).max(1));
        let slots = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner { server, connection, identity, welcome, slots, most, ended: OnceLock::new() }))
    }

    /// The encoder's address as configured.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// What was agreed.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.0.welcome
    }

    /// The connection itself.
    #[must_use]
    pub fn connection(&self) -> &quinn::Connection {
        &self.0.connection
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
        self.0.connection.close(VarInt::from_u32(code), words.as_bytes());
    }

    /// Why the connection is gone, in words.
    #[must_use]
    pub fn why_lost(&self, error: &ConnectionError) -> Failure {
        match self.0.ended.get() {
            Some(words) => soon(words.clone()),
            None => diagnosed(tls::diagnose(error, &context(&self.0.identity, &self.0.server))),
        }
    }

    /// What an error on a frame's stream means for the frame.
    #[must_use]
    pub fn dropped_by(&self, error: WireError) -> Dropped {
        match self.0.connection.close_reason() {
            Some(reason) => Dropped::LinkLost(self.why_lost(&reason).words),
            None => Dropped::BadReply(error.to_string()),
        }
    }
}

/// What is known besides an error when it is explained.
pub(super) fn context<'a>(identity: &'a Identity, peer: &'a str) -> Context<'a> {
    Context { identity, peer, now: Timestamp::now() }
}
