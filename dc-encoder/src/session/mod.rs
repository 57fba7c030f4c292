//! One agent's connection, from handshake to farewell.
//!
//! ```text
//! connection ─► greet: certificate, Hello ─► admit ─► Welcome ─► control: Ping, Goodbye
//!               │        └──── Refused ◄───────┘      Wanted ◄─┘  └─ frame (one task each) ─► pipeline
//!               │                                                 └─ fetch ◄─ registry
//!               └─ operator: one request a stream ─► registry
//! ```
//! A session task owns its connection, its control stream and its frame tasks; when it ends, they end, and
//! frames that still wait are cancelled. Nothing an agent sends reaches beyond its own session.
//!
//! States: greeting → serving → (draining: running frames are answered, new ones dropped) → closed with one of
//! the codes in [`protocol::close`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use protocol::{EncoderToAgentMsg, Welcome, close, limits};
use quinn::{Connection, ConnectionError, SendStream, VarInt};
use rustls::time_provider::TimeProvider;
use shared::tls::{self, Identity, Revocations};
use shared::wire::{WireError, write_msg};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::archive::Tap;
use crate::backend::BackendInfo;
use crate::batch::Pipeline;
use crate::ledger::Ledger;
use crate::registry::{Registrar, RegistryError};
use crate::serve::Handshakes;
use crate::serve::config::Timeouts;
use crate::serve::metrics::Metrics;

pub mod admit;
mod claim;
mod control;
mod devices;
mod fetch;
mod frame;
mod greet;
mod live;
mod memory;
mod operator;
mod quic;
pub mod rates;
mod reply;
mod stream;
pub(crate) mod tcp;
mod transport;

pub(crate) use devices::Devices;
pub(crate) use live::Live;

use greet::Visitor;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Context {
    /// What an accepted agent is told: space, model, input, limits.
    pub(crate) welcome: Welcome,
    pub(crate) backend: BackendInfo,
    pub(crate) timeouts: Timeouts,
    pub(crate) pipeline: Arc<Pipeline>,
    /// Memory for received JPEGs of all sessions together, in KiB.
    pub(crate) memory: Arc<Semaphore>,
    /// Frames of all sessions between their header and their reply.
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) handshakes: Handshakes,
    pub(crate) devices: Devices,
    /// Frames in a turn of the queue, of cameras that have more than one.
    pub(crate) weights: BTreeMap<String, u16>,
    pub(crate) live: Live,
    /// What cameras should run. `None`: this server has no registry.
    pub(crate) registrar: Option<Arc<Registrar>>,
    pub(crate) revocations: Revocations,
    /// The server's own, to explain what becomes of connections.
    pub(crate) identity: Identity,
    /// What certificates are held against.
    pub(crate) clock: Arc<dyn TimeProvider>,
    /// Turns true when the server drains.
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Arc<Ledger>,
    /// Keeps samples of frames. `None`: this server has no archive.
    pub(crate) archive: Option<Tap>,
}

/// Why a session ends: the close code, and the words for the agent and for our log.
#[derive(Debug)]
struct End {
    code: u32,
    message: String,
}

impl Context {
    /// The registry, where there is one.
    fn registrar(&self) -> Result<&Registrar, RegistryError> {
        self.registrar.as_deref().ok_or(RegistryError::None)
    }

    /// For words about the connection of this peer.
    pub(crate) fn about<'a>(&'a self, peer: &'a str) -> tls::Context<'a> {
        tls::Context { identity: &self.identity, peer, now: tls::now(&*self.clock) }
    }
}

impl End {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new(close::MALFORMED, message)
    }

    /// A stream failed that the session cannot do without: the agent broke the protocol, or is gone.
    fn of_stream(error: &WireError) -> Self {
        let code = if error.is_connection_gone() { close::OK } else { close::MALFORMED };
        Self::new(code, error.to_string())
    }

    /// The connection is gone: closing it is a formality.
    fn lost(error: ConnectionError) -> Self {
        Self::of_stream(&error.into())
    }
}

/// Serves a connection until it ends.
pub(crate) async fn run(connection: Connection, context: Arc<Context>) {
    let peer = connection.remote_address();
    let end = match greet::greet(&connection, &context).await {
        Ok(Visitor::Agent(session)) => {
            tracing::info!(camera = %session.hello.camera, agent = %session.hello.agent, %peer, "connected");
            let (camera, frames) = (session.hello.camera.clone(), session.frames());
            let end = session.serve().await;
            tracing::info!(%camera, %peer, "disconnected: {}; {frames}", end.message);
            end
        }
        Ok(Visitor::Operator(operator, first)) => {
            let name = operator.name().to_owned();
            tracing::info!(operator = name, %peer, "an operator's connection");
            let end = operator.serve(first).await;
            tracing::info!(operator = name, %peer, "disconnected: {}", end.message);
            end
        }
        Err(end) => {
            tracing::warn!(%peer, "turned away: {}", end.message);
            end
        }
    };
    connection.close(VarInt::from_u32(end.code), limits::clip(&end.message).as_bytes());
}

/// Writes a control message; an agent that does not read it in time has lost its session.
async fn write_control(
    send: &mut SendStream,
    message: &EncoderToAgentMsg,
    context: &Context,
) -> Result<(), End> {
    match timeout(context.timeouts.reply, write_msg(send, message, limits::MAX_CONTROL_BYTES)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::of_stream(&error)),
        Err(_) => Err(End::malformed("the agent does not read its control stream")),
    }
}

/// This machine's clock, in microseconds since the Unix epoch; 0 if it is set before that.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
