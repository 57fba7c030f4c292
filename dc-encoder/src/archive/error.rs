//! Why the archive does not do something.

use std::path::{Path, PathBuf};

use super::{FrameId, ZoneError};

/// Why the archive did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ArchiveError {
    /// The system refused.
    #[error("cannot {what} {}: {source}{}", path.display(), remedy(source))]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// No archive there.
    #[error("there is no archive in {}: `dc-encoder archive init`, `collect` or `archive add` makes one", .0.display())]
    Missing(PathBuf),
    /// The database failed.
    #[error("the archive's index failed: {0}; check the disk's space and health")]
    Database(String),
    /// The database is none, or is broken.
    #[error(
        "the index {} is damaged ({detail}): put a backup of it back. The frames are whole: `archive add` takes those in \
         frames/CAMERA into a new archive; labels and embeddings were in the index alone",
        path.display()
    )]
    Damaged { path: PathBuf, detail: String },
    /// A program that does not share the index has it.
    #[error("{} is in use by a program that does not share it; end that one", .0.display())]
    InUse(PathBuf),
    /// A newer program made it.
    #[error(
        "{} has schema {got}, this program knows up to {known}: update dc-encoder, or use the version that made it",
        path.display()
    )]
    Newer { path: PathBuf, got: u32, known: u32 },
    /// A record that cannot be read.
    #[error(
        "the archive's {what} cannot be read ({detail}): restore it from a backup, or update this program"
    )]
    Corrupt { what: &'static str, detail: String },
    /// A file holds other bytes than were stored.
    #[error("{place} is not what was stored as {id}: `archive verify` lists all such files")]
    Altered { id: FrameId, place: String },
    /// A file is gone.
    #[error("{place} of frame {id} is not there: `archive verify` lists all such files")]
    Lost { id: FrameId, place: String },
    /// The store of the frames does not do it.
    #[error("cannot {what} {place}: {reason}")]
    Store { what: &'static str, place: String, reason: String },
    /// No address of a bucket.
    #[error(
        "{0:?} is no bucket: write s3://BUCKET/PREFIX, the bucket in 3 to 63 of a-z, 0-9, `.` and `-`, the prefix in \
         letters, digits, `.`, `_`, `-` and `/`"
    )]
    BucketUrl(String),
    /// The archive's settings.
    #[error(transparent)]
    Settings(#[from] shared::config::ConfigError),
    /// There is one already.
    #[error("there is an archive in {} already: its settings are in archive.toml there", .0.display())]
    Taken(PathBuf),
    /// The frames are elsewhere, and nobody says where.
    #[error(
        "the frames of {} are in a bucket, and archive.toml there does not name it: put it back ([frames], url =          \"s3://BUCKET/PREFIX\")",
        .0.display()
    )]
    NoBucket(PathBuf),
    /// The frames are here, and the settings say elsewhere.
    #[error(
        "the frames of {} lie in that folder, and archive.toml there names a bucket: take [frames] out; \
         `archive init --frames s3://…` makes another archive that keeps its frames elsewhere",
        .0.display()
    )]
    NotInBucket(PathBuf),
    /// No such frame.
    #[error("frame {0} is not in the archive")]
    UnknownFrame(FrameId),
    /// Not to be seen outside: the frame is added again.
    #[error("a frame was removed while its bytes were added again")]
    Vanished,
    /// No such camera.
    #[error("camera {camera:?} has no frames in the archive; it has {}", list(known))]
    UnknownCamera { camera: String, known: Vec<String> },
    /// A name that no certificate may have either.
    #[error(
        "camera name {0:?}: want 1 to 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    CameraName(String),
    /// Not a JPEG.
    #[error("the frame is no JPEG that can be kept: {0}")]
    Jpeg(#[from] shared::image::JpegError),
    /// A time zone that is none.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// An embedding of another length than its space has.
    #[error("an embedding of {got} numbers, those of space {space} have {want}")]
    Dim { space: String, got: usize, want: usize },
    /// No embeddings to choose by.
    #[error("{0}")]
    NoEmbeddings(String),
    /// A label that cannot be taken.
    #[error("{place}: {fault}")]
    Label { place: String, fault: super::LabelFault },
    /// Nothing to export.
    #[error("{0}")]
    NothingToExport(String),
}

impl ArchiveError {
    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(super) fn database<E: Into<redb::Error>>(error: E) -> Self {
        match error.into() {
            redb::Error::Io(source) => Self::Database(format!("{source}{}", remedy(&source))),
            other => Self::Database(other.to_string()),
        }
    }
}

/// What helps against the usual reasons.
fn remedy(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as K;
    match source.kind() {
        K::StorageFull | K::QuotaExceeded => {
            "; make room, or let `archive gc --keep-days` or `--keep-bytes` do it: nothing that was stored is lost"
        }
        K::ReadOnlyFilesystem => "; the disk is read-only: mount it for writing, or name another --archive",
        K::PermissionDenied => "; the folder must be writable for this user",
        _ => "",
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_or_read_only_comes_with_its_remedy() {
        for (code, want) in [
            (libc::ENOSPC, "cannot write a/b: No space left on device (os error 28); make room, or let"),
            (libc::EROFS, "the disk is read-only: mount it for writing"),
            (libc::EACCES, "the folder must be writable for this user"),
        ] {
            let error = ArchiveError::io("write", Path::new("a/b"))(std::io::Error::from_raw_os_error(code));
            assert!(error.to_string().contains(want), "{error}");
        }
    }
}
