//! The key ring: which keys may sign what. The root signs it, offline.

use std::path::Path;

use protocol::ReleaseId;
use protocol::limits::MAX_DOCUMENT_BYTES;
use serde::{Deserialize, Serialize};

use super::keys::read_limited;
use super::signed::{self, HeadSignature, Kind, digest};
use super::{Assignment, FORMAT, PublicKey, ReleaseError, SignedAssignment, SigningKey};

/// Most keys of a ring, revoked ones included: they stay, so that a refusal can say so.
const MAX_KEYS: usize = 64;

/// Longest name of a key, in bytes.
const MAX_KEY_NAME: usize = 63;

const WHAT: &str = "key ring";

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    /// Head releases.
    Heads,
    /// Channel assignments.
    Assignments,
}

impl KeyRole {
    /// `heads` or `assignments`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Assignments => "assignments",
        }
    }
}

/// One key of a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingKey {
    /// For people, such as `heads-1`: a-z 0-9 . _ -
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// What it may sign.
    pub role: KeyRole,
    /// Nothing it signed is accepted any more.
    pub revoked: bool,
}

/// Which keys may sign what. Only the newest version counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    /// Format of this document, [`FORMAT`].
    pub format: u32,
    /// Counts up from 1.
    pub version: u64,
    /// The keys.
    pub keys: Vec<RingKey>,
}

impl KeyRing {
    /// Signs the ring: a document for files and the wire.
    ///
    /// # Errors
    /// [`ReleaseError::Field`] when the ring is not one that would be accepted.
    pub fn sign(&self, root: &SigningKey) -> Result<Vec<u8>, ReleaseError> {
        self.validate()?;
        let document = signed::write(Kind::KeyRing, to_json(self).as_bytes(), root);
        // Too long is the one thing that can still be wrong.
        Self::open(&document, root.public())?;
        Ok(document)
    }

    /// Reads a signed ring.
    ///
    /// # Errors
    /// [`ReleaseError`]: not a signed ring, by another root, changed since, or not in order.
    pub fn open(document: &[u8], root: PublicKey) -> Result<Self, ReleaseError> {
        let (key, content) = signed::open(Kind::KeyRing, document)?;
        if key != root {
            return Err(ReleaseError::OtherRoot { got: key.short(), want: root.short() });
        }
        let ring: Self = from_json(WHAT, content)?;
        ring.validate()?;
        Ok(ring)
    }

    /// The key, if it may sign that.
    ///
    /// # Errors
    /// [`ReleaseError::UnknownKey`], [`ReleaseError::RevokedKey`], [`ReleaseError::KeyRole`].
    pub fn may(&self, key: PublicKey, role: KeyRole) -> Result<&RingKey, ReleaseError> {
        let version = self.version;
        let found = self
            .keys
            .iter()
            .find(|entry| entry.key == key)
            .ok_or_else(|| ReleaseError::UnknownKey { key: key.short(), version })?;
        let (name, key) = (found.name.clone(), key.short());
        if found.revoked {
            return Err(ReleaseError::RevokedKey { name, key, version });
        }
        if found.role != role {
            let (role, want) = (found.role.as_str(), role.as_str());
            return Err(ReleaseError::KeyRole { name, key, role, want });
        }
        Ok(found)
    }

    fn validate(&self) -> Result<(), ReleaseError> {
        check_format(WHAT, self.format)?;
        if self.version == 0 {
            return Err(ReleaseError::field(WHAT, "version", 0, "1 or more"));
        }
        if self.keys.len() > MAX_KEYS {
            return Err(ReleaseError::field(WHAT, "keys", self.keys.len(), format!("at most {MAX_KEYS}")));
        }
        for (i, entry) in self.keys.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            if entry.name.is_empty() || entry.name.len() > MAX_KEY_NAME || !entry.name.bytes().all(plain) {
                let want = "1 to 63 of a-z 0-9 . _ -";
                return Err(ReleaseError::field(WHAT, "keys.name", format!("{:?}", entry.name), want));
            }
            if self.keys[..i].iter().any(|other| other.name == entry.name || other.key == entry.key) {
                return Err(ReleaseError::field(WHAT, "keys", &entry.name, "each name and key once"));
            }
        }
        Ok(())
    }
}

/// What a program trusts: the root it was given, and the newest ring it has seen. Everything signed is verified
/// through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    root: PublicKey,
    ring: KeyRing,
    document: Vec<u8>,
}

impl Trust {
    /// Trusts `root` and a ring it signed.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn new(root: PublicKey, document: &[u8]) -> Result<Self, ReleaseError> {
        Ok(Self { root, ring: KeyRing::open(document, root)?, document: document.to_vec() })
    }

    /// [`new`](Self::new) from the files `root.pub` and `key-ring`.
    ///
    /// # Errors
    /// [`ReleaseError::Read`] besides.
    pub fn load(root: &Path, ring: &Path) -> Result<Self, ReleaseError> {
        Self::new(PublicKey::load(root)?, &read_limited(WHAT, ring, MAX_DOCUMENT_BYTES as u64)?)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.root
    }

    /// The newest ring.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The newest ring as signed: what is kept on disk and sent on.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Takes a newer ring; `false`: it is the one that is here. The caller writes [`document`](Self::document) to
    /// disk before it acts on it, so that a restart does not bring an older one back.
    ///
    /// # Errors
    /// [`ReleaseError::OlderRing`], [`ReleaseError::TwoRings`], and those of [`KeyRing::open`].
    pub fn update(&mut self, document: &[u8]) -> Result<bool, ReleaseError> {
        if document == self.document {
            return Ok(false);
        }
        let ring = KeyRing::open(document, self.root)?;
        let (got, have) = (ring.version, self.ring.version);
        match got.cmp(&have) {
            std::cmp::Ordering::Less => Err(ReleaseError::OlderRing { got, have }),
            std::cmp::Ordering::Equal if ring == self.ring => Ok(false),
            std::cmp::Ordering::Equal => Err(ReleaseError::TwoRings { version: got }),
            std::cmp::Ordering::Greater => {
                (self.ring, self.document) = (ring, document.to_vec());
                Ok(true)
            }
        }
    }

    /// Verifies a head file against its signature; the key that signed.
    ///
    /// # Errors
    /// [`ReleaseError::OtherRelease`], [`ReleaseError::BadSignature`], and those of [`KeyRing::may`].
    pub fn verify_head(&self, file: &[u8], signature: &HeadSignature) -> Result<&RingKey, ReleaseError> {
        self.verify_release(digest(file), signature)
    }

    /// [`verify_head`](Self::verify_head) with the digest alone: before the file is fetched.
    ///
    /// # Errors
    /// As there.
    pub fn verify_release(
        &self,
        release: ReleaseId,
        signature: &HeadSignature,
    ) -> Result<&RingKey, ReleaseError> {
        if signature.release != release {
            let (signed, file) = (signature.release.short(), release.short());
            return Err(ReleaseError::OtherRelease { signed, file });
        }
        signature.check()?;
        self.ring.may(signature.key(), KeyRole::Heads)
    }

    /// Verifies and reads a signed assignment. Its counter is the caller's to check:
    /// [`SignedAssignment::freshness`].
    ///
    /// # Errors
    /// [`ReleaseError`]: not a signed assignment, changed since, by a key that may not, or not in order.
    pub fn open_assignment(&self, document: &[u8]) -> Result<SignedAssignment, ReleaseError> {
        let (key, content) = signed::open(Kind::Assignment, document)?;
        let signer = self.ring.may(key, KeyRole::Assignments)?.name.clone();
        let assignment: Assignment = from_json("assignment", content)?;
        assignment.validate()?;
        Ok(SignedAssignment { assignment, signer, document: document.to_vec() })
    }
}

pub(super) fn check_format(what: &'static str, got: u32) -> Result<(), ReleaseError> {
    if got == FORMAT { Ok(()) } else { Err(ReleaseError::Format { what, got, want: FORMAT }) }
}

/// Readable, for whoever opens the file; it is signed as it stands.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    let mut json = serde_json::to_string_pretty(value).expect("names and numbers always serialise");
    json.push('\n');
    json
}

fn from_json<'a, T: Deserialize<'a>>(what: &'static str, content: &'a [u8]) -> Result<T, ReleaseError> {
    serde_json::from_slice(content).map_err(|error| ReleaseError::Json { what, reason: error.to_string() })
}
