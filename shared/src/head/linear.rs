//! The linear head as plain loops: one row of 512 numbers is too little for a tensor library and its threads.

use super::error::LoadError;
use super::tensors::TensorSet;

/// Sums that are kept apart, so that the processor need not wait for each addition.
const LANES: usize = 16;

/// A checked linear head: `weight · ((x − mean) / std) + bias`.
#[derive(Debug)]
pub(super) struct Linear {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
    /// `[outputs, dim]`
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    pub(super) fn take(dim: usize, out: usize, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        Ok(Self {
            mean: tensors.values("norm.mean", &[dim])?,
            inverse_std: tensors.inverse("norm.std", &[dim])?,
            weight: tensors.values("weight", &[out, dim])?,
            bias: tensors.values("bias", &[out])?,
        })
    }

    /// The outputs for an input `[dim]`.
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let moments = self.mean.iter().zip(&self.inverse_std);
        let x: Vec<f32> =
            input.iter().zip(moments).map(|(x, (mean, inverse))| (x - mean) * inverse).collect();
        let rows = self.weight.chunks_exact(self.mean.len());
        rows.zip(&self.bias).map(|(row, bias)| dot(row, &x) + bias).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn a_product_of_any_length_is_the_sum_of_its_terms() {
        for len in [1, 15, 16, 17, 512, 515] {
            let a: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 1.0).collect();
            // Small whole numbers: exact in any order.
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), plain, "of {len}");
        }
    }
}
