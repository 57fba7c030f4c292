//! Counts by size, in fixed buckets.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bounds for times of a frame's way, seconds: from a head to a large model on a small processor.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds for frames of a batch.
pub const FRAMES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// How many values were how large. Memory and time are the same for any number of them.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    tally: Mutex<Tally>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tally {
    /// One a bound, and one for what is beyond the last.
    pub(super) buckets: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    /// Counts into buckets with these upper bounds, which rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        debug_assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        Self { bounds, tally: Mutex::new(Tally { buckets: vec![0; bounds.len() + 1], sum: 0.0 }) }
    }

    /// Counts a value in the first bucket whose bound it does not exceed.
    pub fn add(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        let mut tally = self.lock();
        tally.buckets[bucket] += 1;
        tally.sum += value;
    }

    /// Counts a time, in seconds.
    pub fn add_time(&self, time: Duration) {
        self.add(time.as_secs_f64());
    }

    pub(super) fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// All at one moment: buckets, count and sum agree.
    pub(super) fn tally(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        [0.5, 1.0, 1.5, 2.0, 2.5].into_iter().for_each(|value| histogram.add(value));
        assert_eq!(histogram.tally(), Tally { buckets: vec![2, 2, 1], sum: 7.5 });
        let times = Histogram::new(SECONDS);
        times.add_time(Duration::from_millis(1));
        assert_eq!(times.tally().buckets[1], 1);
    }
}
