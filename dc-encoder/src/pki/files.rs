//! Writing so that a crash or a full disk leaves either the old or the new, and no key is ever readable.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::PkiError;

/// Owner only, from the first byte on.
pub(crate) const SECRET: u32 = 0o600;
/// Certificates and lists are public.
pub(crate) const PUBLIC: u32 = 0o644;

/// Creates a file that must not be there yet, and waits until it is on disk.
pub(crate) fn create(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(PkiError::io("create", path))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|source| {
        let _ = std::fs::remove_file(path); // ours, and half written
        PkiError::io("write", path)(source)
    })
}

/// Puts `text` in the place of the file in one step: a reader sees the old text or the new.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), PkiError> {
    replace_as(path, PUBLIC, text)
}

/// [`replace`] with other permissions.
pub(crate) fn replace_as(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::io("replace", path)(source);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    sync_dir(dir)
}

/// Waits until a folder's entries are on disk.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), PkiError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(PkiError::io("write", dir))
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), PkiError> {
    std::fs::create_dir_all(dir).map_err(PkiError::io("create the folder", dir))
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, PkiError> {
    let mut text = String::new();
    let file = File::open(path).map_err(PkiError::io("read", path))?;
    file.take(limit + 1).read_to_string(&mut text).map_err(PkiError::io("read", path))?;
    if text.len() as u64 > limit {
        return Err(PkiError::TooLarge { path: path.into(), limit });
    }
    Ok(text)
}

/// Takes the folder's lock, waiting for another command to finish; it is given up with the file.
pub(crate) fn lock(dir: &Path) -> Result<File, PkiError> {
    let path = dir.join(".lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    open.and_then(|file| file.lock().map(|()| file)).map_err(PkiError::io("lock", path))
}
