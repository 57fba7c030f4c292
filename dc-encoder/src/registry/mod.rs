//! Which head releases there are, and what each channel gives to which cameras.
//!
//! ```text
//! operator ─► Registrar (verifies, decides) ─► Registry (one transaction a change, audited) ─► Embedded (redb, blobs/)
//! cameras' reports ─► Fleet ─► Evidence ─► Rollout::step ─┘        └─► Snapshot ─► sessions push what changed
//! ```
//! The registry believes nobody: the Registrar verifies signatures before anything is kept, and a camera box verifies
//! them again. What a registry can do wrong is to hold a release back.

mod answer;
mod embedded;
mod error;
mod fleet;
mod pack;
mod registrar;
mod snapshot;

use std::fmt;
use std::fs::File;

use jiff::Timestamp;
use protocol::{Body, BodyId, ReleaseId};
use serde::{Deserialize, Serialize};
use shared::release::{Assignment, Channel, Pattern, PublicKey, Rollout};
use tempfile::NamedTempFile;

pub use embedded::Embedded;
pub use error::RegistryError;
pub use registrar::Registrar;
pub use snapshot::{Given, Snapshot};

/// A release that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRecord {
    /// Name of the head.
    pub head: String,
    /// Length of the file in bytes.
    pub bytes: u32,
    /// The file compressed, where that saves enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<PackedRecord>,
    /// The detached signature.
    pub signature: String,
    /// Who published it first.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A release's compressed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedRecord {
    /// Its SHA-256, as 64 digits.
    pub digest: String,
    /// Its length in bytes.
    pub bytes: u32,
}

impl ReleaseRecord {
    /// What may travel for the release: its file, and that compressed, if it is kept.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`].
    pub fn bodies(&self, release: ReleaseId) -> Result<(Body, Option<Body>), RegistryError> {
        let plain = Body { id: BodyId::plain(release), len: self.bytes };
        let Some(PackedRecord { digest, bytes }) = &self.packed else { return Ok((plain, None)) };
        let id = digest.parse().map_err(|error: protocol::ParseReleaseIdError| RegistryError::Corrupt {
            what: "release",
            detail: error.to_string(),
        })?;
        Ok((plain, Some(Body { id, len: *bytes })))
    }
}

/// Where a channel stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRecord {
    /// The newest assignment, as signed.
    pub document: String,
    /// How far it has come.
    pub rollout: Rollout,
    /// The cameras that any assignment of the channel was for: those that it leaves out now must hear of it.
    pub audience: Vec<Pattern>,
}

impl ChannelRecord {
    /// What the assignment says. It was verified when it was kept; its key may have been revoked since.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`].
    pub fn assignment(&self) -> Result<Assignment, RegistryError> {
        read_assignment(self.document.as_bytes())
    }
}

/// Reads an assignment without asking who signed it: for documents that were verified before.
///
/// # Errors
/// [`RegistryError::Corrupt`].
pub fn read_assignment(document: &[u8]) -> Result<Assignment, RegistryError> {
    let content = document.iter().position(|b| *b == b'\n').map_or(&[][..], |end| &document[end + 1..]);
    serde_json::from_slice(content)
        .map_err(|error| RegistryError::Corrupt { what: "assignment", detail: error.to_string() })
}

/// The word of [`HistoryRecord::what`] for a new assignment.
pub const ASSIGNED: &str = "assigned";

/// One line of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryRecord {
    /// Counter of the assignment.
    pub counter: u64,
    /// The release it gave, as 64 digits.
    pub release: String,
    /// It was an explicit rollback.
    pub rollback: bool,
    /// Who did it.
    pub by: String,
    /// [`ASSIGNED`], or what became of the rollout.
    pub what: String,
    /// When.
    pub at: Timestamp,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Who: the name in the certificate, `local` for a command on the registry's machine, `server` for what the server
    /// did by itself.
    pub by: String,
    /// What was changed.
    pub what: String,
    /// When, by the registry's clock.
    pub at: Timestamp,
}

/// One change. Each is one transaction, together with its line of the audit log.
#[derive(Debug)]
pub enum Change<'a> {
    /// The root that everything is verified through; set once.
    Root(PublicKey),
    /// A newer key ring, as signed.
    KeyRing(&'a str),
    /// A release, whose whole file was written to [`Registry::incoming`].
    Release {
        /// Its identity.
        id: ReleaseId,
        /// The file.
        file: NamedTempFile,
        /// The file compressed, if it is kept so too.
        packed: Option<NamedTempFile>,
        /// What is kept beside it.
        record: &'a ReleaseRecord,
    },
    /// A channel's next state.
    Channel {
        /// The channel.
        channel: &'a Channel,
        /// Counter of the assignment this builds on: another one there is a conflict. `None`: there is none.
        after: Option<u64>,
        /// The state.
        record: &'a ChannelRecord,
        /// The line of its history.
        entry: &'a HistoryRecord,
    },
}

/// Where all of it is kept. A change is there whole or not at all, whenever the process or the machine stops.
pub trait Registry: fmt::Debug + Send + Sync {
    /// The root, once set.
    ///
    /// # Errors
    /// [`RegistryError`], as all of these.
    fn root(&self) -> Result<Option<PublicKey>, RegistryError>;

    /// The newest key ring as signed.
    ///
    /// # Errors
    /// As above.
    fn key_ring(&self) -> Result<Option<String>, RegistryError>;

    /// A release.
    ///
    /// # Errors
    /// As above.
    fn release(&self, id: ReleaseId) -> Result<Option<ReleaseRecord>, RegistryError>;

    /// The file of a release that is kept.
    ///
    /// # Errors
    /// As above.
    fn open_release(&self, id: ReleaseId) -> Result<File, RegistryError>;

    /// The compressed file of a release that has one.
    ///
    /// # Errors
    /// As above.
    fn open_packed(&self, id: ReleaseId) -> Result<File, RegistryError>;

    /// Every channel, by name.
    ///
    /// # Errors
    /// As above.
    fn channels(&self) -> Result<Vec<ChannelRecord>, RegistryError>;

    /// A channel's history, the newest line first, at most `limit` lines.
    ///
    /// # Errors
    /// As above.
    fn history(&self, channel: &Channel, limit: usize) -> Result<Vec<HistoryRecord>, RegistryError>;

    /// The audit log, the newest line first, at most `limit` lines.
    ///
    /// # Errors
    /// As above.
    fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, RegistryError>;

    /// A file to write a release into, on the same disk. It is gone when dropped.
    ///
    /// # Errors
    /// As above.
    fn incoming(&self) -> Result<NamedTempFile, RegistryError>;

    /// Makes a change, with its line of the audit log. When this returns it is on disk.
    ///
    /// # Errors
    /// As above; [`RegistryError::Conflict`] when a channel went on meanwhile.
    fn commit(&self, change: Change<'_>, audit: &AuditRecord) -> Result<(), RegistryError>;
}
