//! The kernel head: an answer as weighted likeness to frames it was trained on, and how unlike them all a frame is.

use super::dense::FUNCTION_FLOPS;
use super::error::LoadError;
use super::limits;
use super::manifest::{Input, Likeness};
use super::tensors::TensorSet;

/// A checked kernel head; see [`super::manifest::Kind::Kernel`] for its tensors.
#[derive(Debug)]
pub(super) struct Kernel {
    likeness: Likeness,
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
    /// `[support, dim]`
    support: Vec<f32>,
    width: f64,
    /// `[outputs, support]`
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// `[support, support]`
    precision: Vec<f32>,
    noise: f64,
}

impl Kernel {
    pub(super) fn take(
        likeness: Likeness,
        input: &Input,
        out: usize,
        tensors: &mut TensorSet<'_>,
    ) -> Result<Self, LoadError> {
        let dim = input.dim as usize;
        let count = tensors.rows("support", limits::MAX_SUPPORT, &[dim])?;
        let mean = tensors.values("norm.mean", &[dim])?;
        let inverse_std = tensors.inverse("norm.std", &[dim])?;
        let support = tensors.values("support", &[count, dim])?;
        let width = 1.0 / f64::from(tensors.inverse("width", &[1])?[0]);
        let weight = tensors.values("weight", &[out, count])?;
        let bias = tensors.values("bias", &[out])?;
        let precision = tensors.values("precision", &[count, count])?;
        let noise = 1.0 / f64::from(tensors.inverse("noise", &[1])?[0]);
        Ok(Self { likeness, mean, inverse_std, support, width, weight, bias, precision, noise })
    }

    /// Operations of one [`forward`](Self::forward).
    pub(super) fn flops(&self) -> u64 {
        let (dim, count, outputs) = (self.mean.len(), self.support.len() / self.mean.len(), self.bias.len());
        let likeness = count as u64 * (3 * dim as u64 + FUNCTION_FLOPS);
        2 * dim as u64 + likeness + (2 * outputs * count + 2 * count * (count + 1)) as u64
    }

    /// The outputs, and the deviation of a Gaussian process around them, in deviations of what it knows nothing about.
    pub(super) fn forward(&self, embedding: &[f32]) -> (Vec<f32>, f32) {
        let norm = self.mean.iter().zip(&self.inverse_std);
        let x: Vec<f32> =
            embedding.iter().zip(norm).map(|(x, (mean, inverse))| (x - mean) * inverse).collect();
        let rows = self.support.chunks_exact(x.len());
        let likeness: Vec<f64> = rows.map(|row| self.likeness.of(&x, row, self.width)).collect();
        let dot = |row: &[f32]| row.iter().zip(&likeness).map(|(w, k)| f64::from(*w) * k).sum::<f64>();
        let weights = self.weight.chunks_exact(likeness.len()).zip(&self.bias);
        let outputs = weights.map(|(row, bias)| (dot(row) + f64::from(*bias)) as f32).collect();
        let known: f64 =
            self.precision.chunks_exact(likeness.len()).zip(&likeness).map(|(row, k)| k * dot(row)).sum();
        // Rounding may take a little more than there is; the noise of labels always remains.
        let variance = (1.0 - known).max(0.0) + self.noise;
        (outputs, variance.sqrt() as f32)
    }
}

impl Likeness {
    /// The distance this likeness falls with.
    pub fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = a.iter().zip(b).map(|(a, b)| f64::from(a - b));
        match self {
            Self::Gaussian => pairs.map(|d| d * d).sum::<f64>().sqrt(),
            Self::Laplace => pairs.map(f64::abs).sum(),
        }
    }

    /// Likeness of two standardised embeddings, 1 for the same and falling to 0; the same when training and serving.
    pub fn of(self, a: &[f32], b: &[f32], width: f64) -> f64 {
        let distance = self.distance(a, b) / width;
        match self {
            Self::Gaussian => (-0.5 * distance * distance).exp(),
            Self::Laplace => (-distance).exp(),
        }
    }
}
