//! The embedding space: the name of what an embedding means.
//!
//! SHA-256 over, in this order:
//! 1. the domain `fth.embedding-space.v1` and a zero byte;
//! 2. the configuration's meaning-bearing values as lines `key=value`, keys in alphabetical order, integers in decimal,
//!    fractions as the 16 hexadecimal digits of their IEEE-754 bits, then a zero byte;
//! 3. every tensor of the encoder in the order of [`super::tensors::specs`]: its name, a zero byte, the number of its
//!    axes, each axis (all little-endian u64), and its numbers as little-endian f32.
//!
//! Left out, because they change no embedding: the decoder, the note about the weights' origin, the number format of the
//! file (f16 weights count as the f32 they widen to), and the landmarks of a model that a whole frame never sends
//! through Nyström attention.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::SpaceId;
use sha2::{Digest as _, Sha256};

use super::config::{Config, LandmarkKind, Pooling};
use super::error::ModelError;
use super::file::Weights;
use super::tensors::specs;

const DOMAIN: &str = "fth.embedding-space.v1";

/// The embedding space of a configuration and its weights (f32, on the CPU).
///
/// # Errors
/// Weights that lack a tensor of the configuration or are not f32.
pub fn id(config: &Config, weights: &Weights) -> Result<SpaceId, ModelError> {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update([0]);
    hash.update(meaning(config));
    hash.update([0]);
    for spec in specs(config).iter().filter(|spec| !spec.is_decoder()) {
        let tensor = weights.get(&spec.name).ok_or_else(|| ModelError::Missing {
            path: "the weights in memory".into(),
            tensor: spec.name.clone(),
            want: spec.shape.clone(),
            remedy: "this is a mistake in the program",
        })?;
        hash.update(&spec.name);
        hash.update([0]);
        hash.update((spec.shape.len() as u64).to_le_bytes());
        for axis in &spec.shape {
            hash.update((*axis as u64).to_le_bytes());
        }
        let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        hash_numbers(&mut hash, &values.map_err(ModelError::compute("naming the embedding space"))?);
    }
    Ok(SpaceId(hash.finalize().into()))
}

fn hash_numbers(hash: &mut Sha256, values: &[f32]) {
    let mut bytes = Vec::with_capacity(4 * 4096);
    for chunk in values.chunks(4096) {
        bytes.clear();
        chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        hash.update(&bytes);
    }
}

/// The meaning-bearing part of a configuration as text.
pub fn meaning(config: &Config) -> String {
    let mut lines = BTreeMap::from([
        ("model_type", config.model_type.clone()),
        ("height", config.height.to_string()),
        ("width", config.width.to_string()),
        ("patch", config.patch.to_string()),
        ("dim", config.dim.to_string()),
        ("depth", config.depth.to_string()),
        ("heads", config.heads.to_string()),
        ("dim_head", config.dim_head.to_string()),
        ("mlp", config.mlp.to_string()),
        ("embed_dim", config.embed_dim.to_string()),
        ("conv_kernel", config.conv_kernel.to_string()),
        ("qkv_bias", config.qkv_bias.to_string()),
        ("ln_eps", bits(config.ln_eps)),
        ("class_token", config.class_token.to_string()),
        ("preprocess.version", config.preprocess.version.to_string()),
        ("preprocess.mean", config.preprocess.mean.map(|v| bits(v.into())).join(",")),
        ("preprocess.std", config.preprocess.std.map(|v| bits(v.into())).join(",")),
        ("pooling.version", config.pooling.version().to_string()),
    ]);
    match &config.pooling {
        Pooling::Mean { .. } => {
            lines.insert("pooling", "mean".to_owned());
        }
        Pooling::Regions { rows, cols, .. } => {
            lines.insert("pooling", format!("regions {rows}x{cols}"));
        }
        Pooling::Cells { cells, rows, cols, .. } => {
            lines.insert("pooling", format!("cells {cells} in {rows}x{cols}"));
        }
    }
    if config.is_exact(config.tokens()) {
        lines.insert("attention", "exact".to_owned());
    } else {
        let kind = match config.landmark_kind {
            LandmarkKind::Rows => "rows",
            LandmarkKind::Blocks => "blocks",
        };
        lines.insert("attention", "nystrom".to_owned());
        lines.insert("landmark_kind", kind.to_owned());
        lines.insert("landmarks", config.landmarks.to_string());
        lines.insert("pinv_iterations", config.pinv_iterations.to_string());
    }
    lines.into_iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}"); // writing to a String cannot fail
        text
    })
}

fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}
