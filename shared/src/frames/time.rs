//! Capture times out of text.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// A time as RFC 3339 writes it. Without an offset it is taken as UTC.
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        Offset::UTC.to_timestamp(local).ok()
    })
}

/// A time in a file's name, such as `cam1_2023-06-13T03_11_46.jpg`: date, then `T`, `_`, `-` or a space, then the
/// time with `_`, `-`, `:` or `.` between its parts, or both without separators (`20230613T031146`). Taken as UTC.
/// Folders in the path are not looked at.
pub fn from_name(id: &str) -> Option<Timestamp> {
    let name = id.rsplit('/').next().unwrap_or(id).as_bytes();
    (0..name.len()).find_map(|start| {
        let digit_before = start > 0 && name[start - 1].is_ascii_digit();
        if digit_before { None } else { at(&name[start..]) }
    })
}

/// `seconds` after the Unix epoch; `None` outside the years that can be written.
pub(super) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    // Microseconds: finer than a frame, and 0.143 stays 0.143.
    let micros = (seconds * 1e6).round();
    let fits = micros.is_finite() && micros.abs() < i64::MAX as f64;
    fits.then(|| Timestamp::from_duration(SignedDuration::from_micros(micros as i64)).ok()).flatten()
}

/// A time that starts with the first byte of `name`.
fn at(name: &[u8]) -> Option<Timestamp> {
    const SEPARATED: &[u8] = b"dddd-dd-ddTddsddsdd";
    const COMPACT: &[u8] = b"ddddddddTdddddd";
    let shape = [SEPARATED, COMPACT].into_iter().find(|shape| matches(name, shape))?;
    let digits: Vec<u8> = name[..shape.len()].iter().copied().filter(u8::is_ascii_digit).collect();
    let number = |range: std::ops::Range<usize>| {
        digits[range].iter().fold(0i16, |sum, d| sum * 10 + i16::from(d - b'0'))
    };
    let part = |from: usize| number(from..from + 2) as i8;
    let local = DateTime::new(number(0..4), part(4), part(6), part(8), part(10), part(12), 0).ok()?;
    Offset::UTC.to_timestamp(local).ok()
}

/// Whether `name` starts with this shape and no further digit follows: `d` a digit, `T` what stands between date
/// and time, `s` between the parts of a time.
fn matches(name: &[u8], shape: &[u8]) -> bool {
    let fits = |(byte, kind): (&u8, &u8)| match kind {
        b'd' => byte.is_ascii_digit(),
        b'T' => b"Tt_- ".contains(byte),
        b's' => b"_-:.".contains(byte),
        literal => byte == literal,
    };
    name.len() >= shape.len()
        && name.iter().zip(shape).all(fits)
        && !name.get(shape.len()).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn names_that_hold_a_time() {
        let expected = Some(time("2023-06-13T03:11:46Z"));
        for name in [
            "2023-06-13T03_11_46.jpg",
            "frames/2023-06-13T03_11_46.jpg",
            "cam1_2023-06-13_03-11-46_ok.png",
            "20230613T031146.jpg",
            "7-20230613_031146.jpg",
            "2023-06-13 03.11.46.jpg",
        ] {
            assert_eq!(from_name(name), expected, "{name}");
        }
    }

    #[test]
    fn names_that_hold_none() {
        for name in [
            "000001.jpg",
            "2023-06-13.jpg",
            "2023-13-13T03_11_46.jpg",
            "2023-06-13T25_11_46.jpg",
            "12023-06-13T03_11_46.jpg",
            "20230613T0311467.jpg",
            "2023-06-13T03_11_46/frame.jpg",
            "",
        ] {
            assert_eq!(from_name(name), None, "{name}");
        }
    }

    #[test]
    fn written_times() {
        let expected = Some(time("2023-06-13T03:11:46Z"));
        assert_eq!(parse("2023-06-13T03:11:46+00:00"), expected);
        assert_eq!(parse("2023-06-12T20:11:46-07:00"), expected);
        assert_eq!(parse("2023-06-13T03:11:46"), expected, "UTC where no offset is written");
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn seconds_of_a_recording() {
        assert_eq!(from_seconds(0.143), Some(time("1970-01-01T00:00:00.143Z")));
        assert_eq!(from_seconds(-1.5), Some(time("1969-12-31T23:59:58.5Z")));
        assert_eq!(from_seconds(f64::NAN), None);
        assert_eq!(from_seconds(1e300), None);
    }
}
