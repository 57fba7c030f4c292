//! The configuration of a transformers ViT-MAE checkpoint.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::config::{Decoder, MAX_CONFIG_BYTES, TargetKind, read_text};

/// Why a checkpoint's configuration cannot be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HfError {
    /// A file could not be read.
    #[error("{}: {source}; a checkpoint is a folder with config.json and model.safetensors", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not JSON, or a value has another type.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A value this encoder does not have.
    #[error("{}: `{key}` is {got}, want {want}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What can be converted.
        want: &'static str,
    },
}

/// A side, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Square(usize),
    Pair(usize, usize),
}

impl Size {
    pub(super) fn pair(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side, side),
            Self::Pair(height, width) => (height, width),
        }
    }
}

/// The keys that matter; a checkpoint has many more, which is why unknown ones are let pass here. Defaults are those of
/// transformers' `ViTMAEConfig`, which leaves them out of files in some versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct HfConfig {
    model_type: String,
    hidden_act: String,
    num_channels: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) layer_norm_eps: f64,
    pub(super) image_size: Size,
    pub(super) patch_size: Size,
    pub(super) qkv_bias: bool,
    decoder_hidden_size: usize,
    decoder_num_hidden_layers: usize,
    decoder_num_attention_heads: usize,
    decoder_intermediate_size: usize,
    /// Whether the decoder predicts patches without their own mean and deviation.
    norm_pix_loss: bool,
    /// Mean and deviation of the channels, from `preprocessor_config.json`.
    #[serde(skip)]
    pub(super) statistics: ([f32; 3], [f32; 3]),
}

impl Default for HfConfig {
    fn default() -> Self {
        let imagenet = shared::preprocess::Preprocess::imagenet(1, 1);
        Self {
            model_type: String::new(),
            hidden_act: "gelu".to_owned(),
            num_channels: 3,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            layer_norm_eps: 1e-12,
            image_size: Size::Square(224),
            patch_size: Size::Square(16),
            qkv_bias: true,
            decoder_hidden_size: 512,
            decoder_num_hidden_layers: 8,
            decoder_num_attention_heads: 16,
            decoder_intermediate_size: 2048,
            norm_pix_loss: false,
            statistics: (imagenet.mean, imagenet.std),
        }
    }
}

/// `preprocessor_config.json`, as far as it matters.
#[derive(Debug, Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// Reads and checks `config.json` and, if it is there, `preprocessor_config.json`.
pub(super) fn load(dir: &Path) -> Result<HfConfig, HfError> {
    let path = dir.join("config.json");
    let mut config: HfConfig = read_json(&path)?;
    config.check(&path)?;
    let path = dir.join("preprocessor_config.json");
    if path.exists() {
        let preprocessor: Preprocessor = read_json(&path)?;
        let (mean, std) = config.statistics;
        config.statistics = (preprocessor.image_mean.unwrap_or(mean), preprocessor.image_std.unwrap_or(std));
    }
    Ok(config)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, HfError> {
    let text = read_text(path, MAX_CONFIG_BYTES)
        .map_err(|source| HfError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| HfError::Json { path: path.to_owned(), source })
}

impl HfConfig {
    /// Patches from top to bottom and from left to right.
    pub(super) fn grid(&self) -> (usize, usize) {
        let ((height, width), (patch, _)) = (self.image_size.pair(), self.patch_size.pair());
        (height / patch, width / patch)
    }

    pub(super) fn decoder(&self) -> Decoder {
        Decoder {
            dim: self.decoder_hidden_size,
            depth: self.decoder_num_hidden_layers,
            heads: self.decoder_num_attention_heads,
            dim_head: self.decoder_hidden_size / self.decoder_num_attention_heads,
            mlp: self.decoder_intermediate_size,
            target: if self.norm_pix_loss { TargetKind::Normalised } else { TargetKind::Raw },
        }
    }

    fn check(&self, path: &Path) -> Result<(), HfError> {
        let refuse =
            |key, got: String, want| Err(HfError::Unsupported { path: path.to_owned(), key, got, want });
        if self.model_type != "vit_mae" {
            return refuse("model_type", format!("{:?}", self.model_type), "\"vit_mae\"");
        }
        if self.hidden_act != "gelu" {
            return refuse("hidden_act", format!("{:?}", self.hidden_act), "\"gelu\" (the exact one)");
        }
        if self.num_channels != 3 {
            return refuse("num_channels", self.num_channels.to_string(), "3");
        }
        let ((height, width), (patch, patch_width)) = (self.image_size.pair(), self.patch_size.pair());
        if patch == 0 || patch != patch_width {
            return refuse("patch_size", format!("{patch}x{patch_width}"), "square patches");
        }
        if !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            return refuse("image_size", format!("{height}x{width}"), "a multiple of `patch_size`");
        }
        for (key, width, heads) in [
            ("num_attention_heads", self.hidden_size, self.num_attention_heads),
            ("decoder_num_attention_heads", self.decoder_hidden_size, self.decoder_num_attention_heads),
        ] {
            if heads == 0 || !width.is_multiple_of(heads) {
                return refuse(key, heads.to_string(), "a divisor of the width");
            }
        }
        Ok(())
    }
}
