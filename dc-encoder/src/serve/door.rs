//! Who may begin a handshake: it costs processor time and memory before anybody is known. Pure: `now` comes
//! from outside.
//!
//! ```text
//! first packet ─► room? ─► address proven, or nobody else waits? ─► rate ─► handshake
//!                   └─ refused   └─ Retry: nothing is kept           └─ refused
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::config::Limits;
use super::metrics::NoHandshake;
use crate::session::rates::Bucket;

/// Connections beyond the sessions: agents that are greeted, refused or on their way out.
const SPARE_CONNECTIONS: usize = 64;

/// With this many handshakes under way, a client has to prove its address (QUIC Retry, RFC 9000 §8.1)
/// before state is kept for it.
const UNPROVEN_HANDSHAKES: usize = 32;

/// With less of this second's handshakes left, too: they are for those who receive at the address that they
/// claim.
const UNPROVEN_SHARE: f64 = 0.5;

/// Decides about first packets.
#[derive(Debug)]
pub(super) struct Door {
    max_connections: usize,
    max_handshakes: usize,
    /// `None`: any number a second.
    rate: Option<Bucket>,
}

/// A client's first packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// It has proven that it receives at its address.
    pub(super) proven: bool,
    /// Open connections of any kind.
    pub(super) open: usize,
    /// Those of them whose handshake is under way.
    pub(super) handshakes: usize,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The handshake begins.
    Begin,
    /// It has to prove its address first.
    Prove,
    /// It is refused.
    Refuse(NoHandshake),
}

/// Counts handshakes under way.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Arc<()>);

/// A handshake, counted until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    _counted: Arc<()>,
}

impl Handshakes {
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    pub(super) fn begin(&self) -> UnderWay {
        UnderWay { _counted: Arc::clone(&self.0) }
    }
}

impl Door {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let per_second = f64::from(limits.handshakes_per_second);
        Self {
            max_connections: limits.max_sessions.saturating_add(SPARE_CONNECTIONS),
            max_handshakes: limits.max_handshakes,
            rate: (per_second > 0.0).then(|| Bucket::new(per_second, 1.0, now)),
        }
    }

    pub(super) fn answer(&mut self, arrival: Arrival, now: Instant) -> Answer {
        let Arrival { proven, open, handshakes } = arrival;
        if open >= self.max_connections {
            return Answer::Refuse(NoHandshake::Limit);
        }
        let fits = self.rate.as_mut().is_none_or(|rate| rate.fits(1.0, now));
        let scarce = self.rate.as_ref().is_some_and(|rate| rate.fullness() < UNPROVEN_SHARE);
        if !proven && (handshakes >= UNPROVEN_HANDSHAKES || scarce) {
            return Answer::Prove;
        }
        if handshakes >= self.max_handshakes {
            return Answer::Refuse(NoHandshake::HalfOpen);
        }
        if !fits {
            return Answer::Refuse(NoHandshake::Rate);
        }
        self.rate.iter_mut().for_each(|rate| rate.take(1.0));
        Answer::Begin
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const IDLE: Arrival = Arrival { proven: false, open: 0, handshakes: 0 };

    fn door(now: Instant) -> Door {
        let limits =
            Limits { max_sessions: 100, max_handshakes: 50, handshakes_per_second: 10, ..Limits::default() };
        Door::new(&limits, now)
    }

    #[test]
    fn strangers_prove_their_address_when_many_are_at_the_door() {
        let now = Instant::now();
        let mut door = door(now);
        let crowd = Arrival { handshakes: UNPROVEN_HANDSHAKES, ..IDLE };
        assert_eq!(door.answer(IDLE, now), Answer::Begin);
        assert_eq!(door.answer(crowd, now), Answer::Prove);
        assert_eq!(door.answer(Arrival { proven: true, ..crowd }, now), Answer::Begin);
        let full = Arrival { proven: true, handshakes: 50, ..IDLE };
        assert_eq!(door.answer(full, now), Answer::Refuse(NoHandshake::HalfOpen));
        assert_eq!(door.answer(Arrival { open: 164, ..IDLE }, now), Answer::Refuse(NoHandshake::Limit));
    }

    #[test]
    fn strangers_get_half_of_a_seconds_handshakes_and_the_proven_all() {
        let now = Instant::now();
        let mut door = door(now);
        let begun = |door: &mut Door, arrival| {
            (0..100).filter(|_| door.answer(arrival, now) == Answer::Begin).count()
        };
        assert_eq!(begun(&mut door, IDLE), 6, "down to less than half");
        let proven = Arrival { proven: true, ..IDLE };
        assert_eq!(begun(&mut door, proven), 4);
        assert_eq!(door.answer(proven, now), Answer::Refuse(NoHandshake::Rate));
        assert_eq!(door.answer(proven, now + Duration::from_millis(101)), Answer::Begin);
    }
}
