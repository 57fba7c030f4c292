//! What a process is about to write or delete, on disk before it does so.
//!
//! An intent is a file of paths, locked by its process for as long as that lives. Whoever opens the archive and finds one
//! whose lock is free knows that its process died in between, and settles it: of the frames it lists, those that the index
//! names stay, the files of the others are removed. The same rule finishes an interrupted batch and an interrupted
//! deletion, and is harmless when there is nothing left to do.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Archive, ArchiveError, frames};

/// Folder of the intents inside the archive.
pub(super) const FOLDER: &str = "intents";

/// A process's own intent; [`done`](Self::done) takes it back.
#[derive(Debug)]
pub(super) struct Intent {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Intent {
    /// Writes these paths down, durably.
    pub(super) fn declare<'a>(
        archive: &Path,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ArchiveError> {
        let folder = archive.join(FOLDER);
        let failed = ArchiveError::io("write in", &folder);
        // Named before it has its lock, and found by nobody: only names ending in `.intent` are looked at.
        let mut file = tempfile::Builder::new().suffix(".new").tempfile_in(&folder).map_err(&failed)?;
        let text = paths.into_iter().fold(String::new(), |text, path| text + path + "\n");
        file.write_all(text.as_bytes()).map_err(&failed)?;
        file.as_file().lock().map_err(&failed)?;
        file.as_file().sync_all().map_err(&failed)?;
        let path = file.path().with_extension("intent");
        let file = file.persist(&path).map_err(|error| failed(error.error))?;
        sync(&folder)?;
        Ok(Self { path, _file: file })
    }

    /// Everything was done, or is to be settled by whoever opens the archive next.
    pub(super) fn done(self) -> Result<(), ArchiveError> {
        std::fs::remove_file(&self.path).map_err(ArchiveError::io("remove", &self.path))
    }
}

impl Archive {
    /// Settles what processes that are gone left behind.
    pub(super) fn recover(&self) -> Result<(), ArchiveError> {
        let folder = self.dir.join(FOLDER);
        let failed = ArchiveError::io("read", &folder);
        for entry in std::fs::read_dir(&folder).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            match path.extension().and_then(|it| it.to_str()) {
                Some("intent") => match self.settle_abandoned(&path) {
                    // What needs no frame works while their store does not answer; the intent is for the next one.
                    Err(error @ ArchiveError::Store { .. }) => {
                        tracing::warn!(%error, "what a process left half done is settled another time");
                    }
                    done => done?,
                },
                Some("new") => sweep(&path),
                _ => {}
            }
        }
        Ok(())
    }

    fn settle_abandoned(&self, path: &Path) -> Result<(), ArchiveError> {
        let Ok(mut file) = File::open(path) else { return Ok(()) }; // settled by another process meanwhile
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()), // its process lives
            Err(TryLockError::Error(source)) => return Err(ArchiveError::io("lock", path)(source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(ArchiveError::io("read", path))?;
        self.settle(text.lines())?;
        tracing::info!(files = text.lines().count(), "settled what a process that was killed left half done");
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ArchiveError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the files of those frames that the index does not name. Nobody can name one meanwhile, and whoever wrote such
    /// a file and is about to name it sees that something was removed: see [`Self::add`].
    pub(super) fn settle<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Result<(), ArchiveError> {
        self.index.write(|tables| {
            let mut unnamed = Vec::new();
            for path in paths {
                let Some(id) = frames::id_in(path) else { continue };
                if tables.record(id)?.is_none_or(|record| record.path != path) {
                    unnamed.push(path);
                }
            }
            self.frames.delete(&unnamed)?;
            if unnamed.is_empty() { Ok(()) } else { tables.count_settlement() }
        })
    }
}

/// An intent whose process died before it was one, unless it lives and is about to make it one.
fn sweep(path: &Path) {
    /// Far longer than writing a few kilobytes takes.
    const OLD: std::time::Duration = std::time::Duration::from_secs(3600);
    let age = std::fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|it| it.elapsed().ok());
    if age.is_some_and(|age| age > OLD) {
        let _ = std::fs::remove_file(path);
    }
}

pub(super) fn sync(dir: &Path) -> Result<(), ArchiveError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(ArchiveError::io("write", dir))
}

/// Every path in any intent.
pub(super) fn under_way(archive: &Path) -> Result<std::collections::HashSet<String>, ArchiveError> {
    let folder = archive.join(FOLDER);
    let failed = ArchiveError::io("read", &folder);
    let mut paths = std::collections::HashSet::new();
    for entry in std::fs::read_dir(&folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.extension().is_some_and(|it| it == "intent") {
            // One that is gone by now has been done.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            paths.extend(text.lines().map(str::to_owned));
        }
    }
    Ok(paths)
}
