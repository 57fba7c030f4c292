//! The identity of a release.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};

use crate::hex::{self, Fault};

/// Identifies a release by its content: the SHA-256 of the whole head file. The same bytes are the same release,
/// whoever signed them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ReleaseId(pub [u8; 32]);

impl ReleaseId {
    /// The first 12 of the 64 hexadecimal digits: enough for people, never for a comparison.
    #[must_use]
    pub fn short(&self) -> String {
        hex::short(&self.0)
    }
}

/// All 64 lower-case hexadecimal digits.
impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseId({self})")
    }
}

/// Why a text is no [`ReleaseId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReleaseIdError {
    /// It has another length.
    #[error("a release has 64 hexadecimal digits, this text has {0} characters")]
    Length(usize),
    /// It has a character that is no hexadecimal digit.
    #[error("{found:?} at position {at} of a release is no hexadecimal digit")]
    Digit {
        /// Position of the character, from 0.
        at: usize,
        /// The character.
        found: char,
    },
}

/// Reads 64 hexadecimal digits of either case; the short form is refused.
impl FromStr for ReleaseId {
    type Err = ParseReleaseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::parse(text).map(Self).map_err(|fault| match fault {
            Fault::Length(count) => ParseReleaseIdError::Length(count),
            Fault::Digit { at, found } => ParseReleaseIdError::Digit { at, found },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ReleaseId(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), id.to_string()[..12]);
        assert_eq!(id.short().parse::<ReleaseId>(), Err(ParseReleaseIdError::Length(12)));
        let digit = ParseReleaseIdError::Digit { at: 0, found: 'x' };
        assert_eq!(id.to_string().replacen('0', "x", 1).parse::<ReleaseId>(), Err(digit));
    }
}
