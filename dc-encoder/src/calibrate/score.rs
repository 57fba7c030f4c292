//! How much of what changes at each place the readout explains.
//!
//! A fixed camera's picture is mostly the same picture: a readout that knew only the background would explain nearly
//! all of the variance. Heads live on the rest, so each number is compared with its own mean over the held-out frames.

use candle_core::{DType, Device, Result, Tensor};

use crate::model::cells::CHANNELS;

/// Sums over frames for each number of each token.
#[derive(Debug, Default)]
pub(super) struct Score {
    frames: usize,
    /// Targets: sum and sum of squares; errors: sum and sum of squares; `[tokens * latent]` each.
    sums: [Vec<f64>; 4],
}

impl Score {
    /// Adds frames: `got` and `want`, `[frames, tokens, latent]`.
    ///
    /// # Errors
    /// The tensor library's.
    pub(super) fn add(&mut self, got: &Tensor, want: &Tensor) -> Result<()> {
        let flat =
            |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_from(1)?.to_vec2::<f64>();
        for (got, want) in flat(got)?.iter().zip(&flat(want)?) {
            self.frames += 1;
            self.sums.iter_mut().for_each(|sums| sums.resize(want.len(), 0.0));
            let [target, target_squared, error, error_squared] = &mut self.sums;
            for (at, (got, want)) in got.iter().zip(want).enumerate() {
                target[at] += want;
                target_squared[at] += want * want;
                error[at] += got - want;
                error_squared[at] += (got - want) * (got - want);
            }
        }
        Ok(())
    }

    /// The share of the change over time that is explained, for each channel; `None` without two frames or where
    /// nothing changed. `latent` is the width of a token.
    pub(super) fn explained(&self, latent: usize) -> [Option<f64>; CHANNELS] {
        let spread = |sum: f64, squares: f64| (squares - sum * sum / self.frames as f64).max(0.0);
        std::array::from_fn(|channel| {
            let places = (0..self.sums[0].len()).filter(|at| at % latent / (latent / CHANNELS) == channel);
            let (mut total, mut left) = (0.0, 0.0);
            for at in places {
                total += spread(self.sums[0][at], self.sums[1][at]);
                left += spread(self.sums[2][at], self.sums[3][at]);
            }
            (self.frames >= 2 && total > 0.0).then(|| 1.0 - left / total)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_offset_costs_nothing_and_the_background_alone_explains_nothing() {
        // Two frames, one token of one cell: luma changes by 2, the chromas not at all.
        let want = Tensor::new(&[[[1f64, 5., 7.]], [[3., 5., 7.]]], &Device::Cpu).unwrap();
        let score = |got: [[[f64; 3]; 1]; 2]| {
            let mut score = Score::default();
            score.add(&Tensor::new(&got, &Device::Cpu).unwrap(), &want).unwrap();
            score.explained(3)
        };
        assert_eq!(score([[[1.5, 5., 7.]], [[3.5, 5., 7.]]]), [Some(1.0), None, None]);
        assert_eq!(score([[[2., 5., 7.]], [[2., 5., 7.]]]), [Some(0.0), None, None]);
        assert_eq!(Score::default().explained(3), [None; 3]);
    }
}
