//! The layers of small heads as plain loops: one row of 512 numbers is too little for a tensor library and its threads.

use super::error::LoadError;
use super::tensors::TensorSet;

/// Sums that are kept apart, so that the processor need not wait for each addition.
const LANES: usize = 16;

/// `(x − mean) / std`, number by number.
#[derive(Debug)]
pub(super) struct Norm {
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
}

/// `weight · x + bias`.
#[derive(Debug)]
pub(super) struct Layer {
    /// `[outputs, inputs]`
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

impl Norm {
    /// Takes both tensors, of this shape.
    pub(super) fn take(
        (mean, std): (&str, &str),
        shape: &[usize],
        tensors: &mut TensorSet<'_>,
    ) -> Result<Self, LoadError> {
        Ok(Self { mean: tensors.values(mean, shape)?, inverse_std: tensors.inverse(std, shape)? })
    }

    /// Operations of one [`forward`](Self::forward).
    pub(super) fn flops(&self) -> u64 {
        2 * self.mean.len() as u64
    }

    /// The normalised input, which has the tensors' shape.
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let moments = self.mean.iter().zip(&self.inverse_std);
        input.iter().zip(moments).map(|(x, (mean, inverse))| (x - mean) * inverse).collect()
    }
}

impl Layer {
    /// Takes a weight `[outputs, inputs]` and a bias `[outputs]`.
    pub(super) fn take(
        (weight, bias): (&str, &str),
        (outputs, inputs): (usize, usize),
        tensors: &mut TensorSet<'_>,
    ) -> Result<Self, LoadError> {
        let weight = tensors.values(weight, &[outputs, inputs])?;
        Ok(Self { weight, bias: tensors.values(bias, &[outputs])?, inputs })
    }

    /// Operations of one [`forward`](Self::forward).
    pub(super) fn flops(&self) -> u64 {
        (2 * self.weight.len() + self.bias.len()) as u64
    }

    /// How many outputs there are.
    pub(super) fn outputs(&self) -> u64 {
        self.bias.len() as u64
    }

    /// The outputs for one row of inputs.
    pub(super) fn forward(&self, row: &[f32]) -> impl Iterator<Item = f32> {
        let weights = self.weight.chunks_exact(self.inputs);
        weights.zip(&self.bias).map(move |(weight, bias)| dot(weight, row) + bias)
    }
}

/// What [`gelu`], an exponential or a logarithm counts as, in operations.
pub(super) const FUNCTION_FLOPS: u64 = 10;

/// `x/2 · (1 + erf(x/√2))`
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
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
    use super::{dot, gelu};

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

    #[test]
    fn gelu_is_that_of_the_error_function() {
        // PyTorch's, in f64.
        for (x, want) in [(-3.0, -0.004_049_694), (-0.5, -0.154_268_77), (0.0, 0.0), (1.0, 0.841_344_7)] {
            assert!((gelu(x) - want).abs() < 1e-6, "{x}");
        }
    }
}
