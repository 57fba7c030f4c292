//! What a task's labels mean: how they become training targets, and how an answer's error is measured.
//!
//! A class is a number on the way through a training, its place in the list of classes, and learned as one output for
//! each: 1 for the class that is seen, 0 for the others. Least squares on such targets estimate the probability of each
//! class (Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", 2009, §4.2), with every kind of head.

use std::f64::consts::TAU;

use shared::head::limits::MAX_CLASSES;
use shared::head::{Output, OutputKind, Task};

/// Minutes in a day, the period of the time of day.
pub const DAY_MINUTES: f64 = 1440.0;

/// A label as a network's numbers: the first [`width`](Target::width) of them, and zeros.
pub type Encoded = [f64; MAX_CLASSES];

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
    /// Places in a list of classes, learned as one number for each.
    Class {
        /// Classes in the list, at most [`MAX_CLASSES`].
        count: usize,
    },
}

impl Target {
    /// The target of a task; of these classes, if that is its task.
    pub fn of(task: Task, classes: &[String]) -> Self {
        match task {
            Task::Count => Self::Scalar { min: Some(0.0) },
            Task::Scalar => Self::Scalar { min: None },
            Task::TimeOfDay => Self::Circular { period: DAY_MINUTES },
            Task::Class => Self::Class { count: classes.len() },
        }
    }

    /// The manifest's words for this target, and for these classes.
    pub fn output(&self, unit: &str, classes: &[String]) -> Output {
        let unit = unit.to_owned();
        match *self {
            Self::Scalar { min } => Output { kind: OutputKind::Scalar, unit, min },
            Self::Circular { period } => Output { kind: OutputKind::Circular { period }, unit, min: None },
            Self::Class { .. } => {
                Output { kind: OutputKind::Classes { names: classes.to_vec() }, unit, min: None }
            }
        }
    }

    /// Numbers the network gives: 1, 2, or one for each class.
    pub fn width(&self) -> usize {
        match self {
            Self::Scalar { .. } => 1,
            Self::Circular { .. } => 2,
            Self::Class { count } => *count,
        }
    }

    /// The network's target for a label.
    pub fn encode(&self, value: f64) -> Encoded {
        let mut encoded = [0.0; MAX_CLASSES];
        match *self {
            Self::Scalar { .. } => encoded[0] = value,
            Self::Circular { period } => {
                let (sin, cos) = (value / period * TAU).sin_cos();
                (encoded[0], encoded[1]) = (cos, sin);
            }
            Self::Class { .. } => encoded[value as usize] = 1.0,
        }
        encoded
    }

    /// The value of the network's numbers, at least [`width`](Self::width) of them. Of classes it is the one with the
    /// largest number, the first among equals.
    pub fn decode(&self, outputs: impl AsRef<[f64]>) -> f64 {
        let outputs = outputs.as_ref();
        match *self {
            Self::Scalar { min } => min.map_or(outputs[0], |min| outputs[0].max(min)),
            Self::Circular { period } => (outputs[1].atan2(outputs[0]) / TAU * period).rem_euclid(period),
            Self::Class { count } => {
                let ahead = |best: usize, at: usize| if outputs[at] > outputs[best] { at } else { best };
                (1..count).fold(0, ahead) as f64
            }
        }
    }

    /// `truth − answer`, the short way round on a circle: in `[−period / 2, period / 2)`. For classes 0 if they are the same
    /// and else 1, so that a mean error is the share of wrong answers.
    pub fn residual(&self, truth: f64, answer: f64) -> f64 {
        match *self {
            Self::Scalar { .. } => truth - answer,
            Self::Circular { period } => (truth - answer + period / 2.0).rem_euclid(period) - period / 2.0,
            Self::Class { .. } => f64::from(u8::from((truth - answer).abs() > 0.5)),
        }
    }

    /// The constant answer: the labels' mean, on a circle the direction of their mean, of classes the most frequent.
    pub fn constant(&self, values: impl Iterator<Item = f64>) -> f64 {
        let (mut mean, mut n) = ([0.0; MAX_CLASSES], 0.0);
        for value in values {
            mean.iter_mut().zip(self.encode(value)).for_each(|(sum, number)| *sum += number);
            n += 1.0;
        }
        mean.iter_mut().for_each(|sum| *sum /= f64::max(n, 1.0));
        self.decode(mean)
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

    #[test]
    fn a_class_is_right_or_wrong_and_the_constant_is_the_most_frequent() {
        let classes = Target::Class { count: 3 };
        assert_eq!(classes.constant([0.0, 2.0, 2.0, 1.0].into_iter()), 2.0);
        assert_eq!(classes.encode(1.0)[..3], [0.0, 1.0, 0.0]);
        assert_eq!(classes.decode([0.2, 0.5, 0.5, 9.0]), 1.0, "only the classes' numbers count");
        assert_eq!([classes.residual(2.0, 0.0), classes.residual(2.0, 2.0)], [1.0, 0.0]);
    }
}
