//! One trait for every device that can run the encoder.
//!
//! ```text
//! decode ─► [Rgb, already input-sized] ─► Backend::encode ─► [Encoded] ─► session
//!                                          │ normalise, patchify (shared::preprocess)
//!                                          ├ cpu: packed weights, fused steps, f32, bf16 or bytes
//!                                          ├ cuda: NVIDIA's cards, f32 or bf16
//!                                          ├ wgpu: GPUs that CUDA does not reach, f32
//!                                          └ candle: the reference, on CPU or CUDA
//! decode ─► [Partial, some patches] ─► Backend::encode_partial ─► tokens ─► Memory of the camera ─► embedding
//! ```
//! One thread owns a backend: `encode` takes `&mut self`, and a device is never shared behind a lock.

use std::sync::Arc;

use protocol::SpaceId;
use shared::image::Rgb;

use crate::model::{Config, cost};

mod candle;
mod checked;
pub mod cpu;
pub mod cuda;
mod device;
mod open;
mod partial;
mod precision;
mod source;
mod waiting;
pub mod wgpu;

pub use candle::CandleBackend;
pub use device::{DeviceChoice, DeviceError, Opened, ParseDeviceError, select};
pub use open::{Choice, ChoiceArgs, Engine, open};
pub use partial::{Memory, Partial, Patches};
pub use precision::Precision;
pub use waiting::sleep_when_idle;

/// What is known about an open backend.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendInfo {
    /// The device in words: `CPU, 2 threads` or `CUDA device 0`.
    pub device: String,
    /// The compute path that is active: `candle 0.11, f32, AVX-512`.
    pub path: String,
    /// Why this device was taken, when it was chosen among several.
    pub reason: String,
    /// A short name of the model: its shape and size.
    pub model: String,
    /// A note for people about the weights: `random weights (seed 1)`.
    pub note: String,
    /// The embedding space of what [`Backend::encode`] returns.
    pub space: SpaceId,
    /// Numbers in one embedding.
    pub embed_dim: usize,
    /// Patches from top to bottom, from left to right, and numbers in one latent token.
    pub grid: (usize, usize, usize),
    /// Cells along one side of a latent token, see [`crate::model::Config::cells`].
    pub cells: usize,
    /// Height and width of the frames that [`Backend::encode`] takes, in pixels.
    pub input: (usize, usize),
    /// What [`Backend::encode_partial`] needs to be known, if this backend encodes frames of which patches are missing.
    pub patches: Option<Patches>,
    /// Most frames worth giving in one call: larger batches cost memory and gain nothing.
    pub max_batch: usize,
    /// Operations of encoding one frame: [`crate::model::cost`].
    pub flops: u64,
}

impl BackendInfo {
    /// What the model says; the words about device, path and reason are the backend's to fill in.
    fn of(config: &Config, space: SpaceId, max_batch: usize) -> Self {
        let (rows, cols) = config.grid();
        Self {
            device: String::new(),
            path: String::new(),
            reason: String::new(),
            model: candle::short_name(config),
            note: config.note(),
            space,
            embed_dim: config.embed_dim,
            grid: (rows, cols, config.latent_dim()),
            cells: config.cells(),
            input: (config.height, config.width),
            patches: None,
            max_batch,
            flops: cost::flops(config).total(),
        }
    }
}

/// One encoded frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The embedding, `[embed_dim]`.
    pub embedding: Vec<f32>,
    /// The latent tokens, `[rows * cols, latent_dim]` in reading order, if they were asked for.
    pub tokens: Option<Vec<f32>>,
}

/// Why a batch could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A frame of another size than the model's input.
    #[error(
        "frame {index} of the batch is {got_width}x{got_height}, the model takes {width}x{height}: resize it first"
    )]
    FrameSize {
        /// Its place in the batch.
        index: usize,
        /// Its width in pixels.
        got_width: u32,
        /// Its height in pixels.
        got_height: u32,
        /// The model's input width in pixels.
        width: u32,
        /// The model's input height in pixels.
        height: u32,
    },
    /// Patches are missing, and this backend encodes whole frames only.
    #[error(
        "{device} encodes whole frames only: set `uplink.patches = \"all\"`, or serve on the processor (`--device cpu`)"
    )]
    WholeFrames {
        /// The device in words.
        device: String,
    },
    /// The device failed: out of memory, lost, or an operation it does not have.
    #[error("{device} failed on a batch of {batch}: {source}")]
    Device {
        /// The device in words.
        device: String,
        /// Frames in the batch.
        batch: usize,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model gave a number that is not finite.
    #[error("frame {index} of the batch: the embedding is not finite; the weights or the device are damaged")]
    NotFinite {
        /// Its place in the batch.
        index: usize,
    },
}

/// A device that encodes frames.
pub trait Backend: Send {
    /// What is known about this backend.
    fn info(&self) -> BackendInfo;

    /// Encodes a batch of frames of the model's input size; with `tokens`, also returns their latent tokens.
    ///
    /// A frame's numbers do not depend on its neighbours in the batch, beyond rounding.
    ///
    /// # Errors
    /// A frame of the wrong size, or a failing device. An empty batch gives an empty answer.
    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError>;

    /// Encodes frames of which only some patches are known, each by those alone, and returns their latent tokens
    /// `[patches, latent_dim]` in reading order. Frames with as many patches share a batch.
    ///
    /// # Errors
    /// As [`Backend::encode`]; [`BackendError::WholeFrames`] unless [`BackendInfo::patches`] says otherwise.
    fn encode_partial(&mut self, batch: &[Partial]) -> Result<Vec<Vec<f32>>, BackendError> {
        match batch {
            [] => Ok(Vec::new()),
            _ => Err(BackendError::WholeFrames { device: self.info().device }),
        }
    }

    /// Operations of encoding a frame of which so many patches are known; the share of a whole one's, unless a backend
    /// knows better.
    fn partial_flops(&self, patches: usize) -> u64 {
        let BackendInfo { flops, grid: (rows, cols, _), .. } = self.info();
        flops * patches as u64 / (rows * cols).max(1) as u64
    }
}

/// Why no backend could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device asked for cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model folder cannot be used.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// The processor's own path cannot run it.
    #[error(transparent)]
    Cpu(#[from] cpu::CpuError),
    /// A CUDA device cannot run it.
    #[error(transparent)]
    Cuda(#[from] cuda::CudaError),
    /// A GPU cannot run it.
    #[error(transparent)]
    Wgpu(#[from] wgpu::WgpuError),
    /// Backend, device and precision do not go together.
    #[error("{what} does not exist: {remedy}")]
    Combination {
        /// What was asked for.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
}
