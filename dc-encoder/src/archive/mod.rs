//! The archive: frames kept for training, their embeddings and their labels, with links that are never lost.
//!
//! ```text
//!                 intent (paths, on disk) ─► frame files ─► index, one transaction ─► intent gone
//! Incoming ─► add ┘                                           ▲
//!             query, label, export, verify, gc, forget ───────┘
//! DIR/
//!   archive.toml   settings: a bucket for the frames, how long which camera's may stay
//!   index.redb     records, times, hashes, embeddings, labels; any number of processes at one time
//!   frames/CAMERA/DAY/TIME-ID.jpg     or s3://BUCKET/PREFIX/frames/CAMERA/DAY/TIME-ID.jpg
//!   incoming/      files on their way
//!   intents/       what a process is about to write or delete
//! ```
//! A frame's id is a hash of its camera, its capture time and its bytes: it never changes, whoever computes it gets the
//! same, and a file's name alone says where it belongs. A batch is in the archive whole or not at all: files are durable
//! before the transaction that names them, and files that no transaction named are removed by whoever opens the archive
//! next (see [`intent`]). Forgetting is the same in the other order, and then the index is written anew: a database's free
//! pages are no place for what was to go (see [`index`]).

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
#[cfg(test)]
mod remote_tests;
mod remove;
mod sampling;
mod settings;
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
pub use settings::{BucketSettings, CameraKeep, Settings};
pub use tap::{Skipped, Tap};
pub use verify::{Fault, Report};

use frames::Frames;
use index::Index;
pub(crate) use label::task_name;

/// The index's name in the archive's folder.
const INDEX: &str = "index.redb";

/// An open archive. Any number of processes and threads may have one open; to be used outside of async code, because it
/// waits for the disk.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    index: Index,
    frames: Frames,
    settings: Settings,
}

impl Archive {
    /// Opens the folder, or makes it, and removes what processes that were killed left half done.
    ///
    /// # Errors
    /// A folder that cannot be written, an index that is damaged or of a newer program, settings that are none.
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let settings = Settings::load(dir)?;
        let frames = Frames::open(dir, settings.frames.as_ref())?;
        Self::assemble(dir, settings, frames)
    }

    /// Makes an archive; with `bucket` its frames go there, which is tried out first.
    ///
    /// # Errors
    /// As [`open`](Self::open); one that is there already, a bucket that cannot be used.
    pub fn init(dir: &Path, bucket: Option<&BucketSettings>) -> Result<Self, ArchiveError> {
        let file = dir.join(settings::FILE);
        if dir.join(INDEX).exists() || file.exists() {
            return Err(ArchiveError::Taken(dir.to_owned()));
        }
        let frames = Frames::open(dir, bucket)?;
        if let Frames::Bucket(bucket) = &frames {
            bucket.probe()?;
        }
        std::fs::create_dir_all(dir).map_err(ArchiveError::io("create the folder", dir))?;
        std::fs::write(&file, settings::text(bucket)).map_err(ArchiveError::io("write", &file))?;
        Self::assemble(dir, Settings::load(dir)?, frames)
    }

    fn assemble(dir: &Path, settings: Settings, frames: Frames) -> Result<Self, ArchiveError> {
        let own = if frames.is_remote() { None } else { Some([frames::FOLDER, frames::INCOMING]) };
        for part in own.into_iter().flatten().chain([intent::FOLDER]) {
            let path = dir.join(part);
            std::fs::create_dir_all(&path).map_err(ArchiveError::io("create the folder", &path))?;
        }
        let index = Index::open(&dir.join(INDEX), frames.is_remote())?;
        let archive = Self { dir: dir.to_owned(), index, frames, settings };
        archive.recover()?;
        Ok(archive)
    }

    /// Opens an archive that is there: for commands that only look, so that a slip in the path does not make one.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ArchiveError::Missing`].
    pub fn open_existing(dir: &Path) -> Result<Self, ArchiveError> {
        if !dir.join(INDEX).exists() {
            return Err(ArchiveError::Missing(dir.to_owned()));
        }
        Self::open(dir)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its `archive.toml` says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the frames are, for people: the folder, or a bucket.
    pub fn frames_at(&self) -> String {
        self.frames.place_of(frames::FOLDER)
    }

    /// Where the file of a record lies, in an archive that keeps its frames in its folder.
    pub fn path_of(&self, record: &Record) -> PathBuf {
        self.dir.join(&record.path)
    }

    /// A frame's JPEG, as it was stored; its hash is checked.
    ///
    /// # Errors
    /// A file that is gone, or holds other bytes than the index says; a store that does not answer.
    pub fn jpeg(&self, record: &Record) -> Result<Vec<u8>, ArchiveError> {
        let (id, place) = (record.id, || self.frames.place_of(&record.path));
        let bytes =
            self.frames.get(&record.path)?.ok_or_else(|| ArchiveError::Lost { id, place: place() })?;
        if record::sha256(&bytes) != record.sha256 {
            return Err(ArchiveError::Altered { id, place: place() });
        }
        Ok(bytes)
    }
}
