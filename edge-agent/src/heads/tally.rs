//! How a release does: what it answered, what it failed on, and when it must go.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::Moments;
use shared::head::Prediction;

use super::NoAnswer;

/// Frames in a row without a sound answer after which a release must go: one odd frame is no reason.
const STRIKES: u32 = 3;

/// Counts of one release since it was loaded.
#[derive(Debug)]
pub struct Tally {
    since: Instant,
    /// The mean of a circular output says nothing.
    circular: bool,
    counts: Mutex<Counts>,
}

/// What a [`Tally`] holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Frames it answered.
    pub answers: u64,
    /// Frames it failed on.
    pub failures: u64,
    /// Time it took for them all.
    pub busy: Duration,
    /// Its values; none of a circular output.
    pub values: Moments,
    /// Why it must go.
    pub trouble: Option<String>,
    strikes: u32,
}

impl Tally {
    pub(super) fn new(circular: bool) -> Self {
        Self { since: Instant::now(), circular, counts: Mutex::default() }
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Whether it must go.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// How long it has been loaded.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// A frame of an encoder that this release is not for: a failure, and no sign against it.
    pub(super) fn other_space(&self) {
        self.lock().failures += 1;
    }

    /// It was run on a frame for this long.
    pub(super) fn took(&self, time: Duration) {
        self.lock().busy += time;
    }

    /// A frame it was run on. `slow`: what it took and what it may take.
    pub(super) fn count(&self, result: &Result<Prediction, NoAnswer>, slow: Option<(Duration, Duration)>) {
        let mut counts = self.lock();
        let words = match result {
            Ok(prediction) => {
                counts.answers += 1;
                if !self.circular {
                    counts.values.add(prediction.value);
                }
                slow.map(|(took, budget)| format!("it took {took:?} for a frame, more than its {budget:?}"))
            }
            Err(error) => {
                counts.failures += 1;
                Some(error.to_string())
            }
        };
        let Some(words) = words else { return counts.strikes = 0 };
        counts.strikes += 1;
        let at_once = matches!(result, Err(NoAnswer::Panicked(_)));
        if counts.trouble.is_none() && (at_once || counts.strikes >= STRIKES) {
            counts.trouble = Some(words);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::guarded;
    use super::*;

    fn answer(value: f64) -> Result<Prediction, NoAnswer> {
        Ok(Prediction { value, class: None, interval: None })
    }

    fn failure() -> Result<Prediction, NoAnswer> {
        Err(shared::head::HeadError::NoAnswer { head: "a".into(), got: "NaN".into() }.into())
    }

    #[test]
    fn values_are_counted_unless_they_go_round() {
        let (straight, round) = (Tally::new(false), Tally::new(true));
        for tally in [&straight, &round] {
            tally.count(&answer(2.0), None);
            tally.count(&answer(4.0), None);
            tally.other_space();
        }
        let counts = straight.counts();
        assert_eq!((counts.answers, counts.failures, counts.values.mean), (2, 1, 3.0));
        assert_eq!(round.counts().values, Moments::default());
    }

    #[test]
    fn one_odd_frame_is_no_trouble_three_in_a_row_or_a_panic_are() {
        let slow = Some((Duration::from_secs(2), Duration::from_secs(1)));
        let tally = Tally::new(false);
        for (result, slow) in [(failure(), None), (answer(1.0), slow), (answer(1.0), None), (failure(), None)]
        {
            tally.count(&result, slow);
        }
        tally.count(&answer(1.0), slow);
        assert_eq!(tally.counts().trouble, None, "a sound answer in between");
        tally.count(&answer(1.0), slow);
        assert!(tally.counts().trouble.unwrap().contains("2s for a frame, more than its 1s"));
        let panicked = Tally::new(false);
        panicked.count(&guarded(|| panic!("ouch")).map_err(Into::into), None);
        assert!(panicked.counts().trouble.unwrap().contains("ouch"));
    }
}
