//! The encoder on any GPU that wgpu reaches, in f32: for AMD, Intel, Apple and the like, where CUDA is not.
//!
//! ```text
//! frames ─► upload ─► network (layers, attention | nystrom) ─► readout ─► download ─► [Encoded]
//!                       └ steps: kernels in WGSL (`shaders/`), compiled once with every shape written in
//!                           └ gpu: the device, its memory, what went wrong ─ adapter: which one
//! ```
//! Weights, memory, kernels and bindings are made when a model is opened: a frame allocates no memory of the device's.
//! Wherever a sum has a choice of order the kernels follow [`crate::model`], which they are compared with.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use shared::image::Rgb;
use wgpu::{CommandEncoderDescriptor, ComputePassDescriptor, MapMode};

mod adapter;
mod attention;
mod backend;
mod gpu;
#[cfg(test)]
mod kernel_tests;
mod layers;
mod network;
mod nystrom;
mod steps;

pub use adapter::adapters;
pub use backend::WgpuBackend;
use gpu::Gpu;
use network::{Network, Readout, frame_words};
use steps::Step;

use super::source::Source;
use super::{DeviceError, Encoded, cpu};
use crate::model::{Config, ModelError};
use crate::parity::Agreement;

/// Why this backend cannot run a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WgpuError {
    /// There is no such adapter.
    #[error(transparent)]
    Adapter(#[from] DeviceError),
    /// The device failed: out of memory, lost, or something it does not allow.
    #[error("{adapter} failed: {reason}")]
    Failed {
        /// The adapter in words.
        adapter: String,
        /// What it said.
        reason: String,
    },
    /// Heads too wide for the device.
    #[error(
        "`dim_head` is {got}, too wide for the {memory} bytes that a workgroup of {adapter} has: use `--device cpu`"
    )]
    Width {
        /// The adapter in words.
        adapter: String,
        /// The width of a head.
        got: usize,
        /// What a workgroup has, in bytes.
        memory: u32,
    },
    /// The device computes something else.
    #[error(
        "{adapter} computes other embeddings than the processor ({agreement}): its driver is at fault; update it, or \
         use `--device cpu`"
    )]
    Wrong {
        /// The adapter in words.
        adapter: String,
        /// How far apart they are.
        agreement: Agreement,
    },
    /// The weights cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A model on a device, ready for frames.
#[derive(Debug)]
pub struct Encoder {
    gpu: Gpu,
    config: Config,
    network: Network,
    batch: usize,
}

/// How an encoder runs.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The adapter's number: discrete cards first, software last.
    pub adapter: usize,
    /// Most frames that pass at once.
    pub batch: usize,
}

impl Encoder {
    /// Opens a device and writes the weights to it (f32 on the CPU, see [`crate::model::tensors::specs`]).
    ///
    /// # Errors
    /// No such adapter, a device without the memory, missing tensors.
    pub fn new(config: &Config, weights: &HashMap<String, Tensor>, setup: Setup) -> Result<Self, WgpuError> {
        Self::on(Gpu::open(setup.adapter)?, config, weights, setup.batch.max(1))
    }

    fn on(
        gpu: Gpu,
        config: &Config,
        weights: &HashMap<String, Tensor>,
        batch: usize,
    ) -> Result<Self, WgpuError> {
        let network = Network::new(config, &Source { weights }, &gpu, batch)?;
        network.upload.map_async(MapMode::Write, .., gpu.noting());
        gpu.wait()?;
        Ok(Self { gpu, config: config.clone(), network, batch })
    }

    /// The adapter in words.
    pub fn adapter(&self) -> &str {
        &self.gpu.name
    }

    /// Whether a processor pretends to be a GPU: right, and slow.
    pub fn is_software(&self) -> bool {
        self.gpu.software
    }

    /// Encodes frames of the model's input size.
    ///
    /// # Errors
    /// A failing device.
    pub fn frames(&mut self, frames: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, WgpuError> {
        let mut all = Vec::with_capacity(frames.len());
        for run in frames.chunks(self.batch) {
            self.upload(run)?;
            self.submit(&self.network.normalise, run.len());
            self.forward(run.len(), tokens, &mut all)?;
        }
        Ok(all)
    }

    /// Encodes normalised patches, `[patches, 3 * patch²]` a frame (channel, y, x).
    ///
    /// # Errors
    /// A failing device.
    pub fn patches(&mut self, frames: &[&[f32]], tokens: bool) -> Result<Vec<Encoded>, WgpuError> {
        let mut all = Vec::with_capacity(frames.len());
        for run in frames.chunks(self.batch) {
            for (index, patches) in run.iter().enumerate() {
                self.network.patches.write(&self.gpu, index * self.config.patches(), patches);
            }
            self.forward(run.len(), tokens, &mut all)?;
        }
        Ok(all)
    }

    /// Bytes of frames to the device.
    fn upload(&self, frames: &[Arc<Rgb>]) -> Result<(), WgpuError> {
        let Network { upload, frames: to, .. } = &self.network;
        let size = 4 * frame_words(&self.config);
        {
            let mut view = upload.get_mapped_range_mut(..).map_err(|error| self.gpu.failed(error))?;
            for (index, frame) in frames.iter().enumerate() {
                let at = index * size;
                view.slice(at..at + frame.data.len()).copy_from_slice(&frame.data);
            }
        }
        upload.unmap();
        let mut commands = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        commands.copy_buffer_to_buffer(upload, 0, to, 0, (frames.len() * size) as u64);
        self.gpu.queue.submit([commands.finish()]);
        // For the next frames: granted once the copy is done.
        upload.map_async(MapMode::Write, .., self.gpu.noting());
        self.gpu.check()
    }

    fn submit(&self, steps: &[Step], frames: usize) {
        let mut commands = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut pass = commands.begin_compute_pass(&ComputePassDescriptor::default());
        steps.iter().for_each(|step| step.record(&mut pass, frames));
        drop(pass);
        self.gpu.queue.submit([commands.finish()]);
    }

    /// Blocks and readout of the `frames` frames whose patches are there.
    fn forward(&self, frames: usize, tokens: bool, all: &mut Vec<Encoded>) -> Result<(), WgpuError> {
        self.place_class_token(frames);
        self.network.forward.iter().for_each(|steps| self.submit(steps, frames));
        let Network { regions, latent, .. } = &self.network;
        // Without regions the embedding is made from the latent tokens.
        let latent = (tokens || regions.is_none()).then_some(latent);
        regions.iter().chain(latent).for_each(|readout| self.download(readout, frames));
        self.gpu.wait()?;
        let class = usize::from(self.config.class_token);
        let read = |readout: Option<&Readout>, skip| readout.map(|r| self.read(r, frames, skip)).transpose();
        let (means, latent) = (read(regions.as_ref(), 0)?, read(latent, class)?.unwrap_or_default());
        for frame in 0..frames {
            let part = |numbers: &[f32]| {
                let each = numbers.len() / frames;
                numbers[frame * each..][..each].to_vec()
            };
            let embedding = match &means {
                Some(means) => part(means),
                None => self.of_cells(&part(&latent)),
            };
            all.push(Encoded { embedding, tokens: tokens.then(|| part(&latent)) });
        }
        Ok(())
    }

    /// In front of each frame's tokens.
    fn place_class_token(&self, frames: usize) {
        let Network { class_token: Some(row), x, .. } = &self.network else { return };
        let mut commands = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        for frame in 0..frames {
            let to = 4 * (frame * self.config.tokens() * x.stride) as u64;
            commands.copy_buffer_to_buffer(row, 0, &x.buffer, to, 4 * x.stride as u64);
        }
        self.gpu.queue.submit([commands.finish()]);
    }

    /// Computes a readout and asks for it.
    fn download(&self, readout: &Readout, frames: usize) {
        let Readout { steps, result, download } = readout;
        self.submit(steps, frames);
        let mut commands = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let size = 4 * (frames * result.rows / self.batch * result.stride) as u64;
        commands.copy_buffer_to_buffer(&result.buffer, 0, download, 0, size);
        self.gpu.queue.submit([commands.finish()]);
        download.map_async(MapMode::Read, ..size, self.gpu.noting());
    }

    /// The numbers of a readout that has arrived, without the first `skip` rows of each frame.
    fn read(&self, readout: &Readout, frames: usize, skip: usize) -> Result<Vec<f32>, WgpuError> {
        let Readout { result, download, .. } = readout;
        let per_frame = result.rows / self.batch;
        let size = 4 * (frames * per_frame * result.stride) as u64;
        let mut numbers = Vec::with_capacity(frames * per_frame * result.cols);
        {
            let view = download.get_mapped_range(..size).map_err(|error| self.gpu.failed(error))?;
            for (row, bytes) in view.chunks_exact(4 * result.stride).enumerate() {
                if row % per_frame >= skip {
                    let words = bytes.chunks_exact(4).take(result.cols);
                    numbers
                        .extend(words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])));
                }
            }
        }
        download.unmap();
        Ok(numbers)
    }

    /// The embedding that latent tokens give where they are cells of the picture.
    fn of_cells(&self, latent: &[f32]) -> Vec<f32> {
        cpu::of_cells(latent, (self.config.grid(), self.config.cells()), self.config.pooling.regions())
    }
}
