//! Whether two ways of computing embeddings may be mixed: the contract, and how it is measured.
//!
//! ```text
//! probe frames ─┬─ reference (f32) ─► embeddings ─┐
//!               └─ other precision ─► embeddings ─┴─► Agreement ─► within the contract: the same space
//!                                                               └► beyond it: a space of its own
//! ```
//! Heads for a fixed camera look at small changes between frames that are nearly alike, so the error of the *difference
//! between frames* decides, not only the error of the embedding: two embeddings may agree to a per mille while what
//! changed between them is lost in it.

use std::fmt;
use std::sync::Arc;

use protocol::SpaceId;
use sha2::{Digest as _, Sha256};
use shared::image::Rgb;

use crate::backend::cpu::Encoder;
use crate::backend::{Encoded, Precision};
use crate::model::Config;

/// How far two ways of computing the same embedding may be apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contract {
    /// Least cosine of two embeddings of a frame.
    pub cosine: f64,
    /// Largest error of the difference between two frames, as a share of that difference (Euclidean norms).
    pub difference: f64,
}

/// Backends that compute in f32: rounding alone, in another order.
pub const F32: Contract = Contract { cosine: 0.999_999, difference: 1e-3 };

/// What may share an embedding space with f32: heads trained on one answer the same on the other.
///
/// As strict as [`F32`], because of the strictest head: the median of trees that vote for whole people jumps by one when a
/// vote at the edge changes, and an error of 0.9 % moved a quarter of such answers (linear heads: none).
pub const SHARED: Contract = F32;

/// What rounding alone may do to any model; beyond it something else is wrong.
pub const ROUNDED: Contract = Contract { cosine: 0.999, difference: 0.2 };

/// How two sets of embeddings of the same frames agree.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Agreement {
    /// Largest error of one number.
    pub absolute: f64,
    /// Largest error of one number as a share of the largest number of its embedding.
    pub relative: f64,
    /// Least cosine, less one: `1 - cosine`.
    pub angle: f64,
    /// Largest error of the difference between two neighbouring frames, as a share of that difference.
    pub difference: f64,
}

impl Agreement {
    /// Compares embeddings of the same frames in the same order.
    pub fn of(reference: &[Encoded], got: &[Encoded]) -> Self {
        let mut worst = Self::default();
        for (want, got) in reference.iter().zip(got) {
            let (want, got) = (&want.embedding, &got.embedding);
            let error = want.iter().zip(got).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, nan_max);
            let largest = want.iter().map(|v| f64::from(v.abs())).fold(f64::MIN_POSITIVE, f64::max);
            worst.absolute = nan_max(worst.absolute, error);
            worst.relative = nan_max(worst.relative, error / largest);
            worst.angle = nan_max(worst.angle, 1.0 - cosine(want, got));
        }
        for (want, got) in reference.windows(2).zip(got.windows(2)) {
            let change = minus(&want[1].embedding, &want[0].embedding);
            let error = minus_wide(&minus(&got[1].embedding, &got[0].embedding), &change);
            worst.difference = nan_max(worst.difference, norm(&error) / norm(&change).max(f64::MIN_POSITIVE));
        }
        worst
    }

    /// Whether a contract holds; nothing that is not a number passes.
    pub fn within(&self, contract: &Contract) -> bool {
        1.0 - self.angle >= contract.cosine && self.difference <= contract.difference
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { angle, difference, .. } = self;
        write!(f, "1 - cosine {angle:.1e}, difference between frames off by {:.2} %", 100.0 * difference)
    }
}

/// The larger, and NaN if either is.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn minus(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

fn minus_wide(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (a, b) = (wide(a), wide(b));
    let dot: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    dot / (norm(&a) * norm(&b)).max(f64::MIN_POSITIVE)
}

/// Frames of a scene in which little changes: a textured ground, a few figures that move, light that drifts.
pub fn probe_frames(config: &Config, count: usize) -> Vec<Arc<Rgb>> {
    (0..count).map(|number| Arc::new(probe_frame(config.width, config.height, number))).collect()
}

fn probe_frame(width: usize, height: usize, number: usize) -> Rgb {
    let mut data = Vec::with_capacity(3 * width * height);
    let gain = 1000 + 12 * number;
    for y in 0..height {
        for x in 0..width {
            let grain = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 7 & 15;
            let ground = 70 + 90 * y / height + 25 * (x * 7 / width % 2) + grain;
            data.extend([ground, ground + 8, ground + 20 - grain].map(|v| (v * gain / 1000).min(255) as u8));
        }
    }
    let (tall, wide) = (height / 8, width / 32);
    for figure in 0..6 {
        let left = (figure * width / 6 + number * (figure + 1) * width / 60) % (width - wide);
        let top = height / 4 + figure * height / 16;
        for y in top..(top + tall).min(height) {
            for x in left..left + wide {
                data[3 * (y * width + x)..][..3].copy_from_slice(&[40 + 30 * figure as u8, 60, 90]);
            }
        }
    }
    Rgb::new(width as u32, height as u32, data).expect("three bytes a pixel")
}

/// Frames that a server compares precisions on before it serves: enough for two differences.
pub(crate) const PROBES: usize = 3;

/// Compares two encoders of the same weights on probe frames.
pub fn probe(reference: &mut Encoder, other: &mut Encoder) -> Agreement {
    let frames = probe_frames(reference.config(), PROBES);
    Agreement::of(&reference.frames(&frames, false), &other.frames(&frames, false))
}

/// The embedding space of what a way of rounding (`bf16`, or `bf16, CUDA`) makes of weights whose f32 embeddings are in
/// `of`: the same if the two may be mixed, else another, which no head and no embedding of the first meets.
pub fn space(of: SpaceId, way: &str, agreement: &Agreement) -> SpaceId {
    if agreement.within(&SHARED) {
        return of;
    }
    let mut hash = Sha256::new();
    hash.update("fth.embedding-space.precision.v1\0");
    hash.update(way);
    hash.update(of.0);
    SpaceId(hash.finalize().into())
}

/// What was found, for people.
pub fn verdict(precision: Precision, agreement: &Agreement) -> String {
    let what = if agreement.within(&SHARED) {
        "shares the embedding space of f32"
    } else {
        "beyond the contract, so it has an embedding space of its own: train heads on embeddings in this precision"
    };
    format!("{precision} against f32 on probe frames: {agreement}; {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(numbers: &[f32]) -> Encoded {
        Encoded { embedding: numbers.to_vec(), tokens: None }
    }

    #[test]
    fn a_small_error_of_the_embedding_can_be_all_of_a_difference() {
        let want = [encoded(&[100.0, 0.0]), encoded(&[100.0, 0.1])];
        let got = [encoded(&[100.0, 0.0]), encoded(&[100.0, 0.2])];
        let agreement = Agreement::of(&want, &got);
        assert!(agreement.angle < 1e-6 && (agreement.difference - 1.0).abs() < 1e-3, "{agreement:?}");
        assert!(!agreement.within(&SHARED));
        assert!(Agreement::of(&want, &want).within(&F32));
        assert!(!Agreement::of(&want, &[encoded(&[f32::NAN, 0.0]), encoded(&[1.0, 0.0])]).within(&SHARED));
    }

    #[test]
    fn what_is_beyond_the_contract_gets_a_space_of_its_own() {
        let of = SpaceId([1; 32]);
        let (good, bad) = (Agreement::default(), Agreement { difference: 0.5, ..Agreement::default() });
        assert_eq!(space(of, "bf16", &good), of);
        let [bf16, int8, cuda] = ["bf16", "int8", "bf16, CUDA"].map(|way| space(of, way, &bad));
        assert!(bf16 != of && int8 != of && cuda != of && bf16 != int8 && bf16 != cuda);
    }
}
