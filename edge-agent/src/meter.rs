//! Where each answered frame's time went, told to whoever measures: `edge-agent latency` and the metrics.
//!
//! ```text
//! due ─ wait ─ capture ─ prepare ─ send ─ network ─ queue ─ decode ─ encode ─ reply ─ heads ─ sink ─► written
//! ```
//! The stages add up to the whole. Two of them are remainders: `network` of the exchange with the encoder, so that no
//! clocks need to agree, and `wait` of the time before it.

use std::time::{Duration, Instant};

use crate::sinks::Stages;
use crate::uplink::clocks::OneWay;

/// A part of a frame's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// For its turn: from when it was due until it was captured, and for a place on the wire; attempts that failed.
    Wait,
    /// See [`Stages::capture`].
    Capture,
    /// See [`Stages::prepare`].
    Prepare,
    /// See [`Stages::send`].
    Send,
    /// See [`Stages::network`].
    Network,
    /// See [`Stages::queue`].
    Queue,
    /// See [`Stages::decode`].
    Decode,
    /// See [`Stages::encode`].
    Encode,
    /// See [`Stages::reply`].
    Reply,
    /// See [`Stages::heads`].
    Heads,
    /// Until its lines were written.
    Sink,
}

impl Stage {
    /// All, in the order a frame passes them.
    pub const ALL: [Self; 11] = [
        Self::Wait,
        Self::Capture,
        Self::Prepare,
        Self::Send,
        Self::Network,
        Self::Queue,
        Self::Decode,
        Self::Encode,
        Self::Reply,
        Self::Heads,
        Self::Sink,
    ];

    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Capture => "capture",
            Self::Prepare => "prepare",
            Self::Send => "send",
            Self::Network => "network",
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Encode => "encode",
            Self::Reply => "reply",
            Self::Heads => "heads",
            Self::Sink => "sink",
        }
    }
}

/// An answered frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Number of the frame in this run, from 0; frames that were not answered have theirs.
    pub seq: u64,
    /// When capturing it should have begun.
    pub due: Instant,
    /// Its time by stage, in the order of [`Stage::ALL`].
    pub stages: [Duration; Stage::ALL.len()],
    /// The network's part of the way back; `None` before the clocks' offset was known.
    pub way_back: Option<OneWay>,
}

/// Times in the order of [`Stage::ALL`].
pub(crate) fn by_stage(wait: Duration, stages: &Stages, sink: Duration) -> [Duration; Stage::ALL.len()] {
    let Stages { capture, prepare, send, network, queue, decode, encode, reply, heads } = *stages;
    [wait, capture, prepare, send, network, queue, decode, encode, reply, heads, sink]
}

/// Is told of frames. Called on the thread that drives the connection: must be quick.
pub trait Meter: Send + Sync {
    /// A frame's JPEG of so many bytes is ready to be sent.
    fn prepared(&self, _bytes: usize) {}

    /// All lines of a frame are written.
    fn answered(&self, frame: &Measured);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_place_of_its_name() {
        let ms = Duration::from_millis;
        let stages =
            Stages { capture: ms(1), network: ms(5), encode: ms(40), heads: ms(2), ..Stages::default() };
        let times = by_stage(ms(3), &stages, ms(9));
        let named = |name| Stage::ALL.iter().position(|stage| stage.name() == name).map(|at| times[at]);
        let names = ["wait", "capture", "network", "encode", "heads", "sink"];
        assert_eq!(names.map(named), [3, 1, 5, 40, 2, 9].map(|time| Some(ms(time))));
        assert_eq!(times.iter().sum::<Duration>(), stages.sum() + ms(12));
    }
}
