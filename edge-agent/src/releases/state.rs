//! What the agent remembers of its releases: one file, replaced as a whole.

use std::collections::BTreeMap;

use protocol::ReleaseId;
use serde::{Deserialize, Serialize};
use shared::release::{Channel, Seen};

/// The one format this build reads and writes.
pub const FORMAT: u32 = 1;

/// Most superseded releases remembered for a channel; older ones may come back unnoticed.
const MOST_SUPERSEDED: usize = 256;

/// Everything that survives a restart besides the releases and the key ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// The channels that were heard of.
    #[serde(default)]
    pub channels: BTreeMap<Channel, Followed>,
    /// The heads, by name.
    #[serde(default)]
    pub heads: BTreeMap<String, Slot>,
}

/// A channel, as far as its newest accepted assignment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// What must not be gone back from.
    pub seen: Seen,
    /// The release it gives.
    pub release: Digest,
    /// The assignment as it was signed: text.
    pub document: String,
    /// Thousandths of the cameras the rollout has come to.
    pub share: u16,
    /// Releases it gave before its present one.
    #[serde(default)]
    pub superseded: Vec<Digest>,
}

impl Followed {
    /// Remembers that `release` was replaced.
    pub fn supersede(&mut self, release: ReleaseId) {
        self.superseded.retain(|old| old.0 != release);
        self.superseded.push(Digest(release));
        let excess = self.superseded.len().saturating_sub(MOST_SUPERSEDED);
        self.superseded.drain(..excess);
    }
}

/// One head: what runs, what ran before, and what did not work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The release that answers.
    pub active: Option<Digest>,
    /// The one before: where a rollback goes.
    pub previous: Option<Digest>,
    /// The channel that gave the active one; none: someone on the box.
    pub given_by: Option<Channel>,
    /// Someone on the box wants it to stay.
    #[serde(default)]
    pub pinned: bool,
    /// What was refused or rolled back.
    pub failed: Option<Failed>,
}

impl Slot {
    /// `release` answers from now on.
    pub fn activate(&mut self, release: ReleaseId, given_by: Option<Channel>) {
        if self.active != Some(Digest(release)) {
            self.previous = self.active;
        }
        self.active = Some(Digest(release));
        self.given_by = given_by;
        self.failed = None;
    }
}

/// A release that does not run here, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The release.
    pub release: Digest,
    /// Why, for a person.
    pub error: String,
    /// When it is tried again.
    pub until: Until,
}

/// When a failed release is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// Not: another one must be wanted.
    Another,
    /// With the next connection: the fault was the server's, the disk's, or lay in what was agreed.
    Connection,
    /// With a newer key ring.
    Ring,
}

/// A release as 64 digits in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub ReleaseId);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = protocol::ParseReleaseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, channels: BTreeMap::new(), heads: BTreeMap::new() }
    }
}
