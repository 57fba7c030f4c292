//! What a source hands over.

use std::fmt;
use std::time::Instant;

use crate::image::Rgb;
use bytes::Bytes;
use jiff::Timestamp;

/// The pixels of a frame, in the form the source had them: nothing is converted on the device thread that the
/// uplink might not need.
#[derive(Clone)]
pub enum Image {
    /// A JPEG as the camera or the file had it, byte for byte.
    Jpeg(Bytes),
    /// Decoded pixels (video, PNG).
    Rgb(Rgb),
    /// Packed 4:2:2 as V4L2 cameras send it: `Y0 U Y1 V`, `width × height × 2` bytes, no padding.
    /// The agent's `capture::yuyv` makes pixels of it.
    Yuyv {
        /// Columns, even.
        width: u32,
        /// Rows.
        height: u32,
        /// `height × width × 2` bytes.
        data: Vec<u8>,
    },
}

impl Image {
    /// Size in memory, bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Jpeg(data) => data.len(),
            Self::Rgb(image) => image.data.len(),
            Self::Yuyv { data, .. } => data.len(),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jpeg(data) => write!(f, "Jpeg({} bytes)", data.len()),
            Self::Rgb(image) => write!(f, "Rgb({}x{})", image.width, image.height),
            Self::Yuyv { width, height, .. } => write!(f, "Yuyv({width}x{height})"),
        }
    }
}

/// A frame as [`Source::next`](super::Source::next) returns it: not yet numbered.
#[derive(Debug)]
pub struct Shot {
    /// When the camera saw it: a file's own time, else the wall clock when its first byte arrived. Frames of a
    /// video file carry the time they were read, not the time they were filmed (containers rarely say).
    pub captured_at: Timestamp,
    /// When reading this frame began, or its first byte arrived.
    pub started: Instant,
    /// When the frame was complete in memory.
    pub ready: Instant,
    /// The file's name in its list, or `NAME#FRAME` of a video; none for a live source.
    pub id: Option<String>,
    /// The pixels, or why they could not be read (the frame is then reported as lost, and the run goes on).
    pub image: Result<Image, String>,
}

/// A numbered frame on its way to the uplink.
#[derive(Debug)]
pub struct Captured {
    /// Counts every frame of this run from 0, lost ones included.
    pub seq: u64,
    /// See [`Shot::captured_at`].
    pub captured_at: Timestamp,
    /// When reading this frame should have begun; not before it did, but for [`Pacing::Steady`](super::Pacing::Steady).
    pub due: Instant,
    /// When reading this frame began, or its first byte arrived.
    pub started: Instant,
    /// When the frame was complete in memory; `ready - started` is the `capture` stage.
    pub ready: Instant,
    /// See [`Shot::id`].
    pub id: Option<String>,
    /// The pixels.
    pub image: Image,
}

/// A captured frame that never reached the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its sequence number.
    pub seq: u64,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// See [`Shot::id`].
    pub id: Option<String>,
    /// Why.
    pub reason: LostReason,
}

/// Why a frame never reached the uplink. `Display` gives the `dropped` value of the output line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostReason {
    /// A newer frame took its place before the uplink was free.
    Superseded,
    /// The file or the camera's bytes are no image, with what was wrong.
    Unreadable(String),
    /// The agent stopped before the uplink took it.
    Shutdown,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => f.write_str("superseded by a newer frame"),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}

impl Captured {
    /// The record of this frame as lost.
    pub fn lost(self, reason: LostReason) -> Lost {
        Lost { seq: self.seq, captured_at: self.captured_at, id: self.id, reason }
    }
}
