//! A session over QUIC: a control stream, and one stream for each frame and fetch.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::EncoderToAgentMsg;
use quinn::{Connection, ConnectionStats, RecvStream, SendStream};
use shared::wire::MsgReader;

use super::frame::{self, Malformed};
use super::transport::{Step, Transport};
use super::{Context, End, stream, write_control};
use crate::ledger::Account;
use crate::serve::metrics::Metrics;

/// A connection whose control stream was greeted on.
#[derive(Debug)]
pub(super) struct Quic {
    connection: Connection,
    send: SendStream,
    reader: MsgReader,
    /// What the connection had moved when it was last looked at.
    moved: ConnectionStats,
    /// Where the agent was then.
    address: SocketAddr,
}

impl Quic {
    pub(super) fn new(connection: &Connection, send: SendStream, reader: MsgReader) -> Self {
        let (connection, address) = (connection.clone(), connection.remote_address());
        Self { connection, send, reader, moved: ConnectionStats::default(), address }
    }
}

impl Transport for Quic {
    type Work = (SendStream, RecvStream);
    const FETCHES: bool = true;

    async fn next(&mut self) -> Result<Step<Self::Work>, End> {
        tokio::select! {
            message = self.reader.next() => Ok(Step::Said(message.map(|message| message.map(Box::new)))),
            stream = self.connection.accept_bi() => stream.map(Step::Began).map_err(End::lost),
        }
    }

    fn serve(
        &self,
        (send, recv): Self::Work,
        shared: Arc<frame::Shared>,
        draining: bool,
    ) -> impl Future<Output = Result<(), Malformed>> + Send + 'static + use<> {
        stream::serve(send, recv, shared, draining)
    }

    async fn say(&mut self, message: &EncoderToAgentMsg, context: &Context) -> Result<(), End> {
        write_control(&mut self.send, message, context).await
    }

    fn address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Any datagram is a sign of life, an acknowledgement of a keep-alive too. A new address is one that was validated
    /// (RFC 9000, section 9): the session goes on there, with the frames that are under way.
    fn look(&mut self, metrics: &Metrics, account: &Account) -> bool {
        let now = self.connection.stats();
        let address = self.connection.remote_address();
        if address != self.address {
            tracing::info!(from = %self.address, to = %address, "the agent moved");
            metrics.migrated();
            self.address = address;
        }
        let heard = now.udp_rx.datagrams != self.moved.udp_rx.datagrams;
        let (received, sent) = metrics.moved(&self.moved, &now);
        account.moved(received, sent);
        self.moved = now;
        heard
    }
}
