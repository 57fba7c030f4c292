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

mod backoff;
pub mod cameras;
mod error;
mod ffmpeg;
mod files;
mod frame;
mod losses;
pub mod mjpeg;
mod options;
mod pump;
mod stop;
mod uri;
#[cfg(feature = "v4l")]
mod v4l;
pub mod yuyv;

pub use backoff::Backoff;
pub use error::CaptureError;
pub use frame::{Captured, Image, Lost, LostReason, Shot};
pub use losses::{Loss, LossReceiver, LossSender, losses};
pub use options::{Options, Pacing};
pub use pump::{Pump, Running, start};
pub(crate) use stop::STOP_POLL;
pub use stop::Stop;
pub use uri::{SourceUri, StreamKind, StreamUrl, UriError};

/// Something that produces frames.
///
/// A source is used by one thread: it may own a child process that dies with the thread that started it, so
/// the thread that calls [`Source::next`] must live until the source is dropped ([`Pump`] sees to that).
pub trait Source: Send {
    /// What this is, for a log or a person; credentials removed.
    fn describe(&self) -> String;

    /// Waits for the next frame. `None` is the end: no more files, the video is over, or `stop` was called.
    ///
    /// # Errors
    /// What cannot be repaired by trying again, or could not be within [`Options::attempts`]. A source that
    /// can reconnect does so inside this call and logs why.
    fn next(&mut self, stop: &Stop) -> Result<Option<Shot>, CaptureError>;
}

/// Opens a source.
///
/// Files are listed and devices opened here, so that a typo shows at once; a stream is only connected by the
/// first [`Source::next`], because a stream that is down now may be up later.
///
/// # Errors
/// Nothing to list, a missing or unusable device, ffmpeg not installed.
pub fn open(uri: &SourceUri, options: &Options) -> Result<Box<dyn Source>, CaptureError> {
    match uri {
        SourceUri::Folder(path) | SourceUri::List(path) => Ok(Box::new(files::Files::open(path, options)?)),
        SourceUri::Video(path) => Ok(Box::new(ffmpeg::Ffmpeg::video(path, options)?)),
        SourceUri::Stream(url) => Ok(Box::new(ffmpeg::Ffmpeg::stream(url, options)?)),
        #[cfg(feature = "v4l")]
        SourceUri::Device(path) => Ok(Box::new(v4l::Camera::open(path, options)?)),
        #[cfg(not(feature = "v4l"))]
        SourceUri::Device(path) => Err(CaptureError::NoV4l { path: path.clone() }),
    }
}
