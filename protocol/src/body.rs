//! The bytes that travel for a release.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};

use crate::{ParseReleaseIdError, ReleaseId, hex};

/// Identifies a body by its content: the SHA-256 of the bytes that travel. A release that travels as it is has the
/// digits of its [`ReleaseId`], one that travels compressed has others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct BodyId(pub [u8; 32]);

impl BodyId {
    /// The body that is the release's own file.
    #[must_use]
    pub const fn plain(release: ReleaseId) -> Self {
        Self(release.0)
    }
}

/// All 64 lower-case hexadecimal digits.
impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyId({self})")
    }
}

/// Reads 64 hexadecimal digits of either case.
impl FromStr for BodyId {
    type Err = ParseReleaseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::plain)
    }
}

/// What travels for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Body {
    /// Which bytes.
    pub id: BodyId,
    /// How many: of the release's own file its length, of a compressed one fewer.
    pub len: u32,
}

/// The start of a body that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Of which body.
    pub body: BodyId,
    /// Bytes that are there already.
    pub offset: u32,
}
