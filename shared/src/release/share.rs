//! A share of the cameras, and which of them are in it.

use std::fmt;
use std::str::FromStr;

use protocol::limits::WHOLE_SHARE;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Channel, ReleaseError};

/// Part of what is hashed, so that no other hash of a camera's name lines up with it.
const DOMAIN: &[u8] = b"fine-tuned-heads: share, version 1\0";

/// Thousandths of the cameras, 0 to 1000. A larger share holds all cameras of a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Share(u16);

impl Share {
    /// No camera.
    pub const NONE: Self = Self(0);
    /// Every camera.
    pub const WHOLE: Self = Self(WHOLE_SHARE);

    /// As it comes over the wire. `None`: more than the whole.
    #[must_use]
    pub const fn from_thousandths(thousandths: u16) -> Option<Self> {
        if thousandths <= WHOLE_SHARE { Some(Self(thousandths)) } else { None }
    }

    /// As it goes over the wire.
    #[must_use]
    pub const fn thousandths(self) -> u16 {
        self.0
    }

    /// Whether a camera is in this share of a channel's cameras. Everyone who asks gets the same answer, and it does
    /// not depend on which other cameras there are.
    #[must_use]
    pub fn holds(self, channel: &Channel, camera: &str) -> bool {
        position(channel, camera) < self.0
    }

    /// The least share that holds one of these cameras, to tell an operator whose share is empty. `None`: there
    /// are no cameras.
    #[must_use]
    pub fn least_for<'a>(channel: &Channel, cameras: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        cameras.into_iter().map(|camera| position(channel, camera) + 1).min().map(Self)
    }
}

/// Where a camera stands among the thousandths: from a SHA-256, so evenly.
fn position(channel: &Channel, camera: &str) -> u16 {
    let hash = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(channel.to_string())
        .chain_update([0])
        .chain_update(camera)
        .finalize();
    let first: [u8; 8] = hash[..8].try_into().expect("a SHA-256 has 32 bytes");
    u16::try_from(u64::from_be_bytes(first) % u64::from(WHOLE_SHARE)).expect("below 1000")
}

/// `10%`, `12.5%`
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenth => write!(f, "{}.{tenth}%", self.0 / 10),
        }
    }
}

impl FromStr for Share {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let parse = || {
            let number = text.strip_suffix('%')?;
            let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !digits(whole) || !digits(tenth) || tenth.len() > 1 {
                return None;
            }
            let thousandths = whole.parse::<u16>().ok()?.checked_mul(10)? + tenth.parse::<u16>().ok()?;
            Self::from_thousandths(thousandths)
        };
        parse().ok_or_else(|| ReleaseError::Share(text.chars().take(80).collect()))
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl TryFrom<String> for Share {
    type Error = ReleaseError;

    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_back() {
        for text in ["0%", "10%", "12.5%", "99.9%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for bad in ["", "10", "101%", "100.1%", "1.25%", "-1%", "%", "1.%", "6554%", "+1%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cameras_are_spread_evenly_and_stay_when_the_share_grows() {
        let channel: Channel = "people-count@stable".parse().unwrap();
        let cameras: Vec<String> = (0..2000).map(|i| format!("plaza-{i}")).collect();
        let within = |share: Share| cameras.iter().filter(|c| share.holds(&channel, c)).count();
        assert_eq!((within(Share::NONE), within(Share::WHOLE)), (0, 2000));
        // Four standard deviations of a binomial around 200.
        assert!((146..=254).contains(&within(Share(100))), "{}", within(Share(100)));
        for camera in &cameras {
            let least = Share::least_for(&channel, [camera.as_str()]).unwrap();
            assert!(least.holds(&channel, camera) && !Share(least.0 - 1).holds(&channel, camera));
        }
    }

    #[test]
    fn the_hash_is_pinned() {
        // Agents and servers of different releases must agree on who is a canary.
        let channel: Channel = "people-count@stable".parse().unwrap();
        assert_eq!(["plaza-1", "plaza-2", "gate"].map(|camera| position(&channel, camera)), [734, 58, 579]);
    }
}
