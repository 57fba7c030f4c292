//! `config.json`: the shape of an encoder and everything that gives its numbers a meaning.
//!
//! Unknown keys are refused: a typo that passed silently would be another model.

use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::preprocess::Preprocess;

use super::{cells, cost};

mod validate;

/// The only value of `model_type` this crate reads.
pub const MODEL_TYPE: &str = "nystrom-vit";
/// Largest `config.json` read, in bytes (a real one is about 1 KiB).
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// An encoder's configuration, as stored in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always [`MODEL_TYPE`].
    pub model_type: String,
    /// Input height in pixels; a multiple of `patch`.
    pub height: usize,
    /// Input width in pixels; a multiple of `patch`.
    pub width: usize,
    /// Side of a square patch in pixels.
    pub patch: usize,
    /// Width of a token.
    pub dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head; `heads * dim_head` need not equal `dim`.
    pub dim_head: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Numbers in one embedding.
    pub embed_dim: usize,
    /// Exact, Nyström, or by shape.
    #[serde(default)]
    pub attention: Attention,
    /// Most landmarks of Nyström attention.
    pub landmarks: usize,
    /// What a landmark is the mean of.
    #[serde(default)]
    pub landmark_kind: LandmarkKind,
    /// Iterations of the pseudo-inverse.
    #[serde(default = "default_pinv_iterations")]
    pub pinv_iterations: usize,
    /// Width of the depthwise residual convolution over tokens; odd, 0 = none.
    #[serde(default)]
    pub conv_kernel: usize,
    /// Whether query, key and value have a bias.
    #[serde(default)]
    pub qkv_bias: bool,
    /// Added to the variance in every LayerNorm.
    #[serde(default = "default_ln_eps")]
    pub ln_eps: f64,
    /// Whether a class token runs in front of the patches (imported models).
    #[serde(default)]
    pub class_token: bool,
    /// How the embedding is made from the tokens.
    pub pooling: Pooling,
    /// From pixels to the encoder's input.
    pub preprocess: Preprocess,
    /// The decoder used in pretraining; not needed to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Decoder>,
    /// Where the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Origin>,
    /// How the readout of latent tokens was fitted, in words; none where it came with the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<String>,
}

fn default_pinv_iterations() -> usize {
    6
}

fn default_ln_eps() -> f64 {
    1e-5
}

/// Which attention the blocks compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Whichever takes fewer operations for the sequence: Nyström from about 2000 tokens at 256 landmarks.
    #[default]
    Auto,
    /// Always exact.
    Exact,
    /// Nyström; a whole frame must have at least as many tokens as there are landmarks.
    Nystrom,
}

/// How tokens are grouped into landmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LandmarkKind {
    /// Runs of consecutive tokens: landmark `i` is the mean of tokens `floor(i*n/m)..floor((i+1)*n/m)`.
    #[default]
    Rows,
    /// Two-dimensional blocks of the patch grid; blocks without a token are dropped.
    Blocks,
}

/// How the embedding is made from the tokens: named and versioned, because heads depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Pooling {
    /// The mean of the latent tokens (`embed_dim` wide).
    Mean {
        /// 1.
        version: u32,
    },
    /// The means of the latent tokens over `rows * cols` regions of the picture, one after another in reading
    /// order. A latent token is `embed_dim / (rows * cols)` wide.
    Regions {
        /// 1.
        version: u32,
        /// Regions from top to bottom.
        rows: usize,
        /// Regions from left to right.
        cols: usize,
    },
    /// Latent tokens with an address: number `(channel, i, j)` of a token reads the log-colour of cell `(i, j)` of its
    /// patch (see [`super::cells`]), so the grid of tokens is three maps of the picture. The embedding is, for each of
    /// `rows * cols` regions of those maps in reading order, the three channels' means and the deviation of the first.
    Cells {
        /// 1.
        version: u32,
        /// Cells along a patch's side; a latent token is `3 * cells²` wide.
        cells: usize,
        /// Regions from top to bottom.
        rows: usize,
        /// Regions from left to right.
        cols: usize,
    },
}

impl Pooling {
    /// Regions from top to bottom and from left to right; `(1, 1)` for the mean.
    pub fn regions(&self) -> (usize, usize) {
        match *self {
            Self::Mean { .. } => (1, 1),
            Self::Regions { rows, cols, .. } | Self::Cells { rows, cols, .. } => (rows, cols),
        }
    }

    /// The version of the recipe.
    pub fn version(&self) -> u32 {
        match *self {
            Self::Mean { version } | Self::Regions { version, .. } | Self::Cells { version, .. } => version,
        }
    }
}

/// The light decoder of masked pretraining; always exact attention, no convolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Width of a token.
    pub dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub dim_head: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// What its predictions mean.
    #[serde(default, skip_serializing_if = "TargetKind::is_default")]
    pub target: TargetKind,
}

/// What the decoder predicts of a patch, and how its error is weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// Pixels less the patch's own mean, divided by its own deviation: structure, whatever the light (He et al., 2022).
    #[default]
    Normalised,
    /// Pixels as the encoder takes them: absolute brightness and colour.
    Raw,
    /// Pixels as the encoder takes them, the error of each patch weighed by `1/2 + 1/2 / (its variance + 0.05)`:
    /// absolute brightness, and structure where there is little contrast.
    Mixed,
}

impl TargetKind {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a model's weights come from. A note for people: not part of the embedding space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "lowercase", deny_unknown_fields)]
pub enum Origin {
    /// Never trained.
    Random {
        /// Seed of `model init`.
        seed: u64,
    },
    /// Converted from another package's checkpoint.
    Imported {
        /// What it was, in words.
        from: String,
    },
    /// Trained here.
    Trained {
        /// How, in words.
        note: String,
    },
}

impl Origin {
    /// A few words for people: `random weights (seed 1)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Random { seed } => format!("random weights (seed {seed})"),
            Self::Imported { from } => format!("imported from {from}"),
            Self::Trained { note } => format!("trained: {note}"),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, an unknown key, a missing key or a value of the wrong type.
    #[error("not an encoder configuration: {0}")]
    Json(#[from] serde_json::Error),
    /// A configuration of another kind of model.
    #[error("`model_type` is {got:?}, want {MODEL_TYPE:?}; {remedy}")]
    ModelType {
        /// The value found.
        got: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Preprocessing that cannot be followed.
    #[error("`preprocess`: {0}")]
    Preprocess(#[from] shared::preprocess::PreprocessError),
    /// A value that cannot work.
    #[error("`{key}` is {got}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        why: String,
    },
}

impl Config {
    /// Reads and checks a configuration from the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("model_type").and_then(|v| v.as_str()) {
            Some(MODEL_TYPE) | None => {}
            Some(other) => {
                let remedy = match other {
                    "vit_mae" => "convert a transformers checkpoint with `dc-encoder model import`",
                    _ => "this folder belongs to another program",
                };
                return Err(ConfigError::ModelType { got: other.to_owned(), remedy });
            }
        }
        // From the text, not from the value: errors then name line and column.
        let config: Self = serde_json::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// The text of a `config.json`.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("every field is a plain JSON value");
        text.push('\n');
        text
    }

    /// Patches from top to bottom and from left to right.
    pub fn grid(&self) -> (usize, usize) {
        (self.height / self.patch, self.width / self.patch)
    }

    /// Patches of one frame.
    pub fn patches(&self) -> usize {
        let (rows, cols) = self.grid();
        rows * cols
    }

    /// Tokens in the sequence of one whole frame: its patches, and the class token if there is one.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.class_token)
    }

    /// Numbers in one patch: `3 * patch * patch`.
    pub fn patch_dim(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Width of queries, keys and values over all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.dim_head
    }

    /// Width of one latent token.
    pub fn latent_dim(&self) -> usize {
        let (rows, cols) = self.pooling.regions();
        match self.pooling {
            Pooling::Mean { .. } | Pooling::Regions { .. } => self.embed_dim / (rows * cols),
            Pooling::Cells { cells, .. } => cells::CHANNELS * cells * cells,
        }
    }

    /// Cells along a patch's side: a grid of latent tokens is `latent_dim / cells²` maps of the picture, each
    /// `[grid rows * cells, grid cols * cells]`. 1 where a token's numbers have no place inside the patch.
    pub fn cells(&self) -> usize {
        match self.pooling {
            Pooling::Mean { .. } | Pooling::Regions { .. } => 1,
            Pooling::Cells { cells, .. } => cells,
        }
    }

    /// Whether a sequence of `tokens` goes through exact attention.
    ///
    /// `auto` counts operations and does not time anything: what a model computes, and so its embedding space, must
    /// not depend on the machine. Where Nyström is asked for, only a sequence too short for it is exact.
    pub fn is_exact(&self, tokens: usize) -> bool {
        match self.attention {
            Attention::Exact => true,
            Attention::Auto => cost::exact_is_cheaper(self, tokens),
            Attention::Nystrom => tokens < self.landmarks,
        }
    }

    /// A few words about the weights: `random weights (seed 1)`.
    pub fn note(&self) -> String {
        let origin =
            self.weights.as_ref().map_or_else(|| "weights of unrecorded origin".to_owned(), Origin::describe);
        self.readout.as_ref().map_or(origin.clone(), |readout| format!("{origin}; readout {readout}"))
    }
}

impl Decoder {
    /// Width of queries, keys and values over all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.dim_head
    }
}

/// Reads at most `limit` bytes of UTF-8 from a file.
///
/// # Errors
/// Whatever opening or reading gives, or `InvalidData` naming the size when the file is larger.
pub(crate) fn read_text(path: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if read as u64 > limit {
        let message = format!("larger than the limit of {limit} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}
