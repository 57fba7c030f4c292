//! The head store: a folder that only one agent uses.
//!
//! ```text
//! DIR/key-ring                the newest ring, as signed
//! DIR/state.json              channels, heads, pins (State)
//! DIR/releases/DIGEST[.sig]   head files and their signatures
//! DIR/fetching/DIGEST[.BODY]  the start of one that is being fetched; BODY: of the compressed bytes it travels as
//! DIR/lock, DIR/control       held by the running agent; its socket
//! ```
//! A file is written beside its place, flushed to the disk, and renamed: after a power cut the old one is there or
//! the new one, never half of it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use protocol::limits::{MAX_DOCUMENT_BYTES, MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES};
use protocol::{BodyId, Part, ReleaseId};

use super::state::{FORMAT, State};

/// Largest state file: 64 channels with a document each, and as many heads.
const MAX_STATE_BYTES: u64 = 8 << 20;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system said no.
    #[error("heads_dir: cannot {what} {}: {source}", path.display())]
    Io {
        /// Such as `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another agent uses it.
    #[error("heads_dir = {}: another agent is using it; give each agent a folder of its own", .0.display())]
    Busy(PathBuf),
    /// The state file is not one.
    #[error("{}: {reason}; move it away to start with no releases", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The folder. Dropping it lets another agent have it.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the folder, and makes it where it is missing: for its owner alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for folder in [dir.to_owned(), dir.join("releases"), dir.join("fetching")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(failed("make", &folder))?;
        }
        let path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Busy(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ring that was kept.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn ring(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.dir.join("key-ring"), MAX_DOCUMENT_BYTES as u64)
    }

    /// Keeps a ring.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keep_ring(&self, document: &[u8]) -> Result<(), StoreError> {
        replace(&self.dir.join("key-ring"), document)
    }

    /// What was remembered.
    ///
    /// # Errors
    /// [`StoreError`]. A state that cannot be read is not taken for none: counters would go back.
    pub fn state(&self) -> Result<State, StoreError> {
        let path = self.dir.join("state.json");
        let Some(json) = read(&path, MAX_STATE_BYTES)? else { return Ok(State::default()) };
        let bad = |reason: String| StoreError::State { path: path.clone(), reason };
        let state: State = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
        if state.format != FORMAT {
            return Err(bad(format!("format {} is not known here, update this program", state.format)));
        }
        Ok(state)
    }

    /// Remembers.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the old state is there still.
    pub fn keep_state(&self, state: &State) -> Result<(), StoreError> {
        let json = serde_json::to_vec_pretty(state).expect("names and numbers always serialise");
        replace(&self.dir.join("state.json"), &json)
    }

    /// Where a release is, or will be.
    #[must_use]
    pub fn head_path(&self, release: ReleaseId) -> PathBuf {
        self.dir.join("releases").join(release.to_string())
    }

    /// Where the start of a release is while it is fetched as this body.
    #[must_use]
    pub fn part_path(&self, release: ReleaseId, body: BodyId) -> PathBuf {
        let name = if body == BodyId::plain(release) { String::new() } else { format!(".{body}") };
        self.dir.join("fetching").join(format!("{release}{name}"))
    }

    /// What is there of a release that is being fetched.
    #[must_use]
    pub fn part(&self, release: ReleaseId) -> Option<Part> {
        let part = |(path, body): (PathBuf, BodyId)| {
            let offset = u32::try_from(path.metadata().ok()?.len()).unwrap_or(u32::MAX);
            Some(Part { body, offset })
        };
        self.parts(release).filter_map(part).max_by_key(|part| part.offset)
    }

    /// The files of a release that is being fetched, and the bodies they are of.
    fn parts(&self, release: ReleaseId) -> impl Iterator<Item = (PathBuf, BodyId)> + use<> {
        let digits = release.to_string();
        let body = move |path: &Path| match path.file_name()?.to_str()?.strip_prefix(&digits)? {
            "" => Some(BodyId::plain(release)),
            more => more.strip_prefix('.')?.parse().ok(),
        };
        let entries = std::fs::read_dir(self.dir.join("fetching")).into_iter().flatten().flatten();
        entries.filter_map(move |entry| Some((entry.path(), body(&entry.path())?)))
    }

    /// Whether the release is here.
    #[must_use]
    pub fn has(&self, release: ReleaseId) -> bool {
        self.head_path(release).is_file()
    }

    /// A release's bytes, and its signature if it has one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn head(&self, release: ReleaseId) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
        let path = self.head_path(release);
        let bytes = read(&path, MAX_RELEASE_BYTES.into())?
            .ok_or_else(|| failed("read", &path)(io::ErrorKind::NotFound.into()))?;
        Ok((bytes, read(&shared::release::signature_path(&path), MAX_SIGNATURE_BYTES as u64)?))
    }

    /// Keeps a release: the signature first, so that no head is here without.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keep_head(&self, release: ReleaseId, bytes: &[u8], sig: Option<&[u8]>) -> Result<(), StoreError> {
        let path = self.head_path(release);
        if let Some(sig) = sig {
            replace(&shared::release::signature_path(&path), sig)?;
        }
        replace(&path, bytes)?;
        self.forget_parts(release);
        Ok(())
    }

    /// Throws what was fetched of a release away.
    pub fn forget_parts(&self, release: ReleaseId) {
        for (path, _) in self.parts(release) {
            // What stays is found by its digest and checked.
            let _ = remove(&path);
        }
    }

    /// Removes releases and parts that nobody needs any more.
    pub fn sweep(&self, needed: &[ReleaseId]) {
        for folder in ["releases", "fetching"] {
            let Ok(entries) = std::fs::read_dir(self.dir.join(folder)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let release = name.split('.').next().unwrap_or_default().parse::<ReleaseId>();
                if release.is_ok_and(|release| !needed.contains(&release)) {
                    // What cannot be removed now is tried again the next time.
                    let _ = remove(&entry.path());
                }
            }
        }
    }
}

/// Reads a file of at most `max` bytes; `None`: there is none.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > max {
        return Err(failed("read", path)(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

/// Puts a file in the place of another, or leaves that alone.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = power(path).and_then(|()| File::create(&new)).and_then(|mut file| {
        power(path)?;
        file.write_all(bytes)?;
        power(path)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // A full disk needs its room back.
        let _ = remove(&new);
        return Err(failed("write", path)(error));
    }
    power(path).and_then(|()| std::fs::rename(&new, path)).map_err(failed("replace", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let flush = || power(folder).and_then(|()| File::open(folder)).and_then(|folder| folder.sync_all());
    flush().map_err(failed("flush", folder))
}

fn remove(path: &Path) -> io::Result<()> {
    power(path).and_then(|()| std::fs::remove_file(path))
}

/// Before each change of the disk: where tests cut the power.
#[cfg(not(test))]
fn power(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use power::power;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

#[cfg(test)]
pub(super) mod power;

#[cfg(test)]
mod tests {
    use super::super::state::Slot;
    use super::*;

    const RELEASE: ReleaseId = ReleaseId([3; 32]);

    #[test]
    fn a_folder_has_one_agent_and_keeps_what_it_was_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("heads");
        let store = Store::open(&dir).unwrap();
        assert!(matches!(Store::open(&dir), Err(StoreError::Busy(_))));
        let mut state = store.state().unwrap();
        let mut slot = Slot::default();
        slot.activate(RELEASE, Some("count@stable".parse().unwrap()));
        state.heads.insert("count".into(), slot);
        store.keep_state(&state).unwrap();
        store.keep_head(RELEASE, b"head", Some(b"signature")).unwrap();
        drop(store);
        let store = Store::open(&dir).unwrap();
        assert_eq!(store.state().unwrap(), state);
        assert_eq!(store.head(RELEASE).unwrap(), (b"head".to_vec(), Some(b"signature".to_vec())));
        store.sweep(&[RELEASE]);
        assert!(store.has(RELEASE));
        store.sweep(&[]);
        assert!(!store.has(RELEASE));
        assert_eq!(std::fs::read_dir(dir.join("releases")).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_and_a_power_cut_leave_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.keep_ring(b"old").unwrap();
        // What a write that was cut off leaves behind.
        std::fs::write(dir.path().join("key-ring.new"), b"ne").unwrap();
        assert_eq!(store.ring().unwrap().unwrap(), b"old");
        std::fs::remove_file(dir.path().join("key-ring.new")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("key-ring.new")).unwrap();
        let error = store.keep_ring(b"new").unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("No space left"), "{error}");
        assert_eq!(store.ring().unwrap().unwrap(), b"old");
        store.keep_ring(b"new").unwrap();
        assert_eq!(store.ring().unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_broken_state_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.state().unwrap(), State::default());
        for text in ["{", r#"{"format":2}"#] {
            std::fs::write(dir.path().join("state.json"), text).unwrap();
            let error = store.state().unwrap_err().to_string();
            assert!(error.contains("state.json") && error.contains("move it away"), "{error}");
        }
    }
}
