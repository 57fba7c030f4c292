//! Where the frames' files are: in the archive's folder, or in a bucket that speaks S3.
//!
//! ```text
//! put, get, delete, list ─► Frames ─┬─ Folder: written beside, synced, renamed; a batch shares the syncs of its folders
//!                                   └─ Bucket: object_store; an object is whole and durable when its PUT is answered
//! ```
//! Both have the same names below their root, and the same rules: files come before the transaction that names them, and
//! an intent on the local disk lists them until then.

mod bucket;
mod credentials;
mod folder;

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;

use super::settings::BucketSettings;
use super::{ArchiveError, FrameId};

pub(super) use bucket::Bucket;
#[cfg(test)]
pub(super) use bucket::Place;
pub(super) use folder::{Folder, INCOMING};

/// Folder of the frames inside the archive, and below a bucket's prefix.
pub(super) const FOLDER: &str = "frames";

/// `frames/plaza-1/2026-06-01/2026-06-01T12_00_00.250000-ID.jpg`: camera, time in UTC, id. The time is written as
/// [`shared::frames::from_name`] reads it.
pub(super) fn path(camera: &str, captured_at: Timestamp, id: FrameId) -> String {
    let time = captured_at.strftime("%Y-%m-%d/%Y-%m-%dT%H_%M_%S.%6f");
    format!("{FOLDER}/{camera}/{time}-{id}.jpg")
}

/// The id that a path's name ends with.
pub(super) fn id_in(path: &str) -> Option<FrameId> {
    path.strip_suffix(".jpg")?.rsplit('-').next()?.parse().ok()
}

/// The store of an archive's frames.
#[derive(Debug)]
pub(super) enum Frames {
    Folder(Folder),
    Bucket(Bucket),
}

impl Frames {
    /// In the archive's folder `dir`, unless its settings name a bucket.
    pub(super) fn open(dir: &Path, bucket: Option<&BucketSettings>) -> Result<Self, ArchiveError> {
        match bucket {
            None => Ok(Self::Folder(Folder::new(dir))),
            Some(settings) => Bucket::open(settings, dir).map(Self::Bucket),
        }
    }

    /// Whether a network is between this program and the frames.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// Writes these files; all are durable when it returns. After an error some may be there.
    pub(super) fn put(&self, files: &[(String, Bytes)]) -> Result<(), ArchiveError> {
        match self {
            Self::Folder(folder) => folder.put(files),
            Self::Bucket(bucket) => bucket.put(files),
        }
    }

    /// A file's bytes; `None` if it is not there.
    pub(super) fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self {
            Self::Folder(folder) => folder.get(path),
            Self::Bucket(bucket) => bucket.get(path),
        }
    }

    /// Deletes files, and what interrupted writes of them left; one that is not there is no error.
    pub(super) fn delete(&self, paths: &[&str]) -> Result<(), ArchiveError> {
        match self {
            Self::Folder(folder) => paths.iter().try_for_each(|path| folder.delete(path)),
            Self::Bucket(bucket) => bucket.delete(paths),
        }
    }

    /// Every file below `frames/`, with its length.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>, ArchiveError> {
        match self {
            Self::Folder(folder) => folder.list(),
            Self::Bucket(bucket) => bucket.list(),
        }
    }

    /// A file's length; `None` if it is not there.
    pub(super) fn length(&self, path: &str) -> Result<Option<u64>, ArchiveError> {
        match self {
            Self::Folder(folder) => Ok(folder.length(path)),
            Self::Bucket(bucket) => bucket.length(path),
        }
    }

    /// Where a file is, for people.
    pub(super) fn place_of(&self, path: &str) -> String {
        match self {
            Self::Folder(folder) => folder.at(path).display().to_string(),
            Self::Bucket(bucket) => bucket.place_of(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_camera_time_and_id() {
        let at: Timestamp = "2026-06-01T12:00:00.25Z".parse().unwrap();
        let id = FrameId([0xab; 16]);
        let path = path("plaza-1", at, id);
        assert_eq!(path, format!("frames/plaza-1/2026-06-01/2026-06-01T12_00_00.250000-{id}.jpg"));
        assert_eq!(id_in(&path), Some(id));
        assert_eq!(shared::frames::from_name(&path), Some("2026-06-01T12:00:00Z".parse().unwrap()));
        assert_eq!(id_in("frames/plaza-1/notes.txt"), None);
    }
}
