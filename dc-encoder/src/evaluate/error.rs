//! Why an evaluation could not be made.

use std::path::PathBuf;

use shared::frames::ListError;
use shared::head::SpaceMismatch;
use shared::image::LoadError;

use crate::embed::ReadError;
use crate::heads::{LabelError, TrainError};

/// Why an evaluation could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// No readable `split.toml`.
    #[error(
        "cannot read {}: {source}; an evaluation needs it beside the labels, with three lines such as \
         task = \"count\", pool = [0, 300], test = [320, 600] (rows of the labels file, counted from 0, end not \
         included)", path.display()
    )]
    Split {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A `split.toml` that is not one.
    #[error("{}: {reason}; it has the keys task, pool and test, and no others", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A range that is none, or reaches beyond the labels.
    #[error("{}: {key} = [{}, {}], want {want}", path.display(), got[0], got[1])]
    Range {
        /// The file.
        path: PathBuf,
        /// `pool` or `test`.
        key: &'static str,
        /// The range as written.
        got: [usize; 2],
        /// What would be right.
        want: String,
    },
    /// The pool and the test share rows.
    #[error(
        "{}: pool = [{}, {}] and test = [{}, {}] overlap: a head must not be tested on frames it was trained on; \
         let one end where the other begins", path.display(), pool[0], pool[1], test[0], test[1]
    )]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The pool.
        pool: [usize; 2],
        /// The test.
        test: [usize; 2],
    },
    /// Too few rows to train or to test on.
    #[error("{}: {key} = [{}, {}] has {rows} rows, {purpose} takes at least {want}: label more frames",
        path.display(), got[0], got[1])]
    TooFew {
        /// The file.
        path: PathBuf,
        /// `pool` or `test`.
        key: &'static str,
        /// The range as written.
        got: [usize; 2],
        /// Rows in it.
        rows: usize,
        /// What they are for.
        purpose: &'static str,
        /// Fewest accepted.
        want: usize,
    },
    /// A class that is tested on and cannot be learned.
    #[error(
        "{}: test has frames of class `{class}`, and pool = [{}, {}] has none: no head can learn it; widen the pool, or \
         leave those rows out", path.display(), pool[0], pool[1]
    )]
    UnknownClass {
        /// The file.
        path: PathBuf,
        /// The class.
        class: String,
        /// The pool.
        pool: [usize; 2],
    },
    /// Two heads and labels of a class that neither knows.
    #[error(
        "the labels have frames of class `{class}`, and neither {first} nor {second} knows it: is it spelled as in training?"
    )]
    ForeignClass {
        /// The class.
        class: String,
        /// One head.
        first: String,
        /// The other.
        second: String,
    },
    /// No labels file, or two.
    #[error("{} holds {found}; an evaluation wants exactly one of labels.csv and labels.jsonl there", dir.display())]
    LabelsFile {
        /// The folder.
        dir: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The labels cannot be used.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// The frames that the labels name cannot be listed.
    #[error("the frames of the labels: {0}")]
    Frames(#[from] ListError),
    /// A frame cannot be read for the baselines.
    #[error("a frame for the baselines: {0}")]
    Pixels(#[from] LoadError),
    /// The embeddings cannot be read.
    #[error(transparent)]
    Embeddings(#[from] ReadError),
    /// A head cannot be trained or run.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A trained head's file does not load.
    #[error("{what}: {source}")]
    Head {
        /// Which head.
        what: String,
        /// What is wrong with it.
        source: Box<shared::head::LoadError>,
    },
    /// A head of another embedding space than the embeddings.
    #[error(transparent)]
    Space(#[from] SpaceMismatch),
    /// Two heads, or a head and labels, that mean different things.
    #[error(
        "{first} answers {first_task}, {second} answers {second_task}: only heads of one task can be compared"
    )]
    Task {
        /// One head.
        first: String,
        /// Its task.
        first_task: &'static str,
        /// The other.
        second: String,
        /// Its task.
        second_task: &'static str,
    },
    /// Nothing fits an ablation.
    #[error("no head of kind {kind} can be trained on these embeddings: {reason}")]
    Ablate {
        /// The kind.
        kind: String,
        /// Why not.
        reason: String,
    },
    /// A result cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
