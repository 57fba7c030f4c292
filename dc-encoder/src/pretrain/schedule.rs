//! The learning rate over steps: a linear rise, then half a cosine to zero.

use serde::{Deserialize, Serialize};

/// Share of the steps that the rise takes by default.
pub(super) const WARMUP_SHARE: f64 = 0.05;

/// Learning rate by step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of the rise.
    pub warmup: u64,
    /// All steps.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
        self.peak * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done.min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_nothing() {
        let schedule = Schedule { peak: 2.0, warmup: 4, steps: 12 };
        assert_eq!([0, 1, 3].map(|step| schedule.rate(step)), [0.5, 1.0, 2.0]);
        assert_eq!(schedule.rate(4), 2.0);
        assert!((schedule.rate(8) - 1.0).abs() < 1e-12);
        assert!(schedule.rate(11) > 0.0 && schedule.rate(11) < 0.1 && schedule.rate(12) < 1e-12);
        assert_eq!(Schedule { peak: 1.0, warmup: 0, steps: 1 }.rate(0), 1.0);
    }
}
