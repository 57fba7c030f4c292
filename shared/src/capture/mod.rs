//! Frames from a stream, a video or a folder, one at a time: what the agent sends and the archive collects.
//!
//! ```text
//! SourceUri ─► open ─► Source::next ─► Shot
//!   files, ffmpeg         │ reconnects, with growing waits, and logs why
//! ```
//! Cameras are the agent's own: `edge-agent` opens those, and everything else here.

mod backoff;
mod error;
mod ffmpeg;
mod files;
mod frame;
mod options;
mod stop;
mod uri;

pub use backoff::Backoff;
pub use error::CaptureError;
pub use frame::{Captured, Image, Lost, LostReason, Shot};
pub use options::{Options, Pacing, Pixels};
pub use stop::{STOP_POLL, Stop};
pub use uri::{SourceUri, StreamKind, StreamUrl, UriError};

/// Something that produces frames.
///
/// A source is used by one thread: it may own a child process that dies with the thread that started it, so
/// the thread that calls [`Source::next`] must live until the source is dropped.
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

/// Opens a source that is no device.
///
/// Files are listed here, so that a typo shows at once; a stream is only connected by the first [`Source::next`],
/// because a stream that is down now may be up later.
///
/// # Errors
/// Nothing to list, ffmpeg not installed, a device.
pub fn open(uri: &SourceUri, options: &Options) -> Result<Box<dyn Source>, CaptureError> {
    match uri {
        SourceUri::Folder(path) | SourceUri::List(path) => Ok(Box::new(files::Files::open(path, options)?)),
        SourceUri::Video(path) => Ok(Box::new(ffmpeg::Ffmpeg::video(path, options)?)),
        SourceUri::Stream(url) => Ok(Box::new(ffmpeg::Ffmpeg::stream(url, options)?)),
        SourceUri::Device(path) => Err(CaptureError::NoV4l { path: path.clone() }),
    }
}
