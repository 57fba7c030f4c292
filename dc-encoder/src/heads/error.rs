//! Why a head could not be trained.

use std::path::PathBuf;

use shared::head::{HeadError, LoadError};

/// Why a head could not be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A label names a frame that is not in the embeddings file.
    #[error(
        "line {line} of the labels names `{file}`, which is not among the {embedded} embedded frames: embed it \
         (`dc-encoder embed --frames …` over a folder or list that holds it), or leave the row out with `--rows`"
    )]
    NotEmbedded {
        /// The frame.
        file: String,
        /// Line in the labels file, from 1.
        line: usize,
        /// Frames in the embeddings file.
        embedded: usize,
    },
    /// A label's file name fits several embedded frames.
    #[error(
        "line {line} of the labels: `{file}` fits both `{first}` and `{second}`; write the path as embedded"
    )]
    Ambiguous {
        /// The frame.
        file: String,
        /// Line in the labels file, from 1.
        line: usize,
        /// One embedded frame.
        first: String,
        /// Another.
        second: String,
    },
    /// Two labels for one embedded frame, under two spellings of its path.
    #[error("lines {first} and {second} of the labels are both about the frame `{file}`; keep one")]
    Twice {
        /// The frame.
        file: String,
        /// Line of the one label, from 1.
        first: usize,
        /// Line of the other.
        second: usize,
    },
    /// `--rows` or `--test` beyond the labels.
    #[error(
        "{option} {rows} asks for rows beyond the labels file, which has {available}: rows count from 0, the end is not included"
    )]
    Rows {
        /// `--rows` or `--test`.
        option: &'static str,
        /// The range.
        rows: String,
        /// Rows in the file.
        available: usize,
    },
    /// The test rows are among the training rows.
    #[error("--rows {rows} and --test {test} overlap: a head must not be scored on frames it was trained on")]
    Overlap {
        /// Training rows.
        rows: String,
        /// Test rows.
        test: String,
    },
    /// Not enough labels.
    #[error("{got} labelled frames are too few to {purpose}: label at least {want}")]
    TooFew {
        /// What they are for.
        purpose: &'static str,
        /// Labels given.
        got: usize,
        /// Fewest accepted.
        want: usize,
    },
    /// Every label is the same.
    #[error("all {n} labels are {value}: there is nothing to learn from them; label frames that differ")]
    NoVariation {
        /// Labels.
        n: usize,
        /// Their value or class.
        value: String,
    },
    /// A test label of a class that was not trained on.
    #[error(
        "test frame `{file}` is of class `{class}`, which no training row is (they are {known}): label frames of it to \
         train on, or leave such rows out of the test"
    )]
    UnknownClass {
        /// The class.
        class: String,
        /// The frame.
        file: String,
        /// Classes of the training rows.
        known: String,
    },
    /// A head that reads the latent grid, and no tokens.
    #[error(
        "--kind {kind} reads the latent-token grid, which the embeddings file does not hold: embed again with `--tokens`"
    )]
    NoTokens {
        /// The kind asked for.
        kind: &'static str,
    },
    /// A kind that cannot learn a task.
    #[error("--kind {kind} answers with one number, which is no {task}: use another kind, or auto")]
    WrongTask {
        /// The kind asked for.
        kind: &'static str,
        /// The task.
        task: &'static str,
    },
    /// A camera that never sees anything but its background.
    #[error(
        "nothing departs from the background in the {frames} frames that were looked at: embed frames that differ"
    )]
    NothingDeparts {
        /// Frames looked at.
        frames: usize,
    },
    /// An embedding is not a number.
    #[error(
        "the embedding of frame `{file}` is not finite: embed it again; if that does not help, the model is broken"
    )]
    NotFinite {
        /// The frame.
        file: String,
    },
    /// The training ran away.
    #[error(
        "training gave numbers that are not finite at step {step}: report this with the labels and the model"
    )]
    Diverged {
        /// Step of the training.
        step: usize,
    },
    /// The tensor library refused.
    #[error("training: {0}")]
    Compute(#[from] candle_core::Error),
    /// The trained head would not load.
    #[error("the trained head is not a valid one: {0}")]
    Invalid(#[from] LoadError),
    /// The trained head gives no answer for a held-out frame.
    #[error("the trained head on held-out frame `{file}`: {source}")]
    Answer {
        /// The frame.
        file: String,
        /// What the head said.
        source: Box<HeadError>,
    },
    /// The head file could not be written.
    #[error("cannot write {}: {source}; nothing was left behind", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
