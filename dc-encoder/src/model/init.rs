//! Seeded weights, the same on every machine.
//!
//! Each tensor has a generator of its own (ChaCha8, keyed by SHA-256 of `fth.init.v1`, the seed and the tensor's
//! name), so a tensor depends on the seed, its name and its shape alone. Distributions are those of the
//! masked-autoencoder code (He et al., 2022):
//!
//! | tensor | start |
//! |---|---|
//! | linear layers, patch embedding | Xavier uniform, `±sqrt(6 / (in + out))` |
//! | biases; LayerNorm shift; LayerNorm scale | 0; 0; 1 |
//! | position embeddings | fixed sines and cosines of column and row |
//! | class and mask token | normal, deviation 0.02, cut at two deviations |
//! | residual convolution | uniform, `±1 / sqrt(kernel)` |
//!
//! Only exact or library-independent arithmetic is used (`libm` for sine, cosine, logarithm, power).

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::config::Config;
use super::error::ModelError;
use super::file::Weights;
use super::tensors::{Role, Spec, specs};

const DOMAIN: &str = "fth.init.v1";
/// Deviation of a learned token at the start.
const TOKEN_DEVIATION: f64 = 0.02;

/// Random weights for a configuration, encoder and (if it has one) decoder.
///
/// # Errors
/// No memory for a tensor.
pub fn random(config: &Config, seed: u64) -> Result<Weights, ModelError> {
    let grid = config.grid();
    specs(config)
        .into_par_iter()
        .map(|spec| {
            let values = values(&spec, grid, seed);
            let tensor = Tensor::from_vec(values, spec.shape, &Device::Cpu);
            Ok((spec.name, tensor.map_err(ModelError::compute("making weights"))?))
        })
        .collect()
}

/// The generator of one tensor.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let key = Sha256::new().chain_update(DOMAIN).chain_update(seed.to_le_bytes()).chain_update(name);
    ChaCha8Rng::from_seed(key.finalize().into())
}

fn values(spec: &Spec, grid: (usize, usize), seed: u64) -> Vec<f32> {
    let mut random = generator(seed, &spec.name);
    match spec.role {
        Role::Bias => vec![0.0; spec.len()],
        Role::Scale => vec![1.0; spec.len()],
        Role::Position => positions(grid, spec.shape[1]),
        Role::Token => (0..spec.len()).map(|_| (TOKEN_DEVIATION * normal(&mut random)) as f32).collect(),
        Role::Linear => {
            let fans = (spec.shape[0] + spec.shape[1]) as f64;
            uniform(&mut random, (6.0 / fans).sqrt() as f32, spec.len())
        }
        Role::Conv => uniform(&mut random, (1.0 / spec.shape[2] as f64).sqrt() as f32, spec.len()),
    }
}

/// `count` numbers in `[-bound, bound)`, from 24 random bits each.
fn uniform(random: &mut ChaCha8Rng, bound: f32, count: usize) -> Vec<f32> {
    (0..count).map(|_| ((random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0) * bound).collect()
}

/// A standard normal number within two deviations (Box and Muller, drawn again when outside).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    loop {
        let unit = |bits: u32| (f64::from(bits) + 0.5) / 4_294_967_296.0;
        let (a, b) = (unit(random.next_u32()), unit(random.next_u32()));
        let value = (-2.0 * libm::log(a)).sqrt() * libm::cos(std::f64::consts::TAU * b);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

/// Fixed position embeddings `[rows * cols, width]`, as in the masked-autoencoder code: a quarter of the width each for
/// sine of the column, cosine of the column, sine of the row, cosine of the row, at wavelengths from `2 pi` to
/// `10000 * 2 pi` patches. What a width that is no multiple of four leaves over stays zero.
pub fn positions(grid: (usize, usize), width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let rates: Vec<f64> =
        (0..quarter).map(|i| 1.0 / libm::pow(10_000.0, i as f64 / quarter as f64)).collect();
    let mut values = vec![0f32; grid.0 * grid.1 * width];
    for (patch, token) in values.chunks_exact_mut(width).enumerate() {
        for (axis, place) in [patch % grid.1, patch / grid.1].into_iter().enumerate() {
            for (i, rate) in rates.iter().enumerate() {
                let angle = place as f64 * rate;
                token[(2 * axis) * quarter + i] = libm::sin(angle) as f32;
                token[(2 * axis + 1) * quarter + i] = libm::cos(angle) as f32;
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_depends_on_seed_and_name_only() {
        let draw = |seed, name| uniform(&mut generator(seed, name), 1.0, 4);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        // Pinned: weights made from a seed must stay what they are.
        assert_eq!(draw(1, "patch_embed.weight"), PINNED);
    }

    const PINNED: [f32; 4] = [-0.868_350_27, 0.148_356_2, -0.350_219_6, -0.692_374_1];

    #[test]
    fn distributions_have_the_promised_width() {
        let mut random = generator(7, "test");
        let values = uniform(&mut random, 0.5, 20_000);
        assert!(values.iter().all(|v| (-0.5..0.5).contains(v)));
        let variance = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / 20_000.0;
        assert!((variance - 0.25 / 3.0).abs() < 0.003, "{variance}");
        let normals: Vec<f64> = (0..20_000).map(|_| normal(&mut random)).collect();
        let deviation = (normals.iter().map(|v| v * v).sum::<f64>() / 20_000.0).sqrt();
        assert!(
            (deviation - 0.88).abs() < 0.02,
            "a normal cut at two deviations has deviation 0.88: {deviation}"
        );
    }

    #[test]
    fn positions_begin_at_zero_and_tell_rows_from_columns() {
        let values = positions((2, 3), 9);
        let token = |i: usize| &values[9 * i..9 * (i + 1)];
        assert_eq!(token(0), [0., 0., 1., 1., 0., 0., 1., 1., 0.]);
        assert!((token(1)[0] - 1f32.sin()).abs() < 1e-7 && token(1)[4] == 0.0);
        assert!((token(3)[4] - 1f32.sin()).abs() < 1e-7 && token(3)[0] == 0.0);
        assert!((token(1)[1] - 0.01f32.sin()).abs() < 1e-7);
    }
}
