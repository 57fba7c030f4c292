//! A power cut, for tests: from one change of the disk on, none is made any more.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Changes that are still made, by folder.
static LEFT: Mutex<Option<HashMap<PathBuf, usize>>> = Mutex::new(None);

/// Cuts the power of `dir` after so many changes; `None`: gives it back.
pub(in crate::releases) fn cut(dir: &Path, after: Option<usize>) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let left = left.get_or_insert_default();
    match after {
        Some(changes) => drop(left.insert(dir.to_owned(), changes)),
        None => drop(left.remove(dir)),
    }
}

pub(super) fn power(path: &Path) -> io::Result<()> {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = left.iter_mut().flatten().find(|(dir, _)| path.starts_with(dir));
    let Some((_, changes)) = folder else { return Ok(()) };
    *changes = changes.checked_sub(1).ok_or_else(|| io::Error::other("the power is off"))?;
    Ok(())
}
