//! Which encoder to try next, and when. Pure: time and randomness come from outside.

use std::time::{Duration, Instant};

use super::failure::{Failure, Heals};
use crate::capture::Backoff;

/// A restarted encoder is back within moments, and a thousand cameras asking every five seconds are two
/// hundred small packets a second.
const SOON: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };
/// A clock is set some seconds after boot; people take minutes.
const BY_PERSON: Backoff = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(60) };
/// Nothing but a change at the encoder helps; asking keeps the reason visible.
const NEVER: Backoff = Backoff { first: Duration::from_secs(60), max: Duration::from_secs(60) };

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try this one.
    Try(usize),
    /// None may be tried before then.
    Wait(Instant),
}

/// The encoders, in the order they are preferred.
#[derive(Debug)]
pub struct Candidates(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    not_before: Instant,
    failures: u32,
    failure: Option<Failure>,
}

impl Candidates {
    /// `count` encoders, all to be tried at once, the first first.
    #[must_use]
    pub fn new(count: usize, now: Instant) -> Self {
        Self((0..count).map(|_| Candidate { not_before: now, failures: 0, failure: None }).collect())
    }

    /// The most preferred encoder that may be tried now.
    #[must_use]
    pub fn next(&self, now: Instant) -> Next {
        let ready = self.0.iter().position(|candidate| candidate.not_before <= now);
        let soonest = self.0.iter().map(|candidate| candidate.not_before).min();
        ready.map_or_else(|| Next::Wait(soonest.unwrap_or(now)), Next::Try)
    }

    /// It greeted us. Its failures are not forgotten yet: a session that ends at once is one more.
    pub fn welcomed(&mut self, index: usize) {
        self.0[index].failure = None;
    }

    /// Its session lasted: earlier failures say nothing any more.
    pub fn lasted(&mut self, index: usize) {
        self.0[index].failures = 0;
    }

    /// It failed, or its session ended; `jitter` in `[0, 1)`. Returns failures in a row, this one included.
    pub fn failed(&mut self, index: usize, failure: Failure, now: Instant, jitter: f64) -> u32 {
        let candidate = &mut self.0[index];
        candidate.failures = candidate.failures.saturating_add(1);
        let backoff = match failure.heals {
            Heals::Soon => SOON,
            Heals::ByPerson => BY_PERSON,
            Heals::Never => NEVER,
        };
        candidate.not_before = now + backoff.wait(candidate.failures, jitter);
        candidate.failure = Some(failure);
        candidate.failures
    }

    /// It asked us to go: it is tried again when the others fail, not before it had time to stop.
    pub fn left(&mut self, index: usize, failure: Failure, now: Instant) {
        let candidate = &mut self.0[index];
        candidate.not_before = now + SOON.max;
        candidate.failure = Some(failure);
    }

    /// Whether every encoder refused for a reason that will not go away.
    #[must_use]
    pub fn hopeless(&self) -> bool {
        self.0.iter().all(|c| c.failure.as_ref().is_some_and(|failure| failure.heals == Heals::Never))
    }

    /// What is wrong with each encoder, in order.
    #[must_use]
    pub fn words(&self) -> String {
        let failures = self.0.iter().filter_map(|candidate| candidate.failure.as_ref());
        failures.map(|failure| failure.words.as_str()).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(heals: Heals) -> Failure {
        Failure::new(format!("{heals:?}"), heals)
    }

    #[test]
    fn all_are_tried_in_order_then_the_first_that_is_due() {
        let now = Instant::now();
        let mut encoders = Candidates::new(2, now);
        assert_eq!(encoders.next(now), Next::Try(0));
        encoders.failed(0, failure(Heals::Soon), now, 1.0);
        assert_eq!(encoders.next(now), Next::Try(1));
        encoders.failed(1, failure(Heals::Soon), now, 0.0);
        let (first, second) = (now + Duration::from_millis(200), now + Duration::from_millis(100));
        assert_eq!(encoders.next(now), Next::Wait(second));
        assert_eq!(encoders.next(second), Next::Try(1));
        assert_eq!(encoders.next(first), Next::Try(0));
    }

    #[test]
    fn waits_grow_until_a_session_lasts() {
        let now = Instant::now();
        let mut encoders = Candidates::new(1, now);
        let mut wait = |heals| {
            encoders.failed(0, failure(heals), now, 1.0);
            let Next::Wait(until) = encoders.next(now) else { panic!("due at once") };
            (until - now).as_millis()
        };
        let waits: Vec<_> = (0..7).map(|_| wait(Heals::Soon)).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wait(Heals::Never), 60_000);
        encoders.welcomed(0);
        encoders.lasted(0);
        encoders.failed(0, failure(Heals::Soon), now, 1.0);
        assert_eq!(encoders.next(now), Next::Wait(now + Duration::from_millis(200)));
    }

    #[test]
    fn an_encoder_that_drains_lets_the_others_go_first() {
        let now = Instant::now();
        let mut encoders = Candidates::new(2, now);
        encoders.left(0, failure(Heals::Soon), now);
        assert_eq!(encoders.next(now), Next::Try(1));
        encoders.failed(1, failure(Heals::Soon), now, 0.0);
        assert!(matches!(encoders.next(now), Next::Wait(until) if until < now + SOON.max));
    }

    #[test]
    fn hopeless_only_when_all_refuse_for_good() {
        let now = Instant::now();
        let mut encoders = Candidates::new(2, now);
        assert!(!encoders.hopeless());
        encoders.failed(0, failure(Heals::Never), now, 0.5);
        assert!(!encoders.hopeless(), "the second was not asked yet");
        encoders.failed(1, failure(Heals::ByPerson), now, 0.5);
        assert!(!encoders.hopeless());
        encoders.failed(1, failure(Heals::Never), now, 0.5);
        assert!(encoders.hopeless());
        assert_eq!(encoders.words(), "Never; Never");
    }
}
