//! The encoder on the processor, on packed weights: faster than candle, in f32, bf16 or bytes.
//!
//! ```text
//! frames ─► input ─► forward (linear, attention | nystrom ─► pinv) ─► readout ─► [Encoded]
//!                      └ network: weights, packed once at load
//!                      └ simd: the instructions, the threads, the memory; nothing else here is unsafe
//! ```
//! Weights are packed and memory is made when a model is opened: a frame allocates its answer and nothing else. Which
//! kernels run is decided by what the processor has; candle stays the reference that [`crate::parity`] compares with.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use shared::image::Rgb;

mod attention;
mod backend;
mod forward;
mod input;
mod linear;
mod network;
mod nystrom;
mod pinv;
mod profile;
mod readout;
pub mod simd;

pub use backend::CpuBackend;
use forward::{Pass, Workspace};
use network::Network;
pub(super) use nystrom::Grouping;
use pinv::Solver;
pub use profile::{Profile, Stage};
use readout::Readout;
pub(super) use readout::of_cells;
use simd::{Format, Isa, Pool, Words};

use super::precision::Precision;
use super::source::Source;
use super::{Encoded, Partial};
use crate::model::attention::Landmarks;
use crate::model::config::LandmarkKind;
use crate::model::{Config, ModelError};

/// What one thread needs for any task.
#[derive(Debug)]
struct Scratch {
    /// Sums of a product's block.
    sums: Words,
    /// One row of numbers.
    row: Vec<f32>,
    tile: attention::Tile,
    solver: Option<Solver>,
}

/// Why this backend cannot run a model in a precision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// The processor lacks the instructions.
    #[error("this processor has no {instructions}, which {precision} needs: use `--precision f32`")]
    Instructions {
        /// What was asked for.
        precision: Precision,
        /// What it needs.
        instructions: &'static str,
    },
    /// A shape that does not fill whole words.
    #[error("`{key}` is {got}, {precision} needs a multiple of {per}: use `--precision f32`")]
    Shape {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        got: usize,
        /// What was asked for.
        precision: Precision,
        /// Numbers in a word of attention.
        per: usize,
    },
    /// The weights cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Threads(#[from] std::io::Error),
}

/// A model in memory, ready for frames.
#[derive(Debug)]
pub struct Encoder {
    network: Network,
    work: Workspace,
    readout: Readout,
    pool: Pool<Scratch>,
    batch: usize,
}

/// How an encoder runs.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The number format of the products.
    pub precision: Precision,
    /// The instructions to use: what the processor has, or less.
    pub isa: Isa,
    /// Threads, the calling one included.
    pub threads: usize,
    /// Most frames that pass at once.
    pub batch: usize,
}

impl Encoder {
    /// Packs weights (f32 on the CPU, see [`crate::model::tensors::specs`]).
    ///
    /// # Errors
    /// Instructions or shapes that the precision needs and that are not there; missing tensors.
    pub fn new(config: &Config, weights: &HashMap<String, Tensor>, setup: Setup) -> Result<Self, CpuError> {
        let format = check(config, &setup)?;
        let network = Network::new(config, &Source { weights }, setup.isa, format)?;
        let grouping = grouping(config).map_err(ModelError::compute("choosing landmarks"))?;
        let landmarks = grouping.as_ref().map(Grouping::count);
        let scratch = || Scratch {
            sums: Words::zeroed(forward::sums()),
            row: vec![0.0; forward::longest_row(&network)],
            tile: attention::Tile::new(config.dim_head),
            solver: landmarks.map(|count| Solver::new(setup.isa, count, config.dim_head)),
        };
        let pool = Pool::new((0..setup.threads.max(1)).map(|_| scratch()).collect())?;
        let batch = setup.batch.max(1);
        let work = Workspace::new(&network, batch, grouping);
        Ok(Self { work, readout: Readout::new(&network), network, pool, batch })
    }

    /// The same weights in f32, a frame at a time: what other ways of computing them are compared with.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn reference(config: &Config, weights: &HashMap<String, Tensor>) -> Result<Self, CpuError> {
        let threads = candle_core::utils::get_num_threads();
        Self::new(config, weights, Setup { precision: Precision::F32, isa: Isa::detect(), threads, batch: 1 })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.network.config
    }

    /// The kernel of the products, in words.
    pub fn kernel(&self) -> &'static str {
        let Network { isa, format, .. } = &self.network;
        match format {
            _ if !isa.avx512() => "no AVX-512: the gemm crate",
            Format::F32 => "AVX-512",
            Format::Bf16 if isa.bf16_as_f32() => "AVX-512, bf16 as f32",
            Format::Bf16 => "AVX512-BF16",
            Format::Int8 => "AVX512-VNNI",
        }
    }

    /// Where the time went since this was last asked.
    pub fn take_profile(&mut self) -> Profile {
        std::mem::replace(&mut self.work.profile, Profile::new())
    }

    /// Encodes frames of the model's input size.
    pub fn frames(&mut self, frames: &[Arc<Rgb>], tokens: bool) -> Vec<Encoded> {
        let patches = self.config().patches();
        self.work.set_tokens(self.network.config.tokens());
        let mut all = Vec::with_capacity(frames.len());
        for run in frames.chunks(self.batch) {
            for (index, frame) in run.iter().enumerate() {
                let input = self.network.input.clone();
                self.pass().embed(index, None, |pool, to| input.frame(pool, frame, patches, to));
            }
            self.finish(run.len(), tokens, &mut all);
        }
        all
    }

    /// Encodes normalised patches, `[patches, 3 * patch²]` a frame (channel, y, x).
    pub fn patches(&mut self, frames: &[&[f32]], tokens: bool) -> Vec<Encoded> {
        self.work.set_tokens(self.network.config.tokens());
        let mut all = Vec::with_capacity(frames.len());
        for run in frames.chunks(self.batch) {
            for (index, patches) in run.iter().enumerate() {
                let input = self.network.input.clone();
                self.pass().embed(index, None, |pool, to| input.patches(pool, patches, to));
            }
            self.finish(run.len(), tokens, &mut all);
        }
        all
    }

    /// Whether some patches of a frame can be encoded without the others: landmarks are made for whole frames.
    pub fn takes_patches(&self) -> bool {
        self.config().is_exact(self.config().tokens())
    }

    /// The latent tokens `[patches, latent_dim]` of some patches of each frame, by themselves. All frames have as many.
    pub fn partial(&mut self, frames: &[&Partial]) -> Vec<Vec<f32>> {
        let mut all = Vec::with_capacity(frames.len());
        let class = usize::from(self.network.config.class_token);
        let dim = self.network.config.dim;
        self.work.set_tokens(frames.first().map_or(0, |frame| frame.choice.len()) + class);
        for run in frames.chunks(self.batch) {
            for (index, Partial { frame, choice }) in run.iter().enumerate() {
                let input = self.network.input.clone();
                let places = choice.places();
                self.pass().embed(index, Some(places), |pool, to| input.some(pool, frame, places, to));
            }
            self.pass().blocks(run.len());
            for frame in 0..run.len() {
                let hidden = &self.work.frame(dim, frame)[class * dim..];
                all.push(self.readout.latent(&mut self.pool, &self.network, hidden));
            }
            self.work.profile.lap(Stage::Readout);
        }
        all
    }

    fn pass(&mut self) -> Pass<'_> {
        Pass { network: &self.network, work: &mut self.work, pool: &mut self.pool }
    }

    /// Blocks and readout of the `frames` frames that were embedded.
    fn finish(&mut self, frames: usize, tokens: bool, all: &mut Vec<Encoded>) {
        self.pass().blocks(frames);
        let config = &self.network.config;
        let class = usize::from(config.class_token) * config.dim;
        for frame in 0..frames {
            let hidden = &self.work.frame(config.dim, frame)[class..];
            all.push(self.readout.run(&mut self.pool, &self.network, hidden, tokens));
        }
        self.work.profile.lap(Stage::Readout);
    }
}

/// The format that a precision asks for, if processor and shape allow it.
fn check(config: &Config, setup: &Setup) -> Result<Format, CpuError> {
    let Setup { precision, isa, .. } = *setup;
    // Without AVX-512 every format runs in plain Rust: for tests, which ask for it; far too slow to serve.
    let real = isa.avx512();
    let (format, per) = match precision {
        Precision::F32 => return Ok(Format::F32),
        Precision::Int8 if real && !isa.vnni() => {
            return Err(CpuError::Instructions { precision, instructions: "AVX512-VNNI" });
        }
        Precision::Bf16 => (Format::Bf16, 2),
        Precision::Int8 => (Format::Int8, 2),
    };
    for (key, got) in [("dim_head", config.dim_head), ("mlp", config.mlp)] {
        if !got.is_multiple_of(per) {
            return Err(CpuError::Shape { key, got, precision, per });
        }
    }
    Ok(format)
}

/// The landmarks of a whole frame, if it goes through Nyström attention.
pub(super) fn grouping(config: &Config) -> candle_core::Result<Option<Grouping>> {
    let tokens = config.tokens();
    if config.is_exact(tokens) {
        return Ok(None);
    }
    let landmarks = match config.landmark_kind {
        LandmarkKind::Rows => Landmarks::rows(tokens, config.landmarks, &Device::Cpu)?,
        LandmarkKind::Blocks => {
            let patches: Vec<u32> = (0..config.patches() as u32).collect();
            Landmarks::blocks(config.grid(), config.landmarks, &patches, config.class_token, &Device::Cpu)?
        }
    };
    Ok(Some(Grouping::new(landmarks.groups()?)))
}
