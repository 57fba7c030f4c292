//! The encoder on NVIDIA's GPUs, in bf16 or f32: the serving path for datacenter cards. Not run on a GPU yet.
//!
//! ```text
//! frames ─► upload ─► network (layers, attention | nystrom) ─► readout ─► download ─► [Encoded]
//!                       └ plan: memory, kernels in CUDA (`kernels/`), products, steps; all of it data
//!                           └ driver: CUDA itself, looked up when the program runs
//!                           └ emulated: the same plan on the processor, in tests
//! ```
//! Weights, memory and kernels are made when a model is opened: a frame allocates no memory of the device's. Matrix products
//! are cuBLASLt's; attention, norms and everything between are kernels that NVRTC compiles for the card, with every shape
//! written in. The steps of a batch size are a CUDA graph from its second batch on. Operands go without their frame's centre,
//! as on the processor (`layers`).

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;
use shared::image::Rgb;

mod attention;
mod backend;
mod driver;
#[cfg(test)]
mod emulated;
#[cfg(test)]
mod emulated_tests;
mod graphs;
mod layers;
mod network;
mod nystrom;
mod plan;
mod rate;
mod readout;

use attention::Heads;
pub use backend::CudaBackend;
use driver::{Device, Graph, Machine, Pinned};
use graphs::Recent;
use network::{Network, SLOTS, frame_bytes, pixels};
use plan::Element;
pub use rate::matrix_rate;
use readout::Output;

use super::source::Source;
use super::{DeviceError, Encoded, Precision};
use crate::model::{Config, ModelError};
use crate::parity::Agreement;

/// Graphs that are kept, one for each batch size with and without latent tokens. Each is some hundred steps.
const GRAPHS: usize = 64;
/// Frames that are copied at a time: the card fetches some while the processor gathers the next.
const GATHERED: usize = 8;

/// Why this backend cannot run a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no such card, or nothing to reach it with.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The card failed.
    #[error("{device} failed: {reason}")]
    Failed {
        /// The card in words.
        device: String,
        /// What CUDA said.
        reason: String,
    },
    /// The kernels do not compile.
    #[error("the kernels cannot be compiled: {reason}")]
    Compiler {
        /// What the compiler said.
        reason: String,
    },
    /// The model does not fit.
    #[error(
        "{device} has {free} bytes of memory free and this model takes {needed}: use another card, or free some"
    )]
    Memory {
        /// The card in words.
        device: String,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Heads that no block has memory for.
    #[error("`dim_head` is {got}, and the CUDA path takes at most {most}: use `--device cpu`", most = Heads::WIDEST)]
    Width {
        /// The width of a head.
        got: usize,
    },
    /// A number format that this backend does not have.
    #[error("the CUDA path has no {precision}: use `--precision bf16` or `f32`, or `--device cpu`")]
    Precision {
        /// What was asked for.
        precision: Precision,
    },
    /// The card computes something else.
    #[error(
        "{device} computes other embeddings than the processor ({agreement}): this is a mistake in the program or in the \
         driver; use `--device cpu`"
    )]
    Wrong {
        /// The card in words.
        device: String,
        /// How far apart they are.
        agreement: Agreement,
    },
    /// The weights cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl CudaError {
    fn failed(device: &str, reason: &dyn std::fmt::Display) -> Self {
        Self::Failed { device: device.to_owned(), reason: reason.to_string() }
    }
}

/// The cards of this machine in words, in the order of their numbers.
///
/// # Errors
/// Why there is none: what is missing, and what to install.
pub fn devices() -> Result<Vec<String>, String> {
    driver::devices()
}

/// Compiles the kernels of a model for cards of a compute capability; it needs NVRTC, and no card. The size of the code in
/// bytes.
///
/// # Errors
/// What [`Encoder::new`] gives before it opens a card, or the compiler's log.
pub fn compile(
    config: &Config,
    weights: &HashMap<String, Tensor>,
    (precision, capability): (Precision, (i32, i32)),
) -> Result<usize, CudaError> {
    let network = plan(config, weights, (precision, 1))?;
    Ok(driver::compile(&network.plan.program, capability)?.len())
}

fn plan(
    config: &Config,
    weights: &HashMap<String, Tensor>,
    (precision, batch): (Precision, usize),
) -> Result<Network, CudaError> {
    let element = match precision {
        Precision::F32 => Element::F32,
        Precision::Bf16 => Element::Bf16,
        Precision::Int8 => return Err(CudaError::Precision { precision }),
    };
    let network = Network::new(config, &Source { weights }, (element, batch))?;
    network.ok_or(CudaError::Width { got: config.dim_head })
}

/// How an encoder runs.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The card's number.
    pub device: usize,
    /// The number format of the products.
    pub precision: Precision,
    /// Most frames that pass at once.
    pub batch: usize,
}

/// What is asked for at once: frames, and whether with latent tokens.
type Key = (usize, bool);

/// A model on a card, ready for frames.
#[derive(Debug)]
pub struct Encoder {
    /// Steps as a graph, or nothing where they cannot be one. Dropped before what they use.
    graphs: Recent<Key, Option<Graph>>,
    slots: [Slot; SLOTS],
    machine: Machine,
    network: Network,
    config: Config,
    batch: usize,
}

/// Memory of the processor's for one run of frames and its answers.
#[derive(Debug)]
struct Slot {
    frames: Pinned,
    embedding: Pinned,
    latent: Pinned,
}

impl Encoder {
    /// Opens a card and writes the weights to it (f32 on the CPU, see [`crate::model::tensors::specs`]).
    ///
    /// # Errors
    /// No such card, a model that does not fit, kernels that do not compile, missing tensors.
    pub fn new(config: &Config, weights: &HashMap<String, Tensor>, setup: Setup) -> Result<Self, CudaError> {
        let batch = setup.batch.max(1);
        // The card first: without one there is no reason to pack weights.
        let device = Device::open(setup.device)?;
        let mut network = plan(config, weights, (setup.precision, batch))?;
        let machine = Machine::new(device, &mut network.plan)?;
        let slot = || {
            let answers = |output: &Output| machine.pinned(output.result.bytes(output.result.rows), false);
            Ok::<_, CudaError>(Slot {
                frames: machine.pinned(batch * frame_bytes(config), true)?,
                embedding: answers(&network.readout.embedding)?,
                latent: answers(&network.readout.latent)?,
            })
        };
        let slots = [slot()?, slot()?];
        Ok(Self { graphs: Recent::new(GRAPHS), slots, machine, network, config: config.clone(), batch })
    }

    /// The card in words.
    pub fn device(&self) -> &str {
        self.machine.name()
    }

    /// Its compute capability, such as (9, 0).
    pub fn capability(&self) -> (i32, i32) {
        self.machine.capability()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Encodes frames of the model's input size. While one run of frames is computed the next is copied.
    ///
    /// # Errors
    /// A failing card.
    pub fn frames(&mut self, frames: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, CudaError> {
        let mut all = Vec::with_capacity(frames.len());
        let mut under_way = None;
        for (number, run) in frames.chunks(self.batch).enumerate() {
            let slot = number % SLOTS;
            self.upload(slot, run)?;
            self.machine.run([&self.network.cut[slot]], run.len())?;
            self.machine.used(&self.slots[slot].frames)?;
            self.forward((run.len(), tokens))?;
            self.download(slot, (run.len(), tokens))?;
            if let Some((slot, key)) = under_way.replace((slot, (run.len(), tokens))) {
                all.extend(self.answers(slot, key)?);
            }
        }
        if let Some((slot, key)) = under_way {
            all.extend(self.answers(slot, key)?);
        }
        Ok(all)
    }

    /// Encodes normalised patches, `[patches, 3 * patch²]` a frame (channel, y, x).
    ///
    /// # Errors
    /// A failing card.
    pub fn patches(&mut self, frames: &[&[f32]], tokens: bool) -> Result<Vec<Encoded>, CudaError> {
        let mut all = Vec::with_capacity(frames.len());
        for run in frames.chunks(self.batch) {
            let patches = &self.network.patches;
            let bytes = patches.encode(&pixels(&self.config, &run.concat()));
            self.machine.write(patches.memory, &bytes)?;
            self.forward((run.len(), tokens))?;
            self.download(0, (run.len(), tokens))?;
            all.extend(self.answers(0, (run.len(), tokens))?);
        }
        Ok(all)
    }

    /// Bytes of frames to the card, some at a time.
    fn upload(&mut self, slot: usize, frames: &[Arc<Rgb>]) -> Result<(), CudaError> {
        let (pinned, to) = (&mut self.slots[slot].frames, self.network.frames[slot]);
        let each = frame_bytes(&self.config);
        // Waits for the last copies once: the parts of this one do not wait for each other.
        self.machine.wait(pinned)?;
        for (number, part) in frames.chunks(GATHERED).enumerate() {
            let first = number * GATHERED * each;
            let range = first..first + part.len() * each;
            let bytes = self.machine.part(pinned, range.clone())?;
            bytes.par_chunks_mut(each).zip(part).for_each(|(to, frame)| to.copy_from_slice(&frame.data));
            self.machine.upload(pinned, to, range)?;
        }
        Ok(())
    }

    /// From patches to the answers, on the card.
    fn forward(&mut self, key: Key) -> Result<(), CudaError> {
        let Self { graphs, machine, network, .. } = self;
        let (frames, tokens) = key;
        match graphs.get(&key) {
            Some(Some(graph)) => return machine.replay(graph),
            Some(None) => return machine.run(network.steps(tokens), frames),
            None => {}
        }
        // One by one first: a capture may load nothing, and this loads everything.
        machine.run(network.steps(tokens), frames)?;
        let graph = machine.capture(network.steps(tokens), frames).unwrap_or_else(|error| {
            tracing::warn!(frames, %error, "no CUDA graph for this batch size: its steps are launched one by one");
            None
        });
        graphs.insert(key, graph);
        Ok(())
    }

    /// Asks for the answers.
    fn download(&mut self, slot: usize, (frames, tokens): Key) -> Result<(), CudaError> {
        let Self { machine, network, slots, .. } = self;
        let Slot { embedding, latent, .. } = &mut slots[slot];
        let readout = &network.readout;
        machine.download(readout.embedding.result.memory, readout.embedding.bytes(frames), embedding)?;
        if tokens {
            machine.download(readout.latent.result.memory, readout.latent.bytes(frames), latent)?;
        }
        Ok(())
    }

    /// The answers that were asked for.
    fn answers(&self, slot: usize, (frames, tokens): Key) -> Result<Vec<Encoded>, CudaError> {
        let Slot { embedding, latent, .. } = &self.slots[slot];
        let arrived = |output: &Output, pinned: &Pinned| {
            let bytes = self.machine.arrived(pinned, output.bytes(frames))?;
            let words: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
            Ok::<_, CudaError>(output.gather(&words, frames))
        };
        let embeddings = arrived(&self.network.readout.embedding, embedding)?;
        let latent = if tokens { arrived(&self.network.readout.latent, latent)? } else { Vec::new() };
        let mut latent = latent.into_iter();
        let encoded = embeddings.into_iter().map(|embedding| Encoded { embedding, tokens: latent.next() });
        Ok(encoded.collect())
    }
}
