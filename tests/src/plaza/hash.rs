//! Randomness as a function: a value for every `(seed, key…)`, the same on every machine.

use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Mixes a seed and keys into one number (splitmix64 finaliser, Steele et al. 2014).
pub(super) fn of(seed: u64, keys: &[u64]) -> u64 {
    keys.iter().fold(mix(seed), |state, key| mix(state ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator for `(seed, key…)`.
pub(super) fn rng(seed: u64, keys: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(of(seed, keys))
}

/// Smooth noise in `[0, 1)`: independent values at whole numbers of `x`, cosine-free cubic between them.
pub(super) fn smooth(seed: u64, stream: u64, x: f64) -> f64 {
    let floor = x.floor();
    let at = |k: f64| rng(seed, &[stream, (k as i64) as u64]).random::<f64>();
    let t = x - floor;
    let blend = t * t * (3.0 - 2.0 * t);
    at(floor) * (1.0 - blend) + at(floor + 1.0) * blend
}
