//! What can go wrong, with the file and the remedy.

use std::path::PathBuf;

use jiff::Timestamp;
use shared::tls::PeerError;

/// Why a PKI command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// `init` where an authority already is.
    #[error(
        "{} is there already: this folder has an authority, and a second one would lock out every box of the \
         first; use it, or choose another --dir", .0.display()
    )]
    AuthorityExists(PathBuf),
    /// A command where no authority is.
    #[error(
        "{} is missing: make an authority with `dc-encoder pki init --dir {}`, or name its folder with --dir",
        path.display(), dir.display()
    )]
    NoAuthority {
        /// The missing file.
        path: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output folder has an identity already.
    #[error(
        "{} is there already: move the old identity away (it stays valid until it expires or is revoked), or \
         write elsewhere with --out", .0.display()
    )]
    IdentityExists(PathBuf),
    /// A camera name outside the allowed letters.
    #[error(transparent)]
    CameraName(#[from] PeerError),
    /// An operator name outside the allowed letters.
    #[error("operator name {0:?} must be 1 to 63 of a-z 0-9 . _ - and start with a letter or digit")]
    OperatorName(String),
    /// Not a host name or IP address.
    #[error(
        "{0:?} is neither a host name nor an IP address: write --server HOST[,IP…], as agents will connect"
    )]
    Host(String),
    /// The authority was made before there were enrollers.
    #[error(
        "the authority in {} cannot have an enroller: its certificate allows none, because it was made by an \
         older release. Make a new one with `dc-encoder pki init`, and give every box and server a certificate of it",
        .0.display()
    )]
    NoEnrollers(PathBuf),
    /// An authority name that does not fit into a certificate.
    #[error("authority name {0:?} must be 1 to 64 characters without control characters")]
    AuthorityName(String),
    /// A lifetime that is zero or outlives the authority.
    #[error(
        "a certificate of {days} days is not possible: the authority ends on {}, so --days can be 1 to {most}",
        .until.strftime("%Y-%m-%d")
    )]
    Days {
        /// What was asked for.
        days: u32,
        /// The most that is possible.
        most: i64,
        /// End of the authority.
        until: Timestamp,
    },
    /// Key and certificate of the authority do not belong together, or cannot be used.
    #[error("the authority in {} cannot be used ({detail}): restore ca.pem and ca.key from one backup", dir.display())]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The certificate library refused.
    #[error("cannot make the {what}: {source}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// What the library said.
        source: rcgen::Error,
    },
    /// The revocation list cannot be extended.
    #[error(
        "{} cannot be read ({detail}): restore it from a backup or from an encoder server; a new empty one would \
         let revoked certificates back in", path.display()
    )]
    Crl {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A broken line in the journal of issued certificates.
    #[error("{}:{line} is not a record ({source}): mend or remove the line", path.display())]
    Record {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A file larger than it can be.
    #[error("{} is larger than {limit} bytes: this is some other file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing was ever issued to this name or serial.
    #[error("no certificate was issued to {0} here: `dc-encoder pki list` shows all")]
    NeverIssued(String),
    /// Everything that was issued to it is revoked or expired.
    #[error("nothing to revoke: every certificate of {0} is already revoked or expired")]
    NothingToRevoke(String),
    /// Not a serial number.
    #[error("{0:?} is not a serial number: write it in hex as `dc-encoder pki list` shows it")]
    Serial(String),
}

impl PkiError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn make(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what, source }
    }
}
