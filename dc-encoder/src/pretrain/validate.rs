//! How well the model does on frames it is not trained on, and whether its embedding still tells frames apart.

use candle_core::{Device, Tensor};

use super::batch::{Batch, Change, Item};
use super::draw::{Purpose, generator, mask};
use super::error::PretrainError;
use super::frames::Frames;
use super::network::Network;
use super::recipe::Recipe;
use crate::model::mae::visible_count;

/// Most held-out frames whose loss is taken, and most frames of the whole set whose embeddings are compared.
pub(super) const LOOKED_AT: usize = 64;
/// Frames in one forward pass.
pub(super) const BATCH: usize = 16;

/// Differences below this share of the embeddings' own size are the rounding of f32 through the layers.
const ROUNDING: f64 = 1e-5;

/// What one look gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Validation {
    /// Loss on held-out frames, the same frames and masks each time.
    pub loss: f64,
    /// The loss of answering each hidden patch with its own mean colour.
    pub loss_of_means: f64,
    /// Effective rank of the embedding over frames of the whole set.
    pub rank: f64,
    /// Frames whose embeddings the rank is of: it cannot be higher than this less one.
    pub rank_of: usize,
}

/// The masks of held-out frames depend on seed and frame alone.
pub(super) fn held_out_item(recipe: &Recipe, frames: &Frames, frame: usize) -> Result<Item, PretrainError> {
    let patches = recipe.model.patches();
    let mut random = generator(recipe.seed, Purpose::HeldOutMask, frame as u64);
    let mask = mask(patches, visible_count(patches, recipe.mask_ratio), &mut random);
    Ok(Item { image: frames.get(frame)?, change: Change::none(&recipe.model), mask })
}

/// Forward passes of [`validate`].
pub(super) fn looked_at(frames: &Frames, most: usize) -> usize {
    frames.held_out(most).len() + frames.sample(most).len()
}

/// Looks at up to `most` held-out frames, and at the embeddings of up to `most` of all frames.
pub(super) fn validate(
    recipe: &Recipe,
    frames: &Frames,
    network: &Network,
    most: usize,
) -> Result<Validation, PretrainError> {
    let kind = super::target(&recipe.model);
    let compute = PretrainError::compute("validating");
    let held_out = frames.held_out(most);
    let (mut loss, mut means) = (0.0, 0.0);
    for some in held_out.chunks(BATCH) {
        let items = some.iter().map(|frame| held_out_item(recipe, frames, *frame));
        let batch = Batch::new(&recipe.model, kind, items.collect::<Result<_, _>>()?);
        let value = network.held_out_loss(&batch).map_err(&compute)?;
        loss += value * some.len() as f64;
        means += batch.loss_of_means() * some.len() as f64;
    }
    let count = held_out.len() as f64;
    let sample = frames.sample(most);
    let mut embeddings = Vec::with_capacity(sample.len());
    for some in sample.chunks(BATCH) {
        let images = some.iter().map(|frame| whole(recipe, frames, *frame)).collect::<Result<Vec<_>, _>>()?;
        let images = Tensor::stack(&images, 0).map_err(&compute)?;
        let rows = network.embed(&images).and_then(|t| t.to_vec2::<f32>()).map_err(&compute)?;
        embeddings.extend(rows);
    }
    Ok(Validation {
        loss: loss / count,
        loss_of_means: means / count,
        rank: effective_rank(&embeddings),
        rank_of: embeddings.len(),
    })
}

/// A whole frame as the encoder takes it, `[3, height, width]`.
fn whole(recipe: &Recipe, frames: &Frames, frame: usize) -> Result<Tensor, PretrainError> {
    let model = &recipe.model;
    let values = model.preprocess.normalise(frames.get(frame)?.as_ref());
    Tensor::from_vec(values, (3, model.height, model.width), &Device::Cpu)
        .map_err(PretrainError::compute("validating"))
}

/// Effective rank (Roy and Vetterli, 2007) of embeddings less their mean: `exp` of the entropy of the singular values'
/// shares. As many as there are directions in which frames differ equally; 1 where all differ along one line, 0 where all
/// are the same but for rounding, which has a rank of its own.
pub(super) fn effective_rank(rows: &[Vec<f32>]) -> f64 {
    let (count, width) = (rows.len(), rows.first().map_or(0, Vec::len));
    let means: Vec<f64> =
        (0..width).map(|at| rows.iter().map(|row| f64::from(row[at])).sum::<f64>() / count as f64).collect();
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().zip(&means).map(|(v, mean)| f64::from(*v) - mean).collect())
        .collect();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram: Vec<f64> = centred.iter().flat_map(|a| centred.iter().map(|b| product(a, b))).collect();
    let size = rows.iter().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let mut values: Vec<f64> =
        eigenvalues(gram, count).into_iter().map(|value| value.max(0.0).sqrt()).collect();
    values.retain(|value| *value > ROUNDING * size);
    if values.is_empty() {
        return 0.0;
    }
    let total: f64 = values.iter().sum();
    values.iter().map(|value| value / total).map(|share| -share * share.ln()).sum::<f64>().exp()
}

/// Eigenvalues of a symmetric `[m, m]` matrix by Jacobi rotations (Golub and Van Loan, §8.5), for `m` up to a hundred.
fn eigenvalues(mut a: Vec<f64>, m: usize) -> Vec<f64> {
    const SWEEPS: usize = 30; // convergence is quadratic: ten are enough
    let size: f64 = a.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS {
        let off: f64 =
            (0..m).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * m + j].powi(2)).sum();
        if off <= 1e-24 * size {
            break;
        }
        for p in 0..m {
            for q in p + 1..m {
                rotate(&mut a, m, p, q);
            }
        }
    }
    (0..m).map(|i| a[i * m + i]).collect()
}

/// Makes entry `(p, q)` zero.
fn rotate(a: &mut [f64], m: usize, p: usize, q: usize) {
    let between = a[p * m + q];
    if between == 0.0 {
        return;
    }
    let tau = (a[q * m + q] - a[p * m + p]) / (2.0 * between);
    let tangent = tau.signum() / (tau.abs() + tau.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..m {
        let (kp, kq) = (a[k * m + p], a[k * m + q]);
        (a[k * m + p], a[k * m + q]) = (cosine * kp - sine * kq, sine * kp + cosine * kq);
    }
    for k in 0..m {
        let (pk, qk) = (a[p * m + k], a[q * m + k]);
        (a[p * m + k], a[q * m + k]) = (cosine * pk - sine * qk, sine * pk + cosine * qk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_counts_directions() {
        let line: Vec<Vec<f32>> = (0..20).map(|i| vec![i as f32, 2.0 * i as f32, 5.0]).collect();
        assert!((effective_rank(&line) - 1.0).abs() < 1e-3);
        // The corners of a cube differ along three directions equally.
        let cube: Vec<Vec<f32>> =
            (0..8u8).map(|i| (0..3).map(|bit| f32::from(i >> bit & 1)).collect()).collect();
        assert!((effective_rank(&cube) - 3.0).abs() < 1e-6);
        assert_eq!(effective_rank(&vec![vec![1.0; 4]; 5]), 0.0);
        // The same vector but for its last bits.
        let same: Vec<Vec<f32>> = (0..8u8)
            .map(|i| (0..3).map(|bit| 1.0 + f32::EPSILON * f32::from(i >> bit & 1)).collect())
            .collect();
        assert_eq!(effective_rank(&same), 0.0);
    }

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let mut values = eigenvalues(vec![2.0, -1.0, 0.0, -1.0, 2.0, -1.0, 0.0, -1.0, 2.0], 3);
        values.sort_by(f64::total_cmp);
        let root = 2f64.sqrt();
        for (got, want) in values.iter().zip([2.0 - root, 2.0, 2.0 + root]) {
            assert!((got - want).abs() < 1e-12);
        }
    }
}
