//! An operator's connection to a server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{OperatorReplyMsg, OperatorRequestMsg, StreamKind, close};
use quinn::{Connection, Endpoint, VarInt};
use shared::tls::{self, Identity, client_config, diagnose, explain, now, system_time};
use shared::wire::{WireError, expect_msg, write_msg};
use tokio::time::timeout;

use super::OperateError;

/// Three lost first packets; then the next address deserves its turn.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A large release on a thin link, or a server whose disk is slow: it is still alive then, or QUIC notices.
const REPLY_WITHIN: Duration = Duration::from_secs(60);
/// One round trip on a bad link.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection as an operator.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    connection: Connection,
    identity: Identity,
    /// As it was named.
    server: String,
}

impl Client {
    /// Connects to `HOST:PORT`; `cert` is the folder with `ca.pem`, `cert.pem` and `key.pem` of an operator.
    ///
    /// # Errors
    /// [`OperateError::Connect`] in plain words.
    pub async fn connect(server: &str, cert: &Path) -> Result<Self, OperateError> {
        let words = OperateError::Connect;
        let identity = Identity::load(cert).map_err(|error| words(format!("--cert: {error}")))?;
        let config = client_config(&identity, None).map_err(|error| words(error.to_string()))?;
        let (host, _) = server
            .rsplit_once(':')
            .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            .ok_or_else(|| words(format!("{server:?} is no HOST:PORT, such as encoder.example:4433")))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = tokio::net::lookup_host(server).await;
        let addresses = addresses.map_err(|error| words(format!("no address for {host}: {error}")))?;
        // Machines without IPv6 have no such socket.
        let endpoint = Endpoint::client(SocketAddr::from(([0_u16; 8], 0)))
            .or_else(|_| Endpoint::client(SocketAddr::from(([0_u8; 4], 0))))
            .map_err(|error| words(format!("cannot open a UDP socket: {error}")))?;
        let about = about(&identity, server);
        let mut last = format!("{host} has no address");
        for address in addresses {
            let connecting = match endpoint.connect_with(config.clone(), address, host) {
                Ok(connecting) => connecting,
                Err(error) => return Err(words(explain(&error, &about))),
            };
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(connection)) => {
                    return Ok(Self { endpoint, connection, identity, server: server.to_owned() });
                }
                Ok(Err(error)) => last = explain(&error, &about),
                Err(_) => {
                    last = format!(
                        "no answer from {server} ({address}): check that the server runs and UDP passes"
                    );
                }
            }
        }
        Err(words(last))
    }

    /// The connection itself.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a request, `bytes` after it, and reads the replies to their end.
    ///
    /// # Errors
    /// [`OperateError`].
    pub(super) async fn ask(
        &self,
        request: &OperatorRequestMsg,
        bytes: &[u8],
    ) -> Result<Vec<OperatorReplyMsg>, OperateError> {
        self.exchange(request, bytes).await.map_err(|error| self.explained(error))
    }

    /// A server looks at the certificate after the handshake seems done here, and again whenever the list of revoked
    /// ones or the clock goes on: what it says then is why the stream broke.
    fn explained(&self, error: OperateError) -> OperateError {
        let reason = self.connection.close_reason().filter(|_| matches!(error, OperateError::Wire(_)));
        let why = reason.map(|reason| diagnose(&reason, &about(&self.identity, &self.server)));
        match why.filter(|why| !why.cause.is_transient()) {
            Some(why) => OperateError::Connect(why.to_string()),
            None => error,
        }
    }

    async fn exchange(
        &self,
        request: &OperatorRequestMsg,
        bytes: &[u8],
    ) -> Result<Vec<OperatorReplyMsg>, OperateError> {
        let (mut send, mut recv) = self.connection.open_bi().await.map_err(WireError::from)?;
        send.write_all(&[StreamKind::Operator as u8]).await.map_err(WireError::from)?;
        write_msg(&mut send, request, MAX_CONTROL_BYTES).await?;
        match send.write_all(bytes).await.map_err(WireError::from) {
            // It knows enough: the reply says what.
            Ok(()) | Err(WireError::Stopped { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = send.finish();
        let mut replies = Vec::new();
        loop {
            let reply = timeout(REPLY_WITHIN, expect_msg(&mut recv, MAX_CONTROL_BYTES)).await;
            let silent = |_| OperateError::Connect(format!("the server said nothing for {REPLY_WITHIN:?}"));
            let reply = reply.map_err(silent)??;
            let ends = matches!(reply, OperatorReplyMsg::Done { .. } | OperatorReplyMsg::Refused { .. });
            replies.push(reply);
            if ends {
                return Ok(replies);
            }
        }
    }

    /// Says goodbye and waits a little until that is sent.
    pub(super) async fn close(self) {
        self.connection.close(VarInt::from_u32(close::OK), b"");
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

/// What is known besides an error when it is explained.
fn about<'a>(identity: &'a Identity, server: &'a str) -> tls::Context<'a> {
    tls::Context { identity, peer: server, now: now(&*system_time()) }
}
