//! What a task's labels mean: how they become training targets, and how an answer's error is measured.

use std::f64::consts::TAU;

use shared::head::{Output, OutputKind, Task};

/// Minutes in a day, the period of the time of day.
pub const DAY_MINUTES: f64 = 1440.0;

/// The values a head learns: numbers on a line, or on a circle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Plain numbers.
    Scalar {
        /// Smallest possible value, if there is one.
        min: Option<f64>,
    },
    /// Numbers modulo a period, learned as `(cos, sin)` so that 23:59 and 00:01 are neighbours.
    Circular {
        /// One turn.
        period: f64,
    },
}

impl Target {
    /// The target of a task.
    pub fn of(task: Task) -> Self {
        match task {
            Task::Count => Self::Scalar { min: Some(0.0) },
            Task::Scalar => Self::Scalar { min: None },
            Task::TimeOfDay => Self::Circular { period: DAY_MINUTES },
        }
    }

    /// The manifest's words for this target.
    pub fn output(&self, unit: &str) -> Output {
        let unit = unit.to_owned();
        match *self {
            Self::Scalar { min } => Output { kind: OutputKind::Scalar, unit, min },
            Self::Circular { period } => Output { kind: OutputKind::Circular { period }, unit, min: None },
        }
    }

    /// Numbers the network gives: 1 or 2.
    pub fn width(&self) -> usize {
        match self {
            Self::Scalar { .. } => 1,
            Self::Circular { .. } => 2,
        }
    }

    /// The network's target for a label, [`width`](Self::width) numbers; the second is unused for scalars.
    pub fn encode(&self, value: f64) -> [f64; 2] {
        match *self {
            Self::Scalar { .. } => [value, 0.0],
            Self::Circular { period } => {
                let (sin, cos) = (value / period * TAU).sin_cos();
                [cos, sin]
            }
        }
    }

    /// The value of the network's numbers.
    pub fn decode(&self, outputs: [f64; 2]) -> f64 {
        match *self {
            Self::Scalar { min } => min.map_or(outputs[0], |min| outputs[0].max(min)),
            Self::Circular { period } => (outputs[1].atan2(outputs[0]) / TAU * period).rem_euclid(period),
        }
    }

    /// `truth − answer`, the short way round on a circle: in `[−period / 2, period / 2)`.
    pub fn residual(&self, truth: f64, answer: f64) -> f64 {
        match *self {
            Self::Scalar { .. } => truth - answer,
            Self::Circular { period } => (truth - answer + period / 2.0).rem_euclid(period) - period / 2.0,
        }
    }

    /// The constant answer: the labels' mean, on a circle the direction of their mean.
    pub fn constant(&self, values: impl Iterator<Item = f64>) -> f64 {
        let (mut sum, mut n) = ([0.0; 2], 0.0);
        for value in values {
            let [a, b] = self.encode(value);
            sum = [sum[0] + a, sum[1] + b];
            n += 1.0;
        }
        self.decode([sum[0] / f64::max(n, 1.0), sum[1] / f64::max(n, 1.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Target = Target::Circular { period: DAY_MINUTES };

    #[test]
    fn residuals_go_the_short_way_round_midnight() {
        assert_eq!(DAY.residual(5.0, 1435.0), 10.0);
        assert_eq!(DAY.residual(1435.0, 5.0), -10.0);
        assert_eq!(DAY.residual(720.0, 0.0), -720.0);
        assert_eq!(DAY.residual(600.0, 630.0), -30.0);
    }

    #[test]
    fn values_survive_the_circle() {
        for value in [0.0, 0.5, 359.9, 720.0, 1439.99] {
            assert!(DAY.residual(value, DAY.decode(DAY.encode(value))).abs() < 1e-9);
        }
    }

    #[test]
    fn the_mean_of_times_around_midnight_is_midnight() {
        let mean = DAY.constant([1430.0, 10.0, 1420.0, 20.0].into_iter());
        assert!(DAY.residual(0.0, mean).abs() < 1e-9, "{mean}");
        let count = Target::Scalar { min: Some(0.0) };
        assert_eq!(count.constant([1.0, 2.0, 6.0].into_iter()), 3.0);
        assert_eq!(count.decode([-2.0, 0.0]), 0.0);
    }
}
