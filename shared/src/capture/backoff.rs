//! How long to wait before a camera or stream is tried again. Pure: randomness and the count come from outside.

use std::time::Duration;

/// Exponential backoff with full jitter in its upper half: the n-th wait is between half and all of
/// `first · 2ⁿ`, never more than `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    /// Half a second (a camera that was replugged is back by then) up to thirty seconds.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row (1 is the first). `jitter` in `[0, 1)` picks the point
    /// between half and all of it, so that many boxes do not return to a restarted server together.
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let waits: Vec<_> = (1..=6).map(|n| backoff.wait(n, 1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.wait(1, 0.0), Duration::from_millis(50));
        assert_eq!(backoff.wait(u32::MAX, 0.0), Duration::from_millis(500));
    }
}
