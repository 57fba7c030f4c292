//! What can be wrong with a model folder.

use std::path::PathBuf;

use super::config::ConfigError;

/// Why a model could not be read, built or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read.
    #[error("{}: {source}; a model is a folder with config.json and model.safetensors (`dc-encoder model init` makes one)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output folder already holds a model.
    #[error("{} exists already: choose another folder, or remove it first", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// `config.json` cannot be used.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// The weights file is not what its header says, or not a safetensors file at all.
    #[error("{}: {problem}; copy or make the file again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that the configuration needs is not in the file.
    #[error(
        "{}: tensor `{tensor}` {want:?} is missing; {remedy}", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        want: Vec<usize>,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor has another shape than the configuration gives it.
    #[error(
        "{}: tensor `{tensor}` has shape {got:?}, config.json wants {want:?}; \
         config.json and model.safetensors belong to different models, or one was edited", path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        got: Vec<usize>,
        /// The shape that the configuration gives it.
        want: Vec<usize>,
    },
    /// A tensor is stored in a number format that is not read.
    #[error("{}: tensor `{tensor}` is stored as {got}, want F32, F16 or BF16; convert the file", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its format in the file.
        got: String,
    },
    /// The file holds a tensor that the configuration does not speak of.
    #[error(
        "{}: tensor `{tensor}` {got:?} is in the file, but config.json has no place for it; \
         {remedy}", path.display()
    )]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        got: Vec<usize>,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor holds a NaN or an infinity.
    #[error(
        "{}: tensor `{tensor}` holds a number that is not finite (entry {index}); the file is damaged, or training diverged: \
         take an earlier checkpoint", path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where in it, counted in row-major order.
        index: usize,
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

impl ModelError {
    /// Turns a candle error into one that says what was being done.
    pub fn compute(doing: &'static str) -> impl Fn(candle_core::Error) -> Self {
        move |source| Self::Compute { doing, source }
    }
}
