//! Why the registry does not do something, and the code an operator is told.

use std::path::{Path, PathBuf};

use protocol::OperatorCode;
use shared::release::ReleaseError;

/// Why the registry did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum RegistryError {
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// Another process has the database.
    #[error(
        "{} is in use: while a server runs on it, send commands to the server (--server HOST:PORT --cert DIR)",
        .0.display()
    )]
    InUse(PathBuf),
    /// The database failed.
    #[error("the registry's database failed: {0}; check the disk's space and health")]
    Database(String),
    /// A record that cannot be read.
    #[error(
        "the registry's {what} cannot be read ({detail}): restore it from a backup, or update this program"
    )]
    Corrupt { what: &'static str, detail: String },
    /// No root was ever named.
    #[error(
        "the registry has no root yet: name root.pub with --release-root, or publish with --registry and --keys"
    )]
    NoRoot,
    /// Another root than the first.
    #[error(
        "the registry trusts root {have}, not {got}: a registry keeps its root; start another one for another root"
    )]
    OtherRoot { have: String, got: String },
    /// No key ring yet.
    #[error("the registry has no key ring yet: `dc-encoder head publish` brings the one of --keys")]
    NoRing,
    /// Signed wrongly, replayed, or not in order.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A head that cannot be used.
    #[error("the head cannot be used: {0}")]
    Head(String),
    /// A file that arrived otherwise than announced.
    #[error("release {want} was announced, the bytes that came are {got}: send it again")]
    Garbled { want: String, got: String },
    /// A release that was never published.
    #[error("release {0} is not in the registry: publish it first")]
    UnknownRelease(String),
    /// A channel without an assignment.
    #[error("channel {0} has no assignment: publish a head to it first")]
    UnknownChannel(String),
    /// Someone was faster.
    #[error(
        "{channel} went on to assignment {have} meanwhile: look at it (`dc-encoder head status`) and try again"
    )]
    Conflict { channel: String, have: u64 },
    /// There is none.
    #[error("the server has no registry: start it with `serve --registry DIR --release-root root.pub`")]
    None,
    /// The program failed.
    #[error("the registry failed: {0}; please report this")]
    Failed(String),
    /// A request that makes no sense.
    #[error("{0}")]
    Request(String),
}

impl RegistryError {
    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(super) fn database(error: impl Into<redb::Error>) -> Self {
        Self::Database(error.into().to_string())
    }

    /// What an operator is told.
    #[must_use]
    pub fn code(&self) -> OperatorCode {
        use ReleaseError as R;
        match self {
            Self::Io { .. } | Self::InUse(_) | Self::Database(_) | Self::Corrupt { .. } | Self::Failed(_) => {
                OperatorCode::Internal
            }
            Self::NoRoot | Self::NoRing | Self::OtherRoot { .. } => OperatorCode::Signature,
            Self::Release(
                R::OlderRing { .. }
                | R::TwoRings { .. }
                | R::Replayed { .. }
                | R::TwoAssignments { .. }
                | R::Superseded { .. }
                | R::Rollout { .. },
            )
            | Self::Conflict { .. } => OperatorCode::Conflict,
            Self::Release(R::OtherHead { .. }) | Self::Head(_) => OperatorCode::Head,
            Self::Release(R::Channel(_) | R::Pattern(_)) | Self::Garbled { .. } | Self::Request(_) => {
                OperatorCode::Malformed
            }
            Self::Release(_) => OperatorCode::Signature,
            Self::UnknownRelease(_) | Self::UnknownChannel(_) | Self::None => OperatorCode::Unknown,
        }
    }
}
