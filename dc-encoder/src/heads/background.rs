//! What a fixed camera sees when nothing happens, learned without labels.
//!
//! ```text
//! latent tokens of all embedded frames ─► mean and deviation of each token ─► departures from the background
//!                                                                        ─► their main directions
//! ```
//! The token head reads departures. Its small network is trained on their main directions and on their size, and then
//! written out over all numbers of a token, so that the head file needs no directions.

use candle_core::{Device, Result as CandleResult, Tensor};
use rayon::prelude::*;

/// Most tokens that the directions are computed from; more change nothing.
const SAMPLE: usize = 20_000;

/// Rounds of subspace iteration; each multiplies the error by the ratio of neighbouring eigenvalues.
const ROUNDS: usize = 30;

/// A token's deviation is never taken below this share of all tokens' deviation in that number: a token on which
/// nothing ever moved must not turn sensor noise into the loudest departure.
const FLOOR: f64 = 0.3;

/// The latent tokens of all frames.
#[derive(Debug, Clone, Copy)]
pub struct TokenSet<'a> {
    /// `[frames, tokens, dim]`.
    pub values: &'a [f32],
    /// Tokens of a frame.
    pub tokens: usize,
    /// Numbers of a token.
    pub dim: usize,
}

impl<'a> TokenSet<'a> {
    /// One frame's tokens, `[tokens, dim]`.
    pub fn frame(&self, index: usize) -> &'a [f32] {
        let size = self.tokens * self.dim;
        &self.values[index * size..(index + 1) * size]
    }
}

/// Mean and deviation of each token, `[tokens, dim]`, as a head file stores them.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    /// Mean over the frames.
    pub mean: Vec<f32>,
    /// Deviation over the frames, bounded below.
    pub std: Vec<f32>,
}

impl Background {
    /// Learns the background from these frames; at least one.
    pub fn learn(set: &TokenSet<'_>, frames: &[usize]) -> Self {
        let size = set.tokens * set.dim;
        let n = frames.len().max(1) as f64;
        let (mut sum, mut squares) = (vec![0.0f64; size], vec![0.0f64; size]);
        for frame in frames {
            let terms = set.frame(*frame).iter().zip(sum.iter_mut().zip(&mut squares));
            for (x, (sum, square)) in terms {
                *sum += f64::from(*x);
                *square += f64::from(*x) * f64::from(*x);
            }
        }
        let variance = |at: usize| (squares[at] / n - (sum[at] / n).powi(2)).max(0.0);
        let mut pooled = vec![0.0; set.dim];
        for at in 0..size {
            pooled[at % set.dim] += variance(at) / set.tokens as f64;
        }
        let std = (0..size).map(|at| {
            let floor = FLOOR * pooled[at % set.dim].sqrt();
            // Numbers that never change anywhere depart by nothing; 1e-3 keeps them there in f16, too.
            (variance(at).sqrt().max(floor).max(1e-3)) as f32
        });
        let rounded = |x: f32| half::f16::from_f32(x).to_f32();
        Self { std: std.map(rounded).collect(), mean: sum.iter().map(|s| rounded((s / n) as f32)).collect() }
    }

    /// A frame's departures, `[tokens, dim]`.
    pub fn departures(&self, frame: &[f32]) -> Vec<f32> {
        let terms = frame.iter().zip(self.mean.iter().zip(&self.std));
        terms.map(|(x, (mean, std))| (x - mean) / std).collect()
    }
}

/// The main directions of departures, `[dim, count]` row-major, each scaled so that the departures have deviation 1
/// along it.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    /// Scaled directions.
    pub matrix: Vec<f32>,
    /// How many.
    pub count: usize,
}

impl Directions {
    /// Computes `count` directions (at most `dim`) by subspace iteration on the departures' second moments.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn learn(
        set: &TokenSet<'_>,
        background: &Background,
        frames: &[usize],
        count: usize,
    ) -> CandleResult<Self> {
        let count = count.min(set.dim);
        // Whole frames, evenly spread, as many as the sample holds.
        let wanted = (SAMPLE / set.tokens.max(1)).clamp(1, frames.len().max(1));
        let sample: Vec<f32> = (0..wanted)
            .flat_map(|i| background.departures(set.frame(frames[i * frames.len() / wanted])))
            .collect();
        let rows = sample.len() / set.dim;
        let sample = Tensor::from_vec(sample, (rows, set.dim), &Device::Cpu)?;
        let moments = (sample.t()?.matmul(&sample)? / rows as f64)?;
        let moments: Vec<f64> = moments.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
        let (vectors, sizes) = main_directions(&moments, set.dim, count);
        let mut matrix = vec![0.0; set.dim * count];
        for (k, (vector, size)) in vectors.iter().zip(&sizes).enumerate() {
            for (l, x) in vector.iter().enumerate() {
                matrix[l * count + k] = (x / size.max(1e-12).sqrt()) as f32;
            }
        }
        Ok(Self { matrix, count })
    }

    /// The features a token head is trained on: departures along the directions, their root mean square, and 1,
    /// which makes the first layer's bias one more weight (a broadcast sum costs more than the product it saves);
    /// `[frames, tokens, count + 2]`, frames in the given order.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn features(
        &self,
        set: &TokenSet<'_>,
        background: &Background,
        frames: &[usize],
    ) -> CandleResult<Tensor> {
        let matrix = Tensor::from_slice(&self.matrix, (set.dim, self.count), &Device::Cpu)?;
        let one = |frame: &usize| {
            let departures = background.departures(set.frame(*frame));
            let departures = Tensor::from_vec(departures, (set.tokens, set.dim), &Device::Cpu)?;
            let size = departures.sqr()?.mean_keepdim(1)?.sqrt()?;
            let one = Tensor::ones_like(&size)?;
            Tensor::cat(&[departures.matmul(&matrix)?, size, one], 1)
        };
        let parts: Vec<Tensor> = frames.par_iter().map(one).collect::<CandleResult<_>>()?;
        Tensor::stack(&parts, 0)
    }
}

/// The `count` leading eigenvectors of a symmetric positive semidefinite `[m, m]` matrix and their eigenvalues.
fn main_directions(matrix: &[f64], m: usize, count: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
    // Any start with a part along each direction does; a fixed one keeps heads reproducible.
    let mut vectors: Vec<Vec<f64>> = (0..count)
        .map(|k| {
            (0..m).map(|l| ((l * (2 * k + 1) + k) as f64 * 0.7).sin() + f64::from(u8::from(l == k))).collect()
        })
        .collect();
    let mut sizes = vec![0.0; count];
    orthonormalise(&mut vectors);
    for _ in 0..ROUNDS {
        vectors = vectors.par_iter().map(|v| multiply(matrix, v)).collect();
        sizes = orthonormalise(&mut vectors);
    }
    (vectors, sizes)
}

fn multiply(matrix: &[f64], v: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(v.len()).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
}

/// Gram–Schmidt, twice for stability; gives the lengths found. A vector without length becomes zero.
fn orthonormalise(vectors: &mut [Vec<f64>]) -> Vec<f64> {
    let mut lengths = Vec::with_capacity(vectors.len());
    for k in 0..vectors.len() {
        let (done, rest) = vectors.split_at_mut(k);
        let v = &mut rest[0];
        for _ in 0..2 {
            for other in done.iter() {
                let dot: f64 = v.iter().zip(other).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let inverse = if length > 1e-12 { 1.0 / length } else { 0.0 };
        v.iter_mut().for_each(|x| *x *= inverse);
        lengths.push(length);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_directions_of_a_known_matrix() {
        // diag(9, 4, 1) turned by a rotation in the first two axes.
        let (c, s) = (0.6, 0.8);
        let turned = [
            9.0 * c * c + 4.0 * s * s,
            5.0 * c * s,
            0.0, //
            5.0 * c * s,
            9.0 * s * s + 4.0 * c * c,
            0.0, //
            0.0,
            0.0,
            1.0,
        ];
        let (vectors, sizes) = main_directions(&turned, 3, 2);
        assert!((sizes[0] - 9.0).abs() < 1e-9 && (sizes[1] - 4.0).abs() < 1e-9, "{sizes:?}");
        assert!((vectors[0][0].abs() - c).abs() < 1e-9 && (vectors[0][1].abs() - s).abs() < 1e-9);
    }

    #[test]
    fn the_background_is_each_tokens_own() {
        // Two tokens of one number over four frames: one flickers around 10, one never changes.
        let values = [9.0, 5.0, 11.0, 5.0, 9.0, 5.0, 11.0, 5.0];
        let set = TokenSet { values: &values, tokens: 2, dim: 1 };
        let background = Background::learn(&set, &[0, 1, 2, 3]);
        assert_eq!(background.mean, [10.0, 5.0]);
        // The still token's deviation is floored at 0.3 of the pooled √½.
        assert_eq!(background.std[0], 1.0);
        assert!((background.std[1] - 0.3 * 0.5f32.sqrt()).abs() < 1e-3, "{:?}", background.std);
        assert_eq!(background.departures(&[12.0, 5.0]), [2.0, 0.0]);
    }
}
