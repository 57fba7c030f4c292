//! What is known of a frame, and the id that never changes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use protocol::SpaceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::frames;

/// Names a frame: the first 16 bytes of a SHA-256 over its camera, its capture time and the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub [u8; 16]);

/// Set apart from every other hash of this project.
const DOMAIN: &[u8] = b"fth frame 1\0";

impl FrameId {
    /// The id of these bytes, taken by this camera at this time.
    pub fn of(camera: &str, captured_at: Timestamp, sha256: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        // The length before the name: no two cameras and times run together.
        hash.update((camera.len() as u64).to_le_bytes());
        hash.update(camera.as_bytes());
        hash.update(captured_at.as_microsecond().to_le_bytes());
        hash.update(sha256);
        let digest: [u8; 32] = hash.finalize().into();
        Self(std::array::from_fn(|i| digest[i]))
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameId({self})")
    }
}

/// Why a text is no [`FrameId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no frame id: that has 32 hexadecimal digits")]
pub struct ParseFrameIdError(String);

impl FromStr for FrameId {
    type Err = ParseFrameIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes_of_hex(text).map(Self).ok_or_else(|| ParseFrameIdError(text.chars().take(80).collect()))
    }
}

impl Serialize for FrameId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FrameId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `2·N` hexadecimal digits.
pub(super) fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    (digits.len() == 2 * N).then(|| std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1]))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 64 hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&digest(bytes))
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A camera's time zone: `UTC`, an offset such as `+02:00`, or a name of the IANA database such as `Europe/Zurich`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// Why a text is no [`Zone`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time zone: write UTC, an offset such as +02:00, or a name such as Europe/Zurich (names need the Debian \
     package tzdata)"
)]
pub struct ZoneError(String);

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Minutes since midnight on the wall clock there, with seconds as a fraction, in `[0, 1440)`.
    pub fn minute_of_day(&self, at: Timestamp) -> f64 {
        let local = self.zone.to_datetime(at);
        f64::from(local.hour()) * 60.0 + f64::from(local.minute()) + f64::from(local.second()) / 60.0
    }

    /// The time there: `2026-06-01T14:00:00+02:00`.
    pub fn local(&self, at: Timestamp) -> String {
        at.display_with_offset(self.zone.to_offset(at)).to_string()
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let name = text.trim();
        let zone = match offset(name) {
            Some(offset) => TimeZone::fixed(offset),
            None if name.eq_ignore_ascii_case("utc") => return Ok(Self::utc()),
            None => TimeZone::get(name).map_err(|_| ZoneError(text.chars().take(80).collect()))?,
        };
        Ok(Self { name: name.to_owned(), zone })
    }
}

/// `+02:00`, `-0330`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits = rest.replace(':', "");
    let plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = plain.then(|| digits.split_at(2))?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

/// What the index knows of a frame. Nothing in it changes once it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its id.
    pub id: FrameId,
    /// The camera.
    pub camera: String,
    /// When it was captured, to the microsecond.
    pub captured_at: Timestamp,
    /// The camera's time zone, as [`Zone`] reads it.
    pub zone: String,
    /// How far `captured_at` may be off, either way, in milliseconds.
    pub uncertainty_ms: u64,
    /// Where it came from, credentials removed: a URL, a file, `agent`.
    pub source: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Length of the JPEG.
    pub bytes: u64,
    /// SHA-256 of the JPEG, 64 hexadecimal digits.
    pub sha256: String,
    /// Its file, relative to the archive's folder, with `/`.
    pub path: String,
    /// When it came into the archive.
    pub added_at: Timestamp,
}

impl Record {
    /// Whether id and path follow from the rest, as they must.
    pub fn is_consistent(&self) -> bool {
        let Some(digest) = bytes_of_hex(&self.sha256) else { return false };
        let id = FrameId::of(&self.camera, self.captured_at, &digest);
        self.id == id && self.path == frames::path(&self.camera, self.captured_at, id)
    }
}

/// What an encoder said of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The space its numbers have their meaning in: one for each encoder release.
    pub space: SpaceId,
    /// The numbers, `[embed_dim]`.
    pub values: Vec<f32>,
}

/// Microseconds are what ids, paths and the index keep.
pub(super) fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_follows_from_camera_time_and_bytes_and_nothing_else() {
        let (time, bytes) = (at("2026-06-01T12:00:00.25Z"), digest(b"jpeg"));
        let id = FrameId::of("plaza-1", time, &bytes);
        assert_eq!(
            id.to_string(),
            "680a018a8aea0f9181aca722e4a24208",
            "ids of archives that exist must not change"
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        for other in [
            FrameId::of("plaza-2", time, &bytes),
            FrameId::of("plaza-1", at("2026-06-01T12:00:00.250001Z"), &bytes),
            FrameId::of("plaza-1", time, &digest(b"jpeh")),
        ] {
            assert_ne!(id, other);
        }
        for bad in ["", "12", &"g".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<FrameId>().unwrap_err().to_string().contains("32 hexadecimal digits"));
        }
    }

    #[test]
    fn zones_give_the_time_of_day_there() {
        let noon = at("2026-06-01T12:00:30Z");
        for (zone, minute) in [("UTC", 720.5), ("+02:00", 840.5), ("-0330", 510.5), ("utc", 720.5)] {
            assert_eq!(zone.parse::<Zone>().unwrap().minute_of_day(noon), minute, "{zone}");
        }
        assert_eq!("+02:00".parse::<Zone>().unwrap().local(noon), "2026-06-01T14:00:30+02:00");
        for bad in ["", "+2", "+25:00", "Europe/Atlantis", "+02:61"] {
            assert!(bad.parse::<Zone>().unwrap_err().to_string().contains("is no time zone"), "{bad}");
        }
    }
}
