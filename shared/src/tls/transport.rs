//! QUIC transport settings, the same promises on both sides.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{ConnectionId, ConnectionIdGenerator, IdleTimeout, TransportConfig, VarInt};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A quiet link is probed this often: two lost probes still leave the connection alive, and carriers' NAT
/// tables (30 s and more) keep the port open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A peer that has said nothing for this long is gone; five probes were lost.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A round trip before one was measured: a first packet without an answer is sent again after three of these. RFC 9002 §6.2.2
/// suggests 333 ms for paths that nobody knows; encoders are nearer, and one that was restarted is to be found again soon.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(150);

/// How much of one stream may be under way before the receiver reads: a 4K JPEG of good quality, or half of
/// the largest token grid, crosses without waiting a round trip for credit.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;

/// How much of all streams together a peer can make us hold: the bound on memory a connection can claim.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// How much we keep for retransmission: no more than the peer would take.
const SEND_WINDOW: u64 = CONNECTION_WINDOW as u64;

/// Between two stateless resets: a thousand cameras that all speak at once, several packets each, are told within a second
/// that their server was restarted (with 1 ms it took three), and strangers' packets are worth no more than a few hundredths
/// of a core.
pub(super) const RESET_INTERVAL: Duration = Duration::from_micros(200);

/// Connection IDs that nothing can be told from. A server answers unknown ones with a reset, also those
/// that it gave out before it was started again; usual ones carry a mark of the process that made them.
#[derive(Debug)]
pub(super) struct RandomIds;

/// Bytes of an ID: no two connections get the same by chance.
const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; ID_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("TLS has no keys either where the system gives no randomness");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The encoder's side: agents may have `max_streams` bidirectional streams open (the control stream and one
/// per frame in flight), nothing else.
pub(super) fn server(max_streams: u32) -> Arc<TransportConfig> {
    Arc::new(common(max_streams))
}

/// The agent's side: the encoder opens no streams at all.
pub fn client_transport(congestion: Congestion) -> Arc<TransportConfig> {
    let mut transport = common(0);
    transport.initial_rtt(INITIAL_ROUND_TRIP);
    match congestion {
        Congestion::Cubic => transport.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    Arc::new(transport)
}

/// How fast an agent sends on a link that it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Congestion {
    /// CUBIC (RFC 9438): a lost packet is a full queue, and halves the rate or nearly.
    #[default]
    Cubic,
    /// BBR (draft-cardwell-iccrg-bbr-congestion-control-00): follows the rate at which packets arrive, whatever is lost.
    Bbr,
}

/// `cubic` or `bbr`: what a configuration file says, and Linux.
impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        })
    }
}

impl FromStr for Congestion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cubic" => Ok(Self::Cubic),
            "bbr" => Ok(Self::Bbr),
            _ => Err("use cubic or bbr"),
        }
    }
}

fn common(bidirectional: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_TIMEOUT).expect("ten seconds fit in 2^62 milliseconds"),
        ))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_bidi_streams(VarInt::from_u32(bidirectional))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}
