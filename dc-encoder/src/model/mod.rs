//! The encoder model: a vision transformer with Nyström attention, and its masked-autoencoder pretraining.
//!
//! ```text
//! config, preset ─► tensors (names, shapes) ─► init | file (load, save) | import ─► Model
//!
//! image ─► patches ─► patch_embed + pos_embed ─► blocks (layers, attention) ─► norm ─► pool ─► embedding
//!                          └─► mae: visible patches only ─► decoder ─► loss
//! ```
//! A model is a folder in the Hugging Face layout: `config.json` and `model.safetensors`, whose names mirror the module
//! tree. [`space`] gives what its embeddings mean a name; [`cost`] says what a frame costs.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use protocol::SpaceId;

pub mod attention;
pub mod cells;
pub mod config;
pub mod cost;
mod encoder;
mod error;
pub mod file;
pub mod import;
pub mod init;
pub mod inspect;
pub mod layers;
pub mod mae;
pub mod ops;
pub mod patches;
mod pool;
pub mod preset;
pub mod space;
pub mod tensors;

pub use config::{Config, ConfigError};
pub use encoder::{Encoder, Output};
pub use error::ModelError;
pub use pool::Pool;
pub(crate) use pool::region_tokens;

/// An encoder ready to serve: its configuration, its weights on a device, and the name of its embedding space.
#[derive(Debug, Clone)]
pub struct Model {
    encoder: Encoder,
    space: SpaceId,
    device: Device,
}

impl Model {
    /// Reads a model folder onto a device. The decoder's tensors, if there are any, are checked and left aside.
    ///
    /// # Errors
    /// Anything missing, unexpected, of the wrong shape or number format, or not finite, named with its file and with
    /// what to do.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, ModelError> {
        let (config, mut weights) = file::load(dir)?;
        weights.retain(|name, _| !name.starts_with(tensors::DECODER));
        Self::from_weights(&config, weights, device)
    }

    /// Builds a model from weights in memory (f32, see [`tensors::specs`]).
    ///
    /// # Errors
    /// A device that fails or runs out of memory.
    pub fn from_weights(
        config: &Config,
        weights: file::Weights,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let space = space::id(config, &weights)?;
        let vb = VarBuilder::from_tensors(weights, DType::F32, device);
        let encoder = Encoder::new(config, vb).map_err(ModelError::compute("building the encoder"))?;
        Ok(Self { encoder, space, device: device.clone() })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        self.encoder.config()
    }

    /// The name of the embedding space.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The network.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Normalised images `[batch, 3, height, width]` (see [`shared::preprocess`]) to latent tokens
    /// `[batch, patches, latent_dim]` and embeddings `[batch, embed_dim]`.
    ///
    /// # Errors
    /// Images of another shape, or a device that fails.
    pub fn forward(&self, images: &Tensor) -> candle_core::Result<Output> {
        self.encoder.forward(images)
    }
}
