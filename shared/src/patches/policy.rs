//! Which patches travel, as it is written in a configuration and in a head.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Least and most of a threshold, in levels of a byte: below the noise of a camera, and beyond what anyone would call alike.
const LEVELS: std::ops::RangeInclusive<u8> = 1..=64;
/// Thousandths.
const WHOLE: u16 = 1000;

/// Which patches of a frame travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// All, as one JPEG of the frame.
    #[default]
    All,
    /// Those that no longer look as they did when they were sent last, and each in turn.
    Changed(Changed),
    /// A share of them, others for every frame: what the encoder was trained on.
    Random(Share),
}

/// What counts as changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Changed {
    /// A patch travels when some square of 8×8 pixels differs by more than this, in levels of a byte, 1 to 64.
    pub levels: u8,
    /// Every patch travels at least once in so many frames, from 1.
    pub refresh: u16,
}

impl Default for Changed {
    fn default() -> Self {
        Self { levels: 8, refresh: 60 }
    }
}

/// A share of the patches, in thousandths, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(u16);

impl Share {
    /// How many of so many patches, at least one.
    #[must_use]
    pub fn of(self, patches: usize) -> usize {
        ((patches * usize::from(self.0) * 2 + usize::from(WHOLE)) / (2 * usize::from(WHOLE))).max(1)
    }
}

/// Text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// Of another form.
    #[error(
        "patches {0:?} are none of all, changed, changed(LEVELS,FRAMES), random(SHARE); for example changed(8,60) or \
         random(0.3)"
    )]
    Form(String),
    /// A number out of range.
    #[error(
        "patches {0:?} have a number out of range: LEVELS is 1 to 64, FRAMES from 1 to 65535, SHARE 0.001 to 1"
    )]
    Range(String),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Changed(Changed { levels, refresh }) => write!(f, "changed({levels},{refresh})"),
            Self::Random(Share(thousandths)) => {
                write!(f, "random({})", f64::from(*thousandths) / f64::from(WHOLE))
            }
        }
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for Policy {
    type Error = ParsePolicyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Reads what [`Display`](fmt::Display) writes, and `changed` alone for its usual numbers.
impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (form, range) = (|| ParsePolicyError::Form(text.into()), || ParsePolicyError::Range(text.into()));
        match text {
            "all" => return Ok(Self::All),
            "changed" => return Ok(Self::Changed(Changed::default())),
            _ => {}
        }
        let (name, numbers) =
            text.strip_suffix(')').and_then(|text| text.split_once('(')).ok_or_else(form)?;
        match name {
            "changed" => {
                let (levels, refresh) = numbers.split_once(',').ok_or_else(form)?;
                let whole = |text: &str| text.trim().parse::<u32>().map_err(|_| form());
                let (levels, refresh) = (whole(levels)?, whole(refresh)?);
                let levels =
                    u8::try_from(levels).ok().filter(|levels| LEVELS.contains(levels)).ok_or_else(range)?;
                let refresh = u16::try_from(refresh).ok().filter(|refresh| *refresh > 0).ok_or_else(range)?;
                Ok(Self::Changed(Changed { levels, refresh }))
            }
            "random" => {
                let share: f64 = numbers.trim().parse().map_err(|_| form())?;
                let thousandths = share * f64::from(WHOLE);
                let near = thousandths.round();
                let exact = (thousandths - near).abs() < 1e-6 && (1.0..=f64::from(WHOLE)).contains(&near);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                // a whole number up to 1000
                if exact { Ok(Self::Random(Share(near as u16))) } else { Err(range()) }
            }
            _ => Err(form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["all", "changed(8,60)", "changed(64,65535)", "random(0.3)", "random(1)", "random(0.125)"]
        {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        assert_eq!("changed".parse::<Policy>().unwrap().to_string(), "changed(8,60)");
        assert_eq!(serde_json::from_str::<Policy>("\"random(0.30)\"").unwrap().to_string(), "random(0.3)");
    }

    #[test]
    fn what_is_no_policy_is_named_with_what_there_is() {
        for text in
            ["", "some", "changed()", "changed(8)", "changed(8,60", "changed(x,60)", "random(a)", "All"]
        {
            assert_eq!(text.parse::<Policy>(), Err(ParsePolicyError::Form(text.into())));
        }
        for text in
            ["changed(0,60)", "changed(65,60)", "changed(8,0)", "random(0)", "random(1.1)", "random(NaN)"]
        {
            assert_eq!(text.parse::<Policy>(), Err(ParsePolicyError::Range(text.into())), "{text}");
        }
        assert_eq!("random(0.0001)".parse::<Policy>(), Err(ParsePolicyError::Range("random(0.0001)".into())));
        let words = "some".parse::<Policy>().unwrap_err().to_string();
        assert!(words.contains("\"some\"") && words.contains("changed(8,60)"), "{words}");
    }

    #[test]
    fn a_share_is_rounded_and_never_nothing() {
        let of = |text: &str, patches| match text.parse() {
            Ok(Policy::Random(share)) => share.of(patches),
            other => panic!("{other:?}"),
        };
        assert_eq!((of("random(0.3)", 240), of("random(0.1)", 240), of("random(1)", 240)), (72, 24, 240));
        assert_eq!((of("random(0.001)", 240), of("random(0.5)", 3)), (1, 2));
    }
}
