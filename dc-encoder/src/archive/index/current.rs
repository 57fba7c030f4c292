//! The database behind the index's name, which a rewrite replaces while any number of processes have it open.
//!
//! ```text
//! rewrite: write lock of the old file ─► a new file beside ─► rename ─► lock goes
//! others:  wait for that lock, see that the name is another file's, open that one
//! ```

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{ConcurrencyMode, Database, DatabaseError, StorageError};

use crate::archive::ArchiveError;

/// Pages kept in memory, in bytes: the upper levels of an index of millions.
const CACHE_BYTES: usize = 64 << 20;

/// Reads of a file that was replaced have this long to end.
const LINGER: Duration = Duration::from_secs(600);

/// A database, and which file it is.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) database: Database,
    inode: u64,
}

#[derive(Debug)]
pub(super) struct Current {
    path: PathBuf,
    state: Mutex<State>,
    distrusted: AtomicBool,
}

#[derive(Debug)]
struct State {
    open: Arc<Open>,
    /// Replaced ones, while reads may go on in them: a database that is closed ends its reads.
    retired: Vec<(Instant, Arc<Open>)>,
}

impl Current {
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let state = State { open: Arc::new(open(path)?), retired: Vec::new() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state), distrusted: AtomicBool::new(false) })
    }

    /// The database of the file that bears the name now.
    pub(super) fn get(&self) -> Result<Arc<Open>, ArchiveError> {
        let inode = inode(&self.path)?;
        let mut state = self.lock();
        state.retired.retain(|(since, _)| since.elapsed() < LINGER);
        if state.open.inode != inode || self.distrusted.swap(false, Ordering::Relaxed) {
            let fresh = Arc::new(open(&self.path)?);
            let old = std::mem::replace(&mut state.open, fresh);
            state.retired.push((Instant::now(), old));
        }
        Ok(Arc::clone(&state.open))
    }

    /// Whether `open` is still what the name stands for.
    pub(super) fn is(&self, open: &Open) -> Result<bool, ArchiveError> {
        Ok(inode(&self.path)? == open.inode)
    }

    /// The next one who asks opens the file anew.
    pub(super) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn inode(path: &Path) -> Result<u64, ArchiveError> {
    std::fs::metadata(path).map(|it| it.ino()).map_err(ArchiveError::io("look at", path))
}

fn open(path: &Path) -> Result<Open, ArchiveError> {
    loop {
        // Held while the database opens by name, so that its number is not another file's meanwhile.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(ArchiveError::io("open", path))?;
        let before = file.metadata().map_err(ArchiveError::io("look at", path))?.ino();
        let database = database(path)?;
        if inode(path)? == before {
            return Ok(Open { database, inode: before });
        }
    }
}

/// Opens the file as it is, or makes a database of an empty one.
pub(super) fn database(path: &Path) -> Result<Database, ArchiveError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::MultiWriter);
    // A file that something else wrote into makes redb panic rather than fail.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.create(path)));
    let damaged =
        |detail: String| ArchiveError::Damaged { path: path.to_owned(), detail: detail.to_lowercase() };
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch)) => {
            Err(ArchiveError::InUse(path.to_owned()))
        }
        Ok(Err(DatabaseError::Storage(StorageError::Corrupted(detail)))) => Err(damaged(detail)),
        Ok(Err(DatabaseError::Storage(StorageError::Io(source)))) => match source.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Err(damaged(source.to_string()))
            }
            _ => Err(ArchiveError::io("open", path)(source)),
        },
        Ok(Err(other)) => Err(damaged(other.to_string())),
        Err(_) => Err(damaged("its pages contradict each other".to_owned())),
    }
}
