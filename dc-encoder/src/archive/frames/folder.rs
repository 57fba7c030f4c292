//! Frames as files: written beside, made durable, then renamed; so that a name always stands for a whole file.
//!
//! Not through `object_store`: its local half neither syncs files nor lets a batch share the syncs of its folders.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

use super::super::ArchiveError;
use super::super::intent::sync;
use super::{FOLDER, id_in};

/// Where files are written before they get their names.
pub(in super::super) const INCOMING: &str = "incoming";

/// Files written at one time: their syncs share the disk's queue.
const AT_ONCE: usize = 8;

/// Sets files apart that one process writes at the same time.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The folder of an archive, as a store of frames.
#[derive(Debug)]
pub(in super::super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Writes these files; all are durable when it returns.
    pub(super) fn put(&self, files: &[(String, Bytes)]) -> Result<(), ArchiveError> {
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|(path, _)| self.dir.join(path).parent().map(Path::to_owned)).collect();
        folders.iter().try_for_each(|folder| self.make(folder))?;
        let (next, threads) = (AtomicUsize::new(0), AT_ONCE.min(files.len()));
        let work = || {
            while let Some((path, bytes)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.put_one(path, bytes)?;
            }
            Ok::<(), ArchiveError>(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })?;
        folders.iter().try_for_each(|folder| sync(folder))
    }

    /// A folder and those above it, durably.
    fn make(&self, folder: &Path) -> Result<(), ArchiveError> {
        if folder.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(folder).map_err(ArchiveError::io("create the folder", folder))?;
        let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.dir));
        above.into_iter().try_for_each(sync)
    }

    fn put_one(&self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let to = self.dir.join(path);
        let failed = ArchiveError::io("write", &to);
        let id = id_in(path).map(|id| id.to_string()).unwrap_or_default();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let staged = self.dir.join(INCOMING).join(format!("{id}-{}-{number}", std::process::id()));
        let written = File::create(&staged).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let moved = written.map_err(&failed).and_then(|()| match std::fs::rename(&staged, &to) {
            // Whoever removes the same frame took it for what an interrupted write left.
            Err(error) if error.kind() == ErrorKind::NotFound && !staged.exists() => {
                Err(ArchiveError::Vanished)
            }
            moved => moved.map_err(&failed),
        });
        if moved.is_err() {
            // Whatever is left of it takes room that the disk may not have.
            let _ = std::fs::remove_file(&staged);
        }
        moved
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let file = self.at(path);
        match std::fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArchiveError::io("read", &file)(error)),
        }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    pub(super) fn length(&self, path: &str) -> Option<u64> {
        std::fs::metadata(self.at(path)).ok().map(|it| it.len())
    }

    /// Deletes a file, and what an interrupted write of it left; one that is not there is no error.
    pub(super) fn delete(&self, path: &str) -> Result<(), ArchiveError> {
        remove(&self.dir.join(path))?;
        let Some(id) = id_in(path).map(|id| id.to_string()) else { return Ok(()) };
        let folder = self.dir.join(INCOMING);
        for entry in std::fs::read_dir(&folder).map_err(ArchiveError::io("read", &folder))? {
            let entry = entry.map_err(ArchiveError::io("read", &folder))?;
            if entry.file_name().to_string_lossy().starts_with(&id) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Every file below `frames/`, with its length.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>, ArchiveError> {
        let mut found = Vec::new();
        walk(&self.dir.join(FOLDER), FOLDER, &mut found)?;
        Ok(found)
    }
}

fn remove(path: &Path) -> Result<(), ArchiveError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ArchiveError::io("delete", path)(error)),
        _ => Ok(()),
    }
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<(String, u64)>) -> Result<(), ArchiveError> {
    let failed = ArchiveError::io("read", dir);
    for entry in std::fs::read_dir(dir).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().map_err(&failed)?.is_dir() {
            walk(&entry.path(), &path, found)?;
        } else {
            // Another process may have deleted it meanwhile.
            let Ok(meta) = entry.metadata() else { continue };
            found.push((path, meta.len()));
        }
    }
    Ok(())
}
