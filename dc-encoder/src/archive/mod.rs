//! The archive: frames kept for training, their embeddings and their labels, with links that are never lost.
//!
//! ```text
//!                 intent (paths, on disk) ─► frame files ─► index, one transaction ─► intent gone
//! Incoming ─► add ┘                                           ▲
//!             query, label, export, verify, gc, forget ───────┘
//! DIR/
//!   index.redb     records, times, hashes, embeddings, labels; any number of processes at one time
//!   frames/CAMERA/DAY/TIME-ID.jpg
//!   incoming/      files on their way
//!   intents/       what a process is about to write or delete
//! ```
//! A frame's id is a hash of its camera, its capture time and its bytes: it never changes, whoever computes it gets the
//! same, and a file's name alone says where it belongs. A batch is in the archive whole or not at all: files are durable
//! before the transaction that names them, and files that no transaction named are removed by whoever opens the archive
//! next (see [`intent`]).

mod add;
mod embedder;
mod error;
mod export;
mod frames;
mod index;
mod intent;
mod label;
mod novelty;
mod query;
mod record;
mod remove;
mod sampling;
mod take;
mod tap;
mod verify;

use std::path::{Path, PathBuf};

pub use add::{Added, Incoming};
pub use embedder::Embedder;
pub use error::ArchiveError;
pub use export::{Export, Exported, Format};
pub use label::{Answer, Consensus, Earlier, Label, LabelFault, Returned, Taken};
pub use novelty::Novelty;
pub use query::{Embedded, Found, Query};
pub use record::{Embedding, FrameId, ParseFrameIdError, Record, Zone, ZoneError};
pub use remove::{Keep, Removed};
pub use sampling::{CameraSampling, Sampling};
pub use tap::Tap;
pub use verify::{Fault, Report};

use frames::Frames;
use index::Index;
pub(crate) use label::task_name;

/// An open archive. Any number of processes and threads may have one open; to be used outside of async code, because it
/// waits for the disk.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    index: Index,
    frames: Frames,
}

impl Archive {
    /// Opens the folder, or makes it, and removes what processes that were killed left half done.
    ///
    /// # Errors
    /// A folder that cannot be written, an index that is damaged or of a newer program.
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        for part in [frames::FOLDER, frames::INCOMING, intent::FOLDER] {
            let path = dir.join(part);
            std::fs::create_dir_all(&path).map_err(ArchiveError::io("create the folder", &path))?;
        }
        let index = Index::open(&dir.join("index.redb"))?;
        let archive = Self { dir: dir.to_owned(), index, frames: Frames::new(dir) };
        archive.recover()?;
        Ok(archive)
    }

    /// Opens an archive that is there: for commands that only look, so that a slip in the path does not make one.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ArchiveError::Missing`].
    pub fn open_existing(dir: &Path) -> Result<Self, ArchiveError> {
        if !dir.join("index.redb").exists() {
            return Err(ArchiveError::Missing(dir.to_owned()));
        }
        Self::open(dir)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the file of a record lies.
    pub fn path_of(&self, record: &Record) -> PathBuf {
        self.dir.join(&record.path)
    }

    /// A frame's JPEG, as it was stored; its hash is checked.
    ///
    /// # Errors
    /// A file that is gone, or holds other bytes than the index says.
    pub fn jpeg(&self, record: &Record) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.frames.get(&record.path)?;
        if record::sha256(&bytes) != record.sha256 {
            return Err(ArchiveError::Altered { id: record.id, path: self.path_of(record) });
        }
        Ok(bytes)
    }
}
