//! What can go wrong in pretraining.

use std::path::PathBuf;

use shared::frames::ListError;

use crate::model::ModelError;

/// Why a run could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainError {
    /// The frames cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// The model cannot be read, made or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A frame that cannot be used, with `--strict`.
    #[error("{file}: {reason}; repair or remove it, or leave --strict away to go on without such frames")]
    BadFrame {
        /// Its id.
        file: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// Too few frames that can be used.
    #[error(
        "{usable} of {total} frames can be used, and at least {least} are needed (some are held out){}; add frames",
        first_bad.as_deref().map(|bad| format!("; the first that cannot, {bad}")).unwrap_or_default()
    )]
    TooFew {
        /// Frames that can be used.
        usable: usize,
        /// Frames in the list.
        total: usize,
        /// Frames needed.
        least: usize,
        /// The first frame that cannot be used, and why.
        first_bad: Option<String>,
    },
    /// A model without the decoder that pretraining needs.
    #[error(
        "{} has no decoder, and pretraining needs one: make the model with `dc-encoder model init --with-decoder`, or \
         begin from --preset", path.display()
    )]
    NoDecoder {
        /// The model folder.
        path: PathBuf,
    },
    /// A setting that cannot work.
    #[error("--{option} {got}: {why}")]
    Setting {
        /// The option.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        why: String,
    },
    /// The time asked for is spent before a step can be made.
    #[error(
        "--for {asked} leaves no time to train: reading frames and measuring took {spent:.0} s of it, and a step takes \
         {step:.2} s; ask for more time, or for a number of --steps"
    )]
    TooShort {
        /// What was asked for.
        asked: String,
        /// Seconds spent so far.
        spent: f64,
        /// Seconds a step takes.
        step: f64,
    },
    /// The folder holds the beginning of another run.
    #[error(
        "{} is of another run: {difference}; repeat that run's arguments to continue it, choose another --out, or \
         delete the folder to start anew", path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// In what it differs, then and now.
        difference: String,
    },
    /// The folder holds a model that no run of this command began.
    #[error("{} holds a model already; choose another --out, or remove it first", path.display())]
    InTheWay {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is at it.
    #[error("another process is training in {}; wait for it, or choose another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint cannot be read.
    #[error(
        "{}: {why}; it is damaged or of another version: move it elsewhere to start anew", path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The loss or the gradients are no numbers any more.
    #[error(
        "{what} is not a number at step {step} (learning rate {rate:.2e}): training diverged. Nothing of that step was \
         kept; {kept}. Begin anew in another --out with a lower --lr (half of {peak:.1e}) or a tighter --clip; the \
         same command would diverge again"
    )]
    Diverged {
        /// The loss, or the gradient.
        what: &'static str,
        /// Steps done before.
        step: u64,
        /// Learning rate of the step.
        rate: f64,
        /// The highest learning rate.
        peak: f64,
        /// What is kept, and where.
        kept: String,
    },
    /// The disk is full, or not writable.
    #[error("cannot write {}: {source}; {kept}: make room and run the same command again", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What is kept, and where.
        kept: String,
    },
    /// A picture cannot be read.
    #[error("{}: {reason}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The tensor library or the device failed.
    #[error("{doing}: {source}")]
    Compute {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        source: candle_core::Error,
    },
}

impl PretrainError {
    /// Turns a candle error into one that says what was being done.
    pub(super) fn compute(doing: &'static str) -> impl Fn(candle_core::Error) -> Self {
        move |source| Self::Compute { doing, source }
    }
}
