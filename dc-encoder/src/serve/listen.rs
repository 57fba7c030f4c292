//! The QUIC endpoint and its limits.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use shared::tls::ServerTls;

use super::{Config, ServeError, config};

/// Least that a connection may have received and unread; with longer frames, one longest frame. More waits on
/// the agent's side. 1 MiB is what a link of 80 Mbit/s and 100 ms holds.
const MIN_RECEIVE_WINDOW_BYTES: u32 = 1 << 20;

/// First packets that nobody has looked at yet: all cameras that a large server has, at once.
const MAX_INCOMING: usize = 4096;

/// What such a client may have sent meanwhile: a greeting of some packets.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// Releases that one agent may fetch at one time.
const FETCHES: u32 = 2;

/// Binds the endpoint.
pub(super) fn listen(config: &Config, tls: &ServerTls) -> Result<Endpoint, ServeError> {
    // The control stream; frames in flight and fetches; and as many again that are answered or withdrawn, whose end
    // has not reached both sides.
    let streams = 1 + 2 * (u32::from(config.limits.max_in_flight) + FETCHES);
    let mut server = tls.server_config(streams)?;
    server.transport_config(Arc::new(transport(config, streams)?));
    server.max_incoming(MAX_INCOMING).incoming_buffer_size(INCOMING_BUFFER_BYTES);
    let failed = |why| bind_error(config.listen, why);
    let socket = UdpSocket::bind(config.listen).map_err(failed)?;
    Endpoint::new(tls.endpoint_config(), Some(server), socket, Arc::new(TokioRuntime)).map_err(failed)
}

fn transport(config: &Config, streams: u32) -> Result<TransportConfig, ServeError> {
    let idle = IdleTimeout::try_from(config.timeouts.idle).map_err(|_| config::Invalid {
        key: "timeouts.idle",
        value: humantime::format_duration(config.timeouts.idle).to_string(),
        why: "is beyond what QUIC can say".to_owned(),
    })?;
    let window = VarInt::from_u32(config.max_frame_bytes().max(MIN_RECEIVE_WINDOW_BYTES));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(window)
        .receive_window(window)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.timeouts.keep_alive));
    Ok(transport)
}

pub(super) fn bind_error(address: SocketAddr, why: std::io::Error) -> ServeError {
    ServeError::Bind { address, protocol: "UDP", why }
}
