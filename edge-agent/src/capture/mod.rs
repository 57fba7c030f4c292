//! Frames from a camera, a stream, a video or a folder, one at a time.
//!
//! ```text
//!            device thread (Pump)
//! SourceUri ─► open ─► Source::next ─► Captured ─► latest (newest wins) ─► uplink
//!   files, ffmpeg, v4l        │                       │
//!                             └─ unreadable ─► losses ◄┴ superseded ─► one `dropped` line each
//! ```
//! Every frame a source produces gets a sequence number, and ends either in the hands of the uplink or as a
//! [`Lost`] with its reason: `frames taken + frames lost = frames captured`.

pub mod cameras;
mod losses;
pub mod mjpeg;
mod pump;
#[cfg(feature = "v4l")]
mod v4l;
pub mod yuyv;

pub use losses::{Loss, LossReceiver, LossSender, losses};
pub use pump::{Pump, Running, start};
pub(crate) use shared::capture::STOP_POLL;
pub use shared::capture::{
    Backoff, CaptureError, Captured, Image, Lost, LostReason, Options, Pacing, Pixels, Shot, Source,
    SourceUri, Stop, StreamKind, StreamUrl, UriError,
};

/// Opens a source: a camera here, everything else by [`shared::capture::open`].
///
/// # Errors
/// Nothing to list, a missing or unusable device, ffmpeg not installed.
pub fn open(uri: &SourceUri, options: &Options) -> Result<Box<dyn Source>, CaptureError> {
    match uri {
        #[cfg(feature = "v4l")]
        SourceUri::Device(path) => Ok(Box::new(v4l::Camera::open(path, options)?)),
        other => shared::capture::open(other, options),
    }
}
