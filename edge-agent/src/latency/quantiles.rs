//! Percentiles, exact.

use serde::Serialize;

/// Where times lie, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the frames took no longer.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Quantiles {
    /// Of at least one time, microseconds.
    #[must_use]
    pub fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |percent| millis(micros[rank(percent, micros.len())]);
        let mean = micros.iter().sum::<u64>() as f64 / micros.len() as f64 / 1e3;
        Self { p50: at(50), p95: at(95), p99: at(99), max: at(100), mean }
    }
}

/// Place among `count` sorted values below which `percent` of them lie, itself included (the nearest rank).
pub(super) fn rank(percent: usize, count: usize) -> usize {
    (percent * count).div_ceil(100).max(1) - 1
}

pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let of = |count: u64| Quantiles::of((1..=count).rev().map(|ms| ms * 1000).collect());
        let Quantiles { p50, p95, p99, max, mean } = of(200);
        assert_eq!((p50, p95, p99, max, mean), (100.0, 190.0, 198.0, 200.0, 100.5));
        let Quantiles { p50, p95, p99, max, .. } = of(10);
        assert_eq!((p50, p95, p99, max), (5.0, 10.0, 10.0, 10.0), "the slowest of few is all that is known");
        assert_eq!(of(1).p50, 1.0);
    }
}
