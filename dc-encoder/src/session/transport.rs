//! What a session needs of the connection beneath it, so that the rules are the same over QUIC and TCP.
//!
//! ```text
//! Session ─ next ─► Said: a control message │ Began: a stream (QUIC), a frame (TCP) ─ serve ─► reply
//!    └───── say ──► control message to the agent
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::{AgentToEncoderMsg, EncoderToAgentMsg};
use quinn::{Connection, VarInt};
use shared::wire::WireError;
use tokio::sync::mpsc;

use super::frame::{self, Malformed};
use super::{Context, End};
use crate::ledger::Account;
use crate::serve::metrics::Metrics;

/// What comes from an agent.
pub(super) enum Step<W> {
    /// A control message; `None`: it will not say more.
    Said(Result<Option<Box<AgentToEncoderMsg>>, WireError>),
    /// Something that is served beside all else.
    Began(W),
}

/// A connection with an agent that was admitted.
pub(super) trait Transport: Send + 'static {
    /// What an agent begins besides control messages.
    type Work: Send;
    /// Whether releases can be fetched over it. Where not, none are pushed.
    const FETCHES: bool;

    /// What comes next. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Step<Self::Work>, End>> + Send;

    /// Serves what was begun. `draining`: it came after the server began to drain.
    fn serve(
        &self,
        work: Self::Work,
        shared: Arc<frame::Shared>,
        draining: bool,
    ) -> impl Future<Output = Result<(), Malformed>> + Send + 'static + use<Self>;

    /// Writes a control message; an agent that does not read it in time has lost its session.
    fn say(
        &mut self,
        message: &EncoderToAgentMsg,
        context: &Context,
    ) -> impl Future<Output = Result<(), End>> + Send;

    /// Where the agent is now.
    fn address(&self) -> SocketAddr;

    /// Counts what the connection did since it was last looked at; `true`: something came from the agent.
    fn look(&mut self, metrics: &Metrics, account: &Account) -> bool;
}

/// Who holds a camera: where it is, and how it is told to go.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Its connection, which may move.
    Quic(Connection),
    /// Its address, and where its session waits to be ended.
    Tcp(SocketAddr, mpsc::Sender<End>),
}

impl Peer {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tcp(address, _) => *address,
        }
    }

    /// Ends its session with a code of [`protocol::close`] and words.
    pub(super) fn close(&self, code: u32, why: &str) {
        match self {
            Self::Quic(connection) => connection.close(VarInt::from_u32(code), why.as_bytes()),
            // There is room for one end, and one is enough.
            Self::Tcp(_, end) => drop(end.try_send(End::new(code, why))),
        }
    }
}
