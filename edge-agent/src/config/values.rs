//! What each value may be.

use std::time::Duration;

use protocol::Encoding;
use shared::patches::Policy;
use shared::tls::Congestion;
use shared::uplink::Chroma;

use super::{Format, ServerAddr, Transport};
use crate::capture::Pixels;

/// More would only be memory: a camera's frames are worth their newest.
const LARGEST_MAX_IN_FLIGHT: u16 = 64;
/// A typo such as `stale_every = "1ms"` would flood the sinks.
const SMALLEST_STALE_EVERY: Duration = Duration::from_millis(50);
/// Below this no frame could be prepared and answered.
const SMALLEST_DEADLINE: Duration = Duration::from_millis(10);
/// Beyond this an answer is history, not news.
const LARGEST_DEADLINE: Duration = Duration::from_secs(3600);
/// A scene that looks still for longer is worth a look all the same.
const LARGEST_REUSE: Duration = Duration::from_secs(60);
/// No camera is faster.
const LARGEST_FPS: f64 = 240.0;
/// JPEG's own limit on a side.
const LARGEST_SIDE: u32 = 65_500;
/// Below one patch of the seed preset a frame carries nothing.
const SMALLEST_SIDE: u32 = 16;

/// What is wrong, and what to do.
pub(super) type Wrong = (String, &'static str);

pub(super) fn wrong<T>(problem: impl Into<String>, remedy: &'static str) -> Result<T, Wrong> {
    Err((problem.into(), remedy))
}

/// `64MB`, `1 GB`, `500000`.
pub(super) fn bytes(text: String) -> Result<u64, Wrong> {
    const REMEDY: &str = "write a size such as 64MB: at least 10kB, in B, kB, MB or GB";
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return wrong("not a size", REMEDY),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if bytes >= 10_000 => Ok(bytes),
        _ => wrong("not a size that a file of answers can have", REMEDY),
    }
}

/// Enrolment is QUIC alone.
pub(super) fn enroll(text: String) -> Result<ServerAddr, Wrong> {
    const REMEDY: &str = "write HOST:PORT, for example encoder.example:4434";
    match text.trim().parse::<ServerAddr>() {
        Ok(ServerAddr { transport: Transport::Tcp, .. }) => wrong("is asked over UDP alone", REMEDY),
        Ok(server) => Ok(server),
        Err(problem) => wrong(problem, REMEDY),
    }
}

pub(super) fn camera_name(name: String) -> Result<String, Wrong> {
    match shared::tls::check_camera_name(&name) {
        Ok(()) => Ok(name),
        Err(error) => wrong(error.to_string(), "use the name the certificate was issued for"),
    }
}

pub(super) fn fps(fps: f64) -> Result<f64, Wrong> {
    if !(fps > 0.0 && fps <= LARGEST_FPS) {
        return wrong("not a frame rate", "use a number above 0 and up to 240, for example 2 or 0.1");
    }
    Ok(fps)
}

/// `1280x720`.
pub(super) fn size(text: String) -> Result<(u32, u32), Wrong> {
    let sides =
        text.split_once('x').and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)));
    match sides {
        Some((width, height))
            if [width, height].iter().all(|side| (SMALLEST_SIDE..=LARGEST_SIDE).contains(side)) =>
        {
            Ok((width, height))
        }
        _ => wrong("not a size of pictures", "write WIDTHxHEIGHT in pixels, for example 1280x720"),
    }
}

pub(super) fn pixels(name: String) -> Result<Pixels, Wrong> {
    let known = Pixels::ALL.into_iter().find(|pixels| pixels.name().eq_ignore_ascii_case(name.trim()));
    known.map_or_else(|| wrong("not a format that is read", "use MJPG, YUYV, UYVY, NV12 or GREY"), Ok)
}

pub(super) fn encoding(name: String) -> Result<Encoding, Wrong> {
    name.parse().or_else(|_| wrong("not an encoding", "use f32, f16 or int8"))
}

pub(super) fn congestion(name: String) -> Result<Congestion, Wrong> {
    name.parse().or_else(|remedy| wrong("not a congestion control", remedy))
}

pub(super) fn deadline(time: Duration) -> Result<Duration, Wrong> {
    if !(SMALLEST_DEADLINE..=LARGEST_DEADLINE).contains(&time) {
        return wrong("out of range", "use 10ms to 1h, for example 2s");
    }
    Ok(time)
}

pub(super) fn stale_every(time: Duration) -> Result<Duration, Wrong> {
    if !(SMALLEST_STALE_EVERY..=LARGEST_DEADLINE).contains(&time) {
        return wrong("out of range", "use 50ms to 1h, for example 1s");
    }
    Ok(time)
}

pub(super) fn max_in_flight(count: u16) -> Result<u16, Wrong> {
    if !(1..=LARGEST_MAX_IN_FLIGHT).contains(&count) {
        return wrong("out of range", "use 1 to 64");
    }
    Ok(count)
}

pub(super) fn format(name: String) -> Result<Format, Wrong> {
    match name.as_str() {
        "auto" => Ok(Format::Auto),
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        _ => wrong("not a format", "use auto, json or text"),
    }
}

pub(super) fn side(pixels: u32) -> Result<u32, Wrong> {
    if !(SMALLEST_SIDE..=LARGEST_SIDE).contains(&pixels) {
        return wrong("out of range", "use 16 to 65500 pixels");
    }
    Ok(pixels)
}

pub(super) fn quality(quality: u8) -> Result<u8, Wrong> {
    if !(1..=100).contains(&quality) {
        return wrong("out of range", "use 1 to 100");
    }
    Ok(quality)
}

pub(super) fn patches(text: String) -> Result<Policy, Wrong> {
    text.parse().or_else(|error: shared::patches::ParsePolicyError| {
        wrong(error.to_string(), "use all, changed, changed(LEVELS,FRAMES) or random(SHARE)")
    })
}

pub(super) fn reuse_for(time: Duration) -> Result<Duration, Wrong> {
    if time > LARGEST_REUSE {
        return wrong("out of range", "use at most 1m, for example 2s; 0s: every frame is sent");
    }
    Ok(time)
}

pub(super) fn chroma(name: String) -> Result<Chroma, Wrong> {
    match name.as_str() {
        "420" => Ok(Chroma::C420),
        "422" => Ok(Chroma::C422),
        "444" => Ok(Chroma::C444),
        _ => wrong("not a chroma subsampling", "use 420, 422 or 444"),
    }
}
