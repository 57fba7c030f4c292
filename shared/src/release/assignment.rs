//! A channel assignment: what an operator wants cameras to run, and within which bounds the server may act.

use std::time::Duration;

use protocol::ReleaseId;
use serde::{Deserialize, Serialize};

use super::key_ring::{check_format, to_json};
use super::signed::{self, Kind, digest};
use super::{Channel, Pattern, ReleaseError, Share, SigningKey};

/// Most camera patterns of an assignment.
const MAX_PATTERNS: usize = 64;

/// Longest soak: a season.
const MAX_SOAK: Duration = Duration::from_secs(100 * 24 * 3600);

const WHAT: &str = "assignment";

/// What a channel gives to cameras. It is complete in itself: cameras outside the share, and all of them after a
/// stop, run its fallback, so that nobody ever needs an older assignment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Format of this document, [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// The channel.
    pub channel: Channel,
    /// Counts up within the channel, from 1. Agents never go back.
    pub counter: u64,
    /// The release that cameras of the share run.
    #[serde(with = "release_text")]
    pub release: ReleaseId,
    /// The release that other cameras run. `None`: they run none from this channel.
    #[serde(default, with = "maybe_release_text", skip_serializing_if = "Option::is_none")]
    pub fallback: Option<ReleaseId>,
    /// The cameras it is for. Empty: none; they drop what the channel gave them.
    pub cameras: Vec<Pattern>,
    /// How many of them run the release from the start.
    pub share: Share,
    /// How far the server may go by itself. `None`: it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// Going back to a release that was replaced before is meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
}

/// Bounds of automatic promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// The largest share.
    pub up_to: Share,
    /// How long the canaries must run before, in seconds.
    pub soak_s: u64,
    /// How many frames they must have answered, and the fewest from which values are compared.
    pub min_answers: u64,
    /// Stop beyond this fraction of failed frames, or of canaries that refused the release or went back.
    pub max_failures: f64,
    /// Stop when the canaries' mean moves by more than this, in standard deviations of their values, beyond what
    /// other cameras' moved.
    pub max_shift: f64,
    /// Stop when the standard deviation of their values grows or shrinks by more than this factor, beyond other
    /// cameras'.
    pub max_spread: f64,
}

impl Promotion {
    /// Bounds that suit a count: an hour, a thousand frames, one failure in a hundred, one and a half standard
    /// deviations, a factor of three.
    pub const USUAL: Self = Self {
        up_to: Share::WHOLE,
        soak_s: 3600,
        min_answers: 1000,
        max_failures: 0.01,
        max_shift: 1.5,
        max_spread: 3.0,
    };
}

impl Assignment {
    /// Signs the assignment: a document for the wire and the registry.
    ///
    /// # Errors
    /// [`ReleaseError::Field`] when it would not be accepted.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, ReleaseError> {
        self.validate()?;
        let document = signed::write(Kind::Assignment, to_json(self).as_bytes(), key);
        // Too long is the one thing that can still be wrong.
        signed::open(Kind::Assignment, &document)?;
        Ok(document)
    }

    /// Whether the camera is among those it is for.
    #[must_use]
    pub fn concerns(&self, camera: &str) -> bool {
        self.cameras.iter().any(|pattern| pattern.matches(camera))
    }

    /// The most cameras the server may give the release to.
    #[must_use]
    pub fn largest_share(&self) -> Share {
        self.promotion.as_ref().map_or(self.share, |promotion| promotion.up_to.max(self.share))
    }

    /// What the camera should run when the rollout has come to `share`. `None`: nothing from this channel.
    ///
    /// # Errors
    /// [`ReleaseError::BeyondShare`] when the operator did not allow that much.
    pub fn wanted(&self, camera: &str, share: Share) -> Result<Option<ReleaseId>, ReleaseError> {
        let most = self.largest_share();
        if share > most {
            return Err(ReleaseError::BeyondShare {
                channel: self.channel.to_string(),
                counter: self.counter,
                got: share.to_string(),
                most: most.to_string(),
            });
        }
        if !self.concerns(camera) {
            return Ok(None);
        }
        Ok(if share.holds(&self.channel, camera) { Some(self.release) } else { self.fallback })
    }

    /// Checks that a release which was replaced before does not come back by accident. `superseded`: the releases
    /// the channel gave before its present one.
    ///
    /// # Errors
    /// [`ReleaseError::Superseded`].
    pub fn check_not_superseded(&self, superseded: &[ReleaseId]) -> Result<(), ReleaseError> {
        if self.rollback || !superseded.contains(&self.release) {
            return Ok(());
        }
        let (channel, release) = (self.channel.to_string(), self.release.short());
        Err(ReleaseError::Superseded { channel, release })
    }

    pub(super) fn validate(&self) -> Result<(), ReleaseError> {
        let bad = |field, got: String, want: &str| Err(ReleaseError::field(WHAT, field, got, want));
        check_format(WHAT, self.format)?;
        if self.counter == 0 {
            return bad("counter", "0".to_owned(), "1 or more");
        }
        if self.cameras.len() > MAX_PATTERNS {
            return bad("cameras", self.cameras.len().to_string(), "at most 64 patterns");
        }
        if self.fallback == Some(self.release) {
            return bad("fallback", self.release.short(), "another release than `release`");
        }
        let Some(promotion) = &self.promotion else { return Ok(()) };
        let Promotion { up_to, soak_s, max_failures, max_shift, max_spread, .. } = promotion;
        if *up_to < self.share {
            return bad("promotion.up_to", up_to.to_string(), "the share or more");
        }
        if *soak_s > MAX_SOAK.as_secs() {
            return bad("promotion.soak_s", soak_s.to_string(), "at most 100 days");
        }
        if !(0.0..=1.0).contains(max_failures) {
            return bad("promotion.max_failures", max_failures.to_string(), "0 to 1");
        }
        if !(max_shift.is_finite() && *max_shift > 0.0) {
            return bad("promotion.max_shift", max_shift.to_string(), "a positive number");
        }
        if !(max_spread.is_finite() && *max_spread > 1.0) {
            return bad("promotion.max_spread", max_spread.to_string(), "a number above 1");
        }
        Ok(())
    }
}

/// An assignment whose signature was verified: [`Trust::open_assignment`](super::Trust::open_assignment).
#[derive(Debug, Clone, PartialEq)]
pub struct SignedAssignment {
    /// What it says.
    pub assignment: Assignment,
    /// Name of the key that signed.
    pub signer: String,
    /// The document itself, to keep and send on.
    pub document: Vec<u8>,
}

/// The newest assignment of a channel that was accepted: agents and servers keep it on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Its counter.
    pub counter: u64,
    /// SHA-256 of the document's content and signature.
    #[serde(with = "release_text")]
    pub document: ReleaseId,
}

/// What an assignment is beside the newest one that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Newer: take it.
    Newer,
    /// The very same.
    Same,
}

impl SignedAssignment {
    /// What to remember of it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { counter: self.assignment.counter, document: digest(&self.document) }
    }

    /// Holds the counter against the newest one accepted before.
    ///
    /// # Errors
    /// [`ReleaseError::Replayed`], [`ReleaseError::TwoAssignments`].
    pub fn freshness(&self, newest: Option<&Seen>) -> Result<Freshness, ReleaseError> {
        let Some(newest) = newest else { return Ok(Freshness::Newer) };
        let (got, have) = (self.assignment.counter, newest.counter);
        let channel = || self.assignment.channel.to_string();
        match got.cmp(&have) {
            std::cmp::Ordering::Greater => Ok(Freshness::Newer),
            std::cmp::Ordering::Less => Err(ReleaseError::Replayed { channel: channel(), got, have }),
            std::cmp::Ordering::Equal if self.seen() == *newest => Ok(Freshness::Same),
            std::cmp::Ordering::Equal => {
                Err(ReleaseError::TwoAssignments { channel: channel(), counter: got })
            }
        }
    }
}

/// A release as 64 digits.
mod release_text {
    use protocol::ReleaseId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &ReleaseId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ReleaseId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same where there may be none.
mod maybe_release_text {
    use protocol::ReleaseId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(id: &Option<ReleaseId>, to: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ReleaseId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
