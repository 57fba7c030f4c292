//! Converting another package's checkpoint: a transformers ViT-MAE folder.
//!
//! ```text
//! config.json (hf) ─► Config ─┐
//! model.safetensors ─► names ─┴─► fold class token ─► interpolate positions ─► Config, Weights
//! ```
//! - The class token's position row is added to the class token itself: the two were only ever used as a sum.
//! - A checkpoint has no projection to an embedding. The imported model gets the identity: its embedding is the mean of
//!   the patch tokens after the last norm, `hidden_size` numbers wide, and its latent tokens are those tokens. Nothing
//!   is lost, and nothing is invented.
//! - Another input size interpolates the position embeddings bicubically, as transformers does.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use shared::preprocess::Preprocess;

mod hf;
pub mod interpolate;
mod names;

use self::names::Checkpoint;
use super::config::{Attention, Config, Decoder, LandmarkKind, MODEL_TYPE, Origin, Pooling};
use super::error::ModelError;
use super::file::Weights;

pub use hf::HfError;

/// What to do with a checkpoint's class token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ClassToken {
    /// Keep it in the sequence: the same numbers as transformers gives.
    #[default]
    Keep,
    /// Leave it out: patch tokens only, slightly other numbers, a plain grid.
    Drop,
}

/// How to convert a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What to do with the class token.
    pub class_token: ClassToken,
    /// Attention of the converted encoder.
    pub attention: Attention,
    /// Landmarks, if not as many as 256.
    pub landmarks: Option<usize>,
    /// Kind of landmarks.
    pub landmark_kind: LandmarkKind,
    /// Input height and width in pixels, if not the checkpoint's.
    pub size: Option<(usize, usize)>,
    /// Leave the decoder behind.
    pub encoder_only: bool,
}

/// Why a checkpoint could not be converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The folder's configuration cannot be converted.
    #[error(transparent)]
    Config(#[from] HfError),
    /// The weights file is not in the folder.
    #[error("{}: not found; {remedy}", path.display())]
    NoWeights {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor is missing under every name it is known by.
    #[error("{}: no tensor {}; the checkpoint is not a ViT-MAE's, or of a version with other names", path.display(), names.join(" or "))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The names tried.
        names: Vec<String>,
    },
    /// A tensor of an unexpected shape.
    #[error("{}: tensor `{tensor}` has shape {got:?}, its config.json wants {want:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        got: Vec<usize>,
        /// The shape wanted.
        want: Vec<usize>,
    },
    /// A tensor that nothing asked for: converting without it would make another model.
    #[error("{}: tensor `{tensor}` has no place in a ViT-MAE encoder; remove it if it is not needed", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Reading the weights, or a converted configuration that cannot work.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Landmarks of an imported model unless told otherwise.
const LANDMARKS: usize = 256;

/// Converts a transformers ViT-MAE folder (`config.json`, `model.safetensors`) as the hub holds it or as
/// `save_pretrained` of transformers 4 and 5 writes it.
///
/// # Errors
/// Another kind of model, a tensor that is missing, of another shape, or left over, or options that cannot work.
pub fn vit_mae(dir: &Path, options: &Options) -> Result<(Config, Weights), ImportError> {
    let source = hf::load(dir)?;
    let mut checkpoint = Checkpoint::open(dir)?;
    let config = convert_config(&source, options, checkpoint.has_decoder(), dir);
    config
        .validate()
        .map_err(|source| ModelError::Config { path: "the converted configuration".into(), source })?;

    let mut weights = Weights::new();
    let sizes = Sizes { from: source.grid(), to: config.grid() };
    encoder(&mut checkpoint, &config, sizes, &mut weights)?;
    if checkpoint.has_decoder() {
        let wanted = source.decoder();
        let mut decoder_weights = Weights::new();
        decoder(&mut checkpoint, &config, &wanted, sizes, &mut decoder_weights)?;
        if config.decoder.is_some() {
            weights.extend(decoder_weights);
        }
    }
    checkpoint.finish()?;
    Ok((config, weights))
}

fn convert_config(source: &hf::HfConfig, options: &Options, has_decoder: bool, dir: &Path) -> Config {
    let (height, width) = options.size.unwrap_or(source.image_size.pair());
    let decoder = (has_decoder && !options.encoder_only).then(|| source.decoder());
    let (mean, std) = source.statistics;
    Config {
        model_type: MODEL_TYPE.to_owned(),
        height,
        width,
        patch: source.patch_size.pair().0,
        dim: source.hidden_size,
        depth: source.num_hidden_layers,
        heads: source.num_attention_heads,
        dim_head: source.hidden_size / source.num_attention_heads,
        mlp: source.intermediate_size,
        embed_dim: source.hidden_size,
        attention: options.attention,
        landmarks: options.landmarks.unwrap_or(LANDMARKS),
        landmark_kind: options.landmark_kind,
        pinv_iterations: 6,
        conv_kernel: 0,
        qkv_bias: source.qkv_bias,
        ln_eps: source.layer_norm_eps,
        class_token: options.class_token == ClassToken::Keep,
        pooling: Pooling::Mean { version: 1 },
        preprocess: Preprocess { mean, std, ..Preprocess::imagenet(height as u32, width as u32) },
        decoder,
        weights: Some(Origin::Imported { from: format!("ViT-MAE, {}", folder_name(dir)) }),
        readout: None,
    }
}

/// The last part of a path: where a model lay on somebody's machine is nobody's business.
fn folder_name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| "checkpoint".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Patch grids before and after.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    from: (usize, usize),
    to: (usize, usize),
}

fn encoder(
    checkpoint: &mut Checkpoint,
    config: &Config,
    sizes: Sizes,
    weights: &mut Weights,
) -> Result<(), ImportError> {
    let (dim, patch) = (config.dim, config.patch);
    let projection =
        checkpoint.take("embeddings.patch_embeddings.projection.weight", &[dim, 3, patch, patch])?;
    let projection =
        projection.flatten_from(1).map_err(ModelError::compute("flattening the patch projection"))?;
    weights.insert("patch_embed.weight".to_owned(), projection);
    let bias = checkpoint.take("embeddings.patch_embeddings.projection.bias", &[dim])?;
    weights.insert("patch_embed.bias".to_owned(), bias);

    let patches = sizes.from.0 * sizes.from.1;
    let positions = checkpoint.take("embeddings.position_embeddings", &[1, 1 + patches, dim])?;
    let class = checkpoint.take("embeddings.cls_token", &[1, 1, dim])?;
    let (first, positions) = resize(&positions, sizes).map_err(ModelError::compute("resizing positions"))?;
    weights.insert("pos_embed".to_owned(), positions);
    if config.class_token {
        let class = class.flatten_all().and_then(|class| class + first);
        weights
            .insert("class_token".to_owned(), class.map_err(ModelError::compute("folding the class token"))?);
    }
    for layer in 0..config.depth {
        let shape = names::LayerShape { dim, inner: config.inner(), mlp: config.mlp, bias: config.qkv_bias };
        checkpoint.take_encoder_layer(layer, shape, &format!("blocks.{layer}"), weights)?;
    }
    for part in ["weight", "bias"] {
        weights.insert(format!("norm.{part}"), checkpoint.take(&format!("layernorm.{part}"), &[dim])?);
    }
    let identity = Tensor::eye(dim, DType::F32, &Device::Cpu);
    weights
        .insert("embed.weight".to_owned(), identity.map_err(ModelError::compute("making the projection"))?);
    let zeros = Tensor::zeros(dim, DType::F32, &Device::Cpu);
    weights.insert("embed.bias".to_owned(), zeros.map_err(ModelError::compute("making the projection"))?);
    Ok(())
}

fn decoder(
    checkpoint: &mut Checkpoint,
    config: &Config,
    decoder: &Decoder,
    sizes: Sizes,
    weights: &mut Weights,
) -> Result<(), ImportError> {
    let dim = decoder.dim;
    let mut put = |name: &str, tensor: Tensor| weights.insert(format!("decoder.{name}"), tensor);
    put("embed.weight", checkpoint.take("decoder.decoder_embed.weight", &[dim, config.dim])?);
    put("embed.bias", checkpoint.take("decoder.decoder_embed.bias", &[dim])?);
    let token = checkpoint.take("decoder.mask_token", &[1, 1, dim])?;
    put("mask_token", token.flatten_all().map_err(ModelError::compute("flattening the mask token"))?);
    let patches = sizes.from.0 * sizes.from.1;
    let positions = checkpoint.take("decoder.decoder_pos_embed", &[1, 1 + patches, dim])?;
    let (first, positions) = resize(&positions, sizes).map_err(ModelError::compute("resizing positions"))?;
    put("pos_embed", positions);
    if config.class_token {
        put("class_pos_embed", first);
    }
    for part in ["weight", "bias"] {
        put(&format!("norm.{part}"), checkpoint.take(&format!("decoder.decoder_norm.{part}"), &[dim])?);
    }
    let pixels = config.patch_dim();
    put("pred.weight", checkpoint.take("decoder.decoder_pred.weight", &[pixels, dim])?);
    put("pred.bias", checkpoint.take("decoder.decoder_pred.bias", &[pixels])?);
    for layer in 0..decoder.depth {
        let shape =
            names::LayerShape { dim, inner: decoder.inner(), mlp: decoder.mlp, bias: config.qkv_bias };
        checkpoint.take_decoder_layer(layer, shape, &format!("decoder.blocks.{layer}"), weights)?;
    }
    Ok(())
}

/// Splits `[1, 1 + patches, dim]` into the class token's row `[dim]` and the patches' `[patches, dim]`, the latter
/// resized to the new grid.
fn resize(positions: &Tensor, sizes: Sizes) -> candle_core::Result<(Tensor, Tensor)> {
    let positions = positions.squeeze(0)?;
    let (rows, dim) = positions.dims2()?;
    let grid = positions.narrow(0, 1, rows - 1)?.contiguous()?;
    let grid = if sizes.from == sizes.to {
        grid
    } else {
        let values = grid.flatten_all()?.to_vec1::<f32>()?;
        let resized = interpolate::bicubic(&values, dim, sizes.from, sizes.to);
        Tensor::from_vec(resized, (sizes.to.0 * sizes.to.1, dim), &Device::Cpu)?
    };
    Ok((positions.get(0)?, grid))
}
