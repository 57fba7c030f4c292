//! One request to the server, over a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use protocol::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Grant, Message, close};
use quinn::{ClientConfig, ConnectionError, Endpoint, VarInt};
use shared::wire::{WireError, expect_msg, write_msg};
use tokio::time::timeout;

use crate::config::ServerAddr;

/// For each address of the server: three lost first packets, and a retry.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From the request to the reply: the server signs, and writes to its disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 4;
/// One round trip on a bad link.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server said no.
    #[error("{code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// Its code.
        code: EnrollCode,
        /// Its words.
        message: String,
    },
    /// The name has no address.
    #[error("its address cannot be found ({0}): check the spelling, and this machine's name server")]
    Address(String),
    /// Nobody answered.
    #[error(
        "no answer for {} s: check that `dc-encoder serve --enroll` runs there, and that no firewall drops UDP",
        CONNECT_WITHIN.as_secs()
    )]
    Silent,
    /// The handshake or the connection failed.
    #[error("{0}")]
    Connection(ConnectionError),
    /// The handshake failed, and we know why.
    #[error("{0}")]
    Handshake(String),
    /// What came was no reply.
    #[error("it did not answer as a server of enrolment: {0}")]
    Broken(String),
    /// This machine.
    #[error("{0}")]
    Local(String),
}

impl AskError {
    /// The better words for a failed handshake, where there are some.
    pub(super) fn or_rather(self, why: Option<String>) -> Self {
        match (self, why) {
            (Self::Connection(ConnectionError::TransportError(_)), Some(why)) => Self::Handshake(why),
            (other, _) => other,
        }
    }
}

impl From<WireError> for AskError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Lost(error) => Self::Connection(error),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// Connects, asks, and reads the reply.
pub(super) async fn ask(
    server: &ServerAddr,
    config: &ClientConfig,
    request: &EnrollRequestMsg,
) -> Result<Grant, AskError> {
    let addresses = timeout(CONNECT_WITHIN, tokio::net::lookup_host((server.host.as_str(), server.port)))
        .await
        .map_err(|_| AskError::Address("the name server did not answer".to_owned()))?
        .map_err(|error| AskError::Address(error.to_string()))?;
    let mut last = AskError::Address("it has none".to_owned());
    for address in addresses.take(MOST_ADDRESSES) {
        match ask_at(address, server, config, request).await {
            Ok(grant) => return Ok(grant),
            // Another address of the name may lead somewhere; an answer is an answer.
            Err(silent @ (AskError::Silent | AskError::Local(_))) => last = silent,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn ask_at(
    address: SocketAddr,
    server: &ServerAddr,
    config: &ClientConfig,
    request: &EnrollRequestMsg,
) -> Result<Grant, AskError> {
    let local = |error: &dyn std::fmt::Display| AskError::Local(error.to_string());
    let any: SocketAddr = if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
    let endpoint = Endpoint::client(any).map_err(|error| local(&error))?;
    let connecting =
        endpoint.connect_with(config.clone(), address, &server.host).map_err(|error| local(&error))?;
    let connection = match timeout(CONNECT_WITHIN, connecting).await {
        Ok(connected) => connected.map_err(AskError::Connection)?,
        Err(_) => return Err(AskError::Silent),
    };
    let exchange = async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(AskError::Connection)?;
        write_msg(&mut send, request, EnrollRequestMsg::MAX_BYTES).await?;
        // Fails only for a stream that is closed already.
        let _ = send.finish();
        Ok(expect_msg::<EnrollReplyMsg>(&mut recv, EnrollReplyMsg::MAX_BYTES).await?)
    };
    let reply = timeout(ANSWER_WITHIN, exchange).await.unwrap_or_else(|_| {
        Err(AskError::Broken(format!("nothing came within {} s", ANSWER_WITHIN.as_secs())))
    });
    connection.close(VarInt::from_u32(close::OK), b"");
    let _ = timeout(FAREWELL_WITHIN, endpoint.wait_idle()).await;
    match reply? {
        EnrollReplyMsg::Granted(grant) => Ok(grant),
        EnrollReplyMsg::Refused { code, message } => {
            Err(AskError::Refused { code, message: protocol::limits::clip(&message) })
        }
    }
}
