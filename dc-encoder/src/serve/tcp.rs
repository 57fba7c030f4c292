//! TLS over TCP, beside the QUIC endpoint: listening and handshakes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::tls::ServerTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::door::UnderWay;
use super::metrics::NoHandshake;
use super::{Config, LAST_WORDS, ServeError, log_failure};
use crate::session::Context;

/// How long no TCP connection is accepted after one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Listens for TLS over TCP.
pub(super) struct Tcp {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tcp {
    /// Listens, if the configuration says where. Within a tokio runtime.
    pub(super) fn listen(config: &Config, tls: &ServerTls) -> Result<Option<Self>, ServeError> {
        let Some(address) = config.tcp else { return Ok(None) };
        let failed = |why| ServeError::Bind { address, protocol: "TCP", why };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls.tcp_config()?));
        Ok(Some(Self { listener, acceptor }))
    }

    /// The bound address.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, and what its handshake is made with. Cancel-safe.
    async fn accept(&self) -> std::io::Result<Accepted> {
        let (stream, peer) = self.listener.accept().await?;
        // A small reply is not to wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok((stream, peer, self.acceptor.clone()))
    }
}

/// A connection, where it comes from, and what its handshake is made with.
pub(super) type Accepted = (TcpStream, SocketAddr, TlsAcceptor);

/// The next connection over TCP; for ever without a listener.
pub(super) async fn accept(tcp: Option<&Tcp>) -> Accepted {
    let Some(tcp) = tcp else { return std::future::pending().await };
    loop {
        match tcp.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!("cannot accept a TCP connection: {error}");
                // Out of file descriptors, most likely: some are given back in a while.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Makes the handshake, and serves what comes of it.
pub(super) async fn handshake(
    (stream, peer, acceptor): Accepted,
    context: Arc<Context>,
    under_way: UnderWay,
) {
    let handshake = timeout(context.timeouts.handshake, acceptor.accept(stream).into_fallible());
    match handshake.await {
        Ok(Ok(stream)) => {
            drop(under_way);
            crate::session::tcp::run(stream, peer, context).await;
        }
        Ok(Err((error, mut stream))) => {
            match shared::tls::tls_error(&error) {
                Some(tls) => log_failure(tls, peer, &context),
                None => {
                    context.metrics.no_handshake(NoHandshake::Failed);
                    tracing::warn!(%peer, "no connection: {error}");
                }
            }
            // What the agent has sent meanwhile is read, or closing would take the alert from it.
            let _ = stream.shutdown().await;
            let mut rest = vec![0; 4096];
            let _ = timeout(LAST_WORDS, async { while let Ok(1..) = stream.read(&mut rest).await {} }).await;
        }
        Err(_) => {
            context.metrics.no_handshake(NoHandshake::Timeout);
            tracing::warn!(%peer, "the handshake took too long");
        }
    }
}
