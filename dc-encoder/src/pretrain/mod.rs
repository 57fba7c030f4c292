//! Pretraining without labels: a masked autoencoder (He et al., 2022) on a camera's own frames.
//!
//! ```text
//! frames ─► batch (draw: order, mask, change; prefetch) ─► network ─► loss ─► gradients ─► adamw (schedule)
//!    └► held out ─► validate ─► health                                  │
//!                       └─► journal (log.csv, board) ◄──────────────────┤
//!                                        checkpoint (recipe, state) ◄───┘ ─► model folder
//! ```
//! Everything a step does follows from the recipe and the step's number, so a run that was killed goes on from its
//! checkpoint as if nothing had happened: on the processor, at the same number of threads, to the last bit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use candle_core::Device;
use shared::image::Limits;
use shared::uplink::Uplink;

use crate::model::Config;
use crate::model::config::TargetKind;
use crate::model::file;
use crate::model::preset::Preset;

mod adamw;
mod batch;
mod board;
mod checkpoint;
mod draw;
mod error;
mod find_rate;
mod frames;
mod health;
mod journal;
mod network;
mod pace;
mod picture;
mod precision;
mod prefetch;
mod prepare;
mod recipe;
mod reconstruct;
mod rounded;
mod schedule;
mod train;
mod validate;

pub use error::PretrainError;
pub use find_rate::{Tried, find_rate};
pub use frames::Skipped;
pub use health::Warning;
pub use journal::Row;
pub use precision::{Precision, PrecisionChoice};
pub use reconstruct::{Reconstructed, Reconstruction, reconstruct};
pub use schedule::Schedule;
pub use train::run;
pub use validate::Validation;

/// The run's folder inside the model folder.
pub const RUN_FOLDER: &str = "pretrain";

/// Where the weights begin.
#[derive(Debug, Clone)]
pub enum Start {
    /// Random weights of a preset.
    Preset(Preset),
    /// Random weights of a configuration with a decoder; `name` is for people.
    Config {
        /// What to call it.
        name: String,
        /// The configuration.
        config: Box<Config>,
    },
    /// A model folder with its decoder.
    Model(PathBuf),
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many steps.
    Steps(u64),
    /// As many steps as fit into a time, reading frames and validating included: measured once, then fixed.
    For(Duration),
}

/// What to train and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// A folder of pictures, or a list of them.
    pub frames: PathBuf,
    /// Where the weights begin.
    pub start: Start,
    /// The model folder to make; what belongs to the run alone is in its [`RUN_FOLDER`].
    pub out: PathBuf,
    /// How long to train.
    pub length: Length,
    /// Frames in a batch.
    pub batch: usize,
    /// Batches in a step.
    pub accumulate: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Steps of the rise; by default a twentieth of all.
    pub warmup: Option<u64>,
    /// AdamW's weight decay.
    pub decay: f64,
    /// Longest gradient.
    pub clip: f64,
    /// Share of the patches that is hidden.
    pub mask_ratio: f64,
    /// What the decoder predicts; by default what the model says.
    pub target: Option<TargetKind>,
    /// Weight of the latent tokens' readout beside the reconstruction, where the pooling has one.
    pub latent_weight: f64,
    /// Change light and place of frames mildly.
    pub augment: bool,
    /// Seed of weights, order, masks and changes.
    pub seed: u64,
    /// What every frame passes through first, as it would on a camera box.
    pub uplink: Uplink,
    /// Largest picture that is accepted.
    pub limits: Limits,
    /// Most bytes of prepared frames kept in memory.
    pub cache: ByteSize,
    /// Stop at a frame that cannot be used.
    pub strict: bool,
    /// Share of the frames, the last ones, that is held out.
    pub hold_out: f64,
    /// End after so many validations without a better held-out loss.
    pub early_stop: Option<u64>,
    /// Validations in a run, evenly spaced.
    pub validations: u64,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Number format of products and activations while training.
    pub precision: PrecisionChoice,
    /// How the finished model is stored.
    pub dtype: file::Precision,
    /// Leave the decoder out of the finished model.
    pub drop_decoder: bool,
    /// What to train on.
    pub device: Device,
    /// The command, for the model's note.
    pub command: String,
}

impl Options {
    /// Everything but the necessary at its default.
    pub fn new(frames: impl Into<PathBuf>, start: Start, out: impl Into<PathBuf>, length: Length) -> Self {
        Self {
            frames: frames.into(),
            start,
            out: out.into(),
            length,
            batch: 16,
            accumulate: 1,
            rate: 1e-3,
            warmup: None,
            decay: 0.05,
            clip: 1.0,
            mask_ratio: 0.7,
            target: None,
            latent_weight: 1.0,
            augment: true,
            seed: 0,
            uplink: Uplink::default(),
            limits: Limits::default(),
            cache: ByteSize::gib(4),
            strict: false,
            hold_out: 0.1,
            early_stop: None,
            validations: 20,
            checkpoint_every: Duration::from_secs(120),
            precision: PrecisionChoice::Auto,
            dtype: file::Precision::F32,
            drop_decoder: false,
            device: Device::Cpu,
            command: "dc-encoder pretrain".to_owned(),
        }
    }

    /// What the network is made for; `config` is the model's.
    fn setup(&self, config: &Config) -> network::Setup {
        network::Setup {
            config: config.clone(),
            device: self.device.clone(),
            precision: self.precision.on(&self.device),
            latent_weight: self.latent_weight,
        }
    }

    /// The run's folder.
    fn folder(&self) -> PathBuf {
        self.out.join(RUN_FOLDER)
    }

    fn check(&self) -> Result<(), PretrainError> {
        let refuse =
            |option, got: String, why: &str| Err(PretrainError::Setting { option, got, why: why.to_owned() });
        let positive = |value: f64| value.is_finite() && value > 0.0;
        match self {
            _ if !positive(self.rate) => {
                refuse("lr", self.rate.to_string(), "must be above 0 (1e-3 is usual)")
            }
            _ if !positive(self.clip) => {
                refuse("clip", self.clip.to_string(), "must be above 0 (1 is usual)")
            }
            _ if !(self.decay >= 0.0 && self.decay < 1.0) => {
                refuse("weight-decay", self.decay.to_string(), "must be from 0 to below 1 (0.05 is usual)")
            }
            _ if !(self.mask_ratio > 0.0 && self.mask_ratio < 1.0) => {
                refuse("mask-ratio", self.mask_ratio.to_string(), "must lie between 0 and 1 (0.7 is usual)")
            }
            _ if !(self.hold_out > 0.0 && self.hold_out < 1.0) => {
                refuse("hold-out", self.hold_out.to_string(), "must lie between 0 and 1 (0.1 is usual)")
            }
            _ if self.batch == 0 || self.accumulate == 0 => refuse("batch", "0".into(), "must be at least 1"),
            _ if self.length == Length::Steps(0) => refuse("steps", "0".into(), "must be at least 1"),
            _ => Ok(()),
        }
    }
}

/// What happens during a run, told to whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// So many frames of `total` were read.
    Read {
        /// Frames read.
        done: usize,
        /// Frames in the list.
        total: usize,
    },
    /// The frames are there.
    Frames {
        /// Frames that can be used.
        usable: usize,
        /// Of these, trained on.
        training: usize,
        /// Of these, kept in memory.
        kept: usize,
        /// Frames left out.
        skipped: &'a [Skipped],
    },
    /// The time asked for was turned into steps.
    Calibrated {
        /// Steps that fit.
        steps: u64,
        /// Seconds a step takes.
        step: f64,
    },
    /// An earlier run's checkpoint was found.
    Continuing {
        /// Steps it had done.
        step: u64,
        /// All steps.
        steps: u64,
    },
    /// A step is done.
    Step {
        /// Its numbers; the loss is this step's.
        row: Row,
        /// All steps.
        steps: u64,
        /// Validated after it.
        validation: Option<Validation>,
    },
    /// Something to look at.
    Warning(Warning),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// The held-out loss fell no more.
    StoppedEarly {
        /// Steps done.
        step: u64,
    },
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Steps done, over all runs.
    pub steps: u64,
    /// The model was finished already.
    pub already_complete: bool,
    /// The last validation.
    pub validation: Option<Validation>,
    /// Seconds of training, over all runs.
    pub seconds: f64,
    /// Frames trained on.
    pub frames: usize,
}

/// What a model's decoder predicts.
fn target(config: &Config) -> TargetKind {
    config.decoder.as_ref().map_or_else(TargetKind::default, |decoder| decoder.target)
}
