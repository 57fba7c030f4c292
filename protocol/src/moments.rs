//! Running statistics of a head's values.

use bincode::{Decode, Encode};

use crate::CodecError;

/// Number, mean and spread of a head's values: enough to compare two stretches of time, and to add two up.
/// Welford's update (1962); merged as by Chan, Golub and LeVeque (1983).
#[derive(Debug, Clone, Copy, Default, PartialEq, Encode, Decode)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// Their mean. 0 without values.
    pub mean: f64,
    /// Sum of their squared differences from the mean.
    pub squares: f64,
}

impl Moments {
    /// Takes one more value. What is not finite is left out: it would be all that is left.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            *self = self.merged(&Self { count: 1, mean: value, squares: 0.0 });
        }
    }

    /// The moments of the values of both.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let count = self.count.saturating_add(other.count);
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { *other } else { *self };
        }
        let (ours, theirs, all) = (self.count as f64, other.count as f64, count as f64);
        let apart = other.mean - self.mean;
        let mean = self.mean + apart * theirs / all;
        let squares = self.squares + other.squares + apart * apart * ours * theirs / all;
        Self { count, mean, squares }
    }

    /// The moments of what came after `earlier`, an older state of the same statistics. Nothing, if it is none.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let Some(count) = self.count.checked_sub(earlier.count).filter(|count| *count > 0) else {
            return Self::default();
        };
        if earlier.count == 0 {
            return *self;
        }
        let (all, old, new) = (self.count as f64, earlier.count as f64, count as f64);
        let mean = (self.mean * all - earlier.mean * old) / new;
        let apart = mean - earlier.mean;
        // Rounding may leave a little less than nothing.
        let squares = (self.squares - earlier.squares - apart * apart * old * new / all).max(0.0);
        Self { count, mean, squares }
    }

    /// Variance of the values, dividing by their number. 0 without values.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.squares / self.count as f64 }
    }

    pub(crate) fn validate(&self) -> Result<(), CodecError> {
        let Self { mean, squares, .. } = *self;
        if mean.is_finite() && squares.is_finite() && squares >= 0.0 {
            return Ok(());
        }
        Err(CodecError::BadMoments { mean, squares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        moments
    }

    fn close(got: &Moments, want: &Moments) {
        assert_eq!(got.count, want.count);
        assert!((got.mean - want.mean).abs() < 1e-9 && (got.squares - want.squares).abs() < 1e-9, "{got:?}");
    }

    #[test]
    fn values_one_by_one() {
        let moments = of(&[1.0, 2.0, f64::NAN, 6.0]);
        close(&moments, &Moments { count: 3, mean: 3.0, squares: 14.0 });
        assert!((moments.variance() - 14.0 / 3.0).abs() < 1e-12);
        assert_eq!(Moments::default().variance(), 0.0);
    }

    #[test]
    fn parts_add_up_and_come_apart() {
        let (first, second, all) = (of(&[5.0, 7.0]), of(&[1.0, 2.0, 9.5]), of(&[5.0, 7.0, 1.0, 2.0, 9.5]));
        close(&first.merged(&second), &all);
        close(&all.since(&first), &second);
        close(&all.since(&Moments::default()), &all);
        assert_eq!(first.since(&all), Moments::default());
        assert_eq!(all.since(&all), Moments::default());
    }
}
