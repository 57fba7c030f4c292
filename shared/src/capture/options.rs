//! What a person may set about capture.

use std::path::PathBuf;
use std::time::Duration;

use crate::image::Limits;

use super::CaptureError;
use super::backoff::Backoff;
use super::uri::SourceUri;

/// How to capture.
#[derive(Debug, Clone)]
pub struct Options {
    /// Frames per second wanted. `None`: as fast as a camera or stream delivers; files as fast as they are taken.
    pub fps: Option<f64>,
    /// Wanted size of a V4L2 camera's picture, pixels; the nearest offered one is chosen. Streams and files
    /// come at their own size.
    pub size: (u32, u32),
    /// How a V4L2 camera's pixels shall come; `None`: the best that it offers.
    pub pixels: Option<Pixels>,
    /// The ffmpeg program: a path, or a name looked up in `PATH`.
    pub ffmpeg: PathBuf,
    /// A live source that delivers nothing for this long is restarted.
    pub stall: Duration,
    /// The same for a stream's first frame: connecting and finding a key frame takes longer.
    pub connect: Duration,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Failures in a row after which a live source is given up; `None`: never.
    pub attempts: Option<u32>,
    /// The largest file and picture read.
    pub limits: Limits,
    /// Pictures and videos start again at their end, for as long as frames are taken.
    pub repeat: bool,
    /// Files with a frame rate are due at fixed times, see [`Pacing::Steady`].
    pub steady: bool,
}

/// How pixels come out of a camera, in the order of preference for pictures of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pixels {
    /// JPEG frames: sent on as they are.
    Mjpeg,
    /// Packed 4:2:2, luma first.
    Yuyv,
    /// Packed 4:2:2, chroma first.
    Uyvy,
    /// 4:2:0: a plane of luma, then one of both chromas.
    Nv12,
    /// Luma alone, 8 bits.
    Grey,
}

impl Pixels {
    /// All, in the order of preference.
    pub const ALL: [Self; 5] = [Self::Mjpeg, Self::Yuyv, Self::Uyvy, Self::Nv12, Self::Grey];

    /// From V4L2's four-character code; `None`: one that is not read.
    pub fn of(code: [u8; 4]) -> Option<Self> {
        match &code {
            b"MJPG" | b"JPEG" => Some(Self::Mjpeg),
            b"YUYV" => Some(Self::Yuyv),
            b"UYVY" => Some(Self::Uyvy),
            b"NV12" => Some(Self::Nv12),
            b"GREY" => Some(Self::Grey),
            _ => None,
        }
    }

    /// V4L2's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mjpeg => "MJPG",
            Self::Yuyv => "YUYV",
            Self::Uyvy => "UYVY",
            Self::Nv12 => "NV12",
            Self::Grey => "GREY",
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fps: None,
            size: (1280, 720),
            pixels: None,
            ffmpeg: PathBuf::from("ffmpeg"),
            stall: Duration::from_secs(10),
            connect: Duration::from_secs(20),
            backoff: Backoff::default(),
            attempts: None,
            limits: Limits::default(),
            repeat: false,
            steady: false,
        }
    }
}

/// When the next frame is asked of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pacing {
    /// When the one before was taken: nothing is superseded (files without a frame rate).
    Lossless,
    /// By the wall clock, whether or not the one before was taken: files behave like a camera.
    Rate(f64),
    /// The same at fixed times from the first frame on: one that is late is not the next one's excuse, so that what is
    /// measured counts from when each frame was due.
    Steady(f64),
    /// As soon as the source has one (cameras, streams).
    Live,
}

impl Pacing {
    /// The pacing of a source.
    pub fn of(uri: &SourceUri, options: &Options) -> Self {
        match (uri.is_finite(), options.fps) {
            (false, _) => Self::Live,
            (true, Some(fps)) if options.steady => Self::Steady(fps),
            (true, Some(fps)) => Self::Rate(fps),
            (true, None) => Self::Lossless,
        }
    }
}

impl Options {
    /// Checks the values' ranges.
    ///
    /// # Errors
    /// A frame rate that is no rate.
    pub fn check(&self) -> Result<(), CaptureError> {
        match self.fps {
            Some(fps) if !(fps > 0.0 && fps <= 1000.0) => Err(CaptureError::Rate { fps }),
            _ => Ok(()),
        }
    }
}
