//! Channels (`people-count@stable`) and patterns of camera names (`plaza-*`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ReleaseError;
use crate::tls::MAX_CAMERA_NAME;

/// Longest name of a head or track in a channel, in bytes: as long as a head's name may be.
const MAX_PART: usize = 64;

/// Where releases of one head appear, one after another: the head's name and a track.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Channel {
    head: String,
    track: String,
}

impl Channel {
    /// Name of the heads it gives, such as `people-count`.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Such as `stable`.
    #[must_use]
    pub fn track(&self) -> &str {
        &self.track
    }

    /// Checks that a release's manifest names the channel's head.
    ///
    /// # Errors
    /// [`ReleaseError::OtherHead`].
    pub fn check_head(&self, name: &str, release: protocol::ReleaseId) -> Result<(), ReleaseError> {
        if name == self.head {
            return Ok(());
        }
        Err(ReleaseError::OtherHead {
            channel: self.to_string(),
            track: self.track.clone(),
            want: self.head.clone(),
            release: release.short(),
            got: name.to_owned(),
        })
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.head, self.track)
    }
}

impl FromStr for Channel {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let bad = || ReleaseError::Channel(text.chars().take(160).collect());
        let (head, track) = text.split_once('@').ok_or_else(bad)?;
        for part in [head, track] {
            if part.is_empty() || part.len() > MAX_PART || !part.bytes().all(is_plain) {
                return Err(bad());
            }
        }
        Ok(Self { head: head.to_owned(), track: track.to_owned() })
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

impl TryFrom<String> for Channel {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

/// A pattern of camera names: `*` is any number of characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Whether a camera is meant.
    #[must_use]
    pub fn matches(&self, camera: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = camera.strip_prefix(first) else { return false };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        for part in middle {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }

    /// How much of a name it fixes; a whole name is the most.
    #[must_use]
    pub fn specificity(&self) -> usize {
        let stars = self.0.bytes().filter(|b| *b == b'*').count();
        if stars == 0 { usize::MAX } else { self.0.len() - stars }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let fits = !text.is_empty() && text.len() <= MAX_CAMERA_NAME;
        if fits && text.bytes().all(|b| is_plain(b) || b == b'*') {
            return Ok(Self(text.to_owned()));
        }
        Err(ReleaseError::Pattern(text.chars().take(160).collect()))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_head_and_a_track() {
        let channel: Channel = "people-count@stable".parse().unwrap();
        assert_eq!((channel.head(), channel.track()), ("people-count", "stable"));
        assert_eq!(channel.to_string(), "people-count@stable");
        for bad in ["", "people-count", "@stable", "a@", "A@b", "a@b@c", "a b@c", "a/b@c"] {
            assert!(bad.parse::<Channel>().unwrap_err().to_string().contains("is no channel"), "{bad}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        let matches = |pattern: &str, camera| pattern.parse::<Pattern>().unwrap().matches(camera);
        for (pattern, camera) in [
            ("plaza-1", "plaza-1"),
            ("plaza-*", "plaza-"),
            ("plaza-*", "plaza-12"),
            ("*", "x"),
            ("*-1", "plaza-1"),
            ("p*a-*1", "plaza-11"),
            ("a*b*b", "abb"),
            ("*ab", "abab"),
        ] {
            assert!(matches(pattern, camera), "{pattern} {camera}");
        }
        for (pattern, camera) in
            [("plaza-1", "plaza-12"), ("plaza-*", "plaz"), ("a*b*b", "ab"), ("a*a", "a"), ("*-1", "plaza-2")]
        {
            assert!(!matches(pattern, camera), "{pattern} {camera}");
        }
        for bad in ["", "Plaza", "a b", "a?", &"a".repeat(64)] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
