//! The finished file: a safetensors file that head training reads.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use protocol::{GridShape, SpaceId};

/// Embeddings of a list of frames, as `dc-encoder embed` wrote them.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingsFile {
    /// The space the embeddings are in.
    pub space: SpaceId,
    /// Id of the uplink transformation the frames passed through.
    pub uplink: String,
    /// Name of the encoder, for people.
    pub model: String,
    /// One id per frame: its path relative to the list or folder, `[n]`.
    pub ids: Vec<String>,
    /// When each frame was captured, as far as known, `[n]`.
    pub captured_at: Vec<Option<Timestamp>>,
    /// Numbers in one embedding.
    pub dim: usize,
    /// The embeddings, `[n, dim]`.
    pub embedding: Vec<f32>,
    /// Shape of one frame's latent-token grid, if the file has tokens.
    pub grid: Option<GridShape>,
    /// The latent tokens, `[n, rows·cols, grid.dim]`, if the file has them (stored as f16).
    pub tokens: Option<Vec<f32>>,
}

/// Why a file is not one of embeddings.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl EmbeddingsFile {
    /// Reads a whole file into memory.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Err(ReadError::Io { path: path.into(), source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Frames in the file, n.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no frames.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The embedding of frame `index`, `[dim]`. Panics if there is no such frame.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.embedding[index * self.dim..(index + 1) * self.dim]
    }
}
