//! The identity of an embedding's meaning.

use std::{fmt, str::FromStr};

use bincode::{Decode, Encode};

use crate::hex::{self, Fault};

/// Identifies an embedding space: a SHA-256 over encoder weights, configuration, preprocessing and
/// projection. An embedding and a head that name different spaces never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SpaceId(pub [u8; 32]);

impl SpaceId {
    /// The first 12 of the 64 hexadecimal digits: enough for people, never for a comparison.
    #[must_use]
    pub fn short(&self) -> String {
        hex::short(&self.0)
    }
}

/// All 64 lower-case hexadecimal digits.
impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceId({self})")
    }
}

/// Why a text is no [`SpaceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSpaceIdError {
    /// It has another length.
    #[error("an embedding space id has 64 hexadecimal digits, this text has {0} characters")]
    Length(usize),
    /// It has a character that is no hexadecimal digit.
    #[error("{found:?} at position {at} of an embedding space id is no hexadecimal digit")]
    Digit {
        /// Position of the character, from 0.
        at: usize,
        /// The character.
        found: char,
    },
}

/// Reads 64 hexadecimal digits of either case; the short form is refused.
impl FromStr for SpaceId {
    type Err = ParseSpaceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::parse(text).map(Self).map_err(|fault| match fault {
            Fault::Length(count) => ParseSpaceIdError::Length(count),
            Fault::Digit { at, found } => ParseSpaceIdError::Digit { at, found },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = SpaceId(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(id.short(), text[..12]);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        assert_eq!("".parse::<SpaceId>(), Err(ParseSpaceIdError::Length(0)));
        assert_eq!("a1b2c3d4e5f6".parse::<SpaceId>(), Err(ParseSpaceIdError::Length(12)));
        let text = format!("{}g{}", "0".repeat(10), "0".repeat(53));
        assert_eq!(text.parse::<SpaceId>(), Err(ParseSpaceIdError::Digit { at: 10, found: 'g' }));
        assert_eq!("ü".repeat(32).parse::<SpaceId>(), Err(ParseSpaceIdError::Length(32)));
    }
}
