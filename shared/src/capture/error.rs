//! Why capture cannot go on.

use std::io;
use std::path::PathBuf;

/// A source that cannot be opened, or that failed for good. No message holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The folder or list cannot be read.
    #[error(transparent)]
    List(#[from] crate::frames::ListError),
    /// The frame rate is not a positive number.
    #[error("{fps} frames per second is not possible; give a number above 0 and up to 1000")]
    Rate {
        /// The rate given.
        fps: f64,
    },
    /// ffmpeg is not installed.
    #[error("{} was not found; install it (`apt-get install ffmpeg`) or set its path", program.display())]
    NoFfmpeg {
        /// The program looked for.
        program: PathBuf,
    },
    /// ffmpeg could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// ffmpeg could not read a video file.
    #[error("ffmpeg cannot read {input}: {why}")]
    Video {
        /// The file or URL, redacted.
        input: String,
        /// Its last words, redacted.
        why: String,
    },
    /// A live source failed [`Options::attempts`](super::Options::attempts) times in a row.
    #[error("{input} failed {attempts} times in a row, the last time because {why}")]
    GaveUp {
        /// The source, redacted.
        input: String,
        /// Failures in a row.
        attempts: u32,
        /// The last failure.
        why: String,
    },
    /// No such device.
    #[error("{} does not exist; plug the camera in, or look for its name with `ls /dev/video*`", path.display())]
    DeviceMissing {
        /// The device.
        path: PathBuf,
    },
    /// The device may not be opened by this user.
    #[error(
        "no permission to open {}; add the user to group `video` (`sudo usermod -aG video $USER`, then log in again)",
        path.display()
    )]
    DevicePermission {
        /// The device.
        path: PathBuf,
    },
    /// Another program streams from the device.
    #[error("{} is busy: another program uses it; close that one (`fuser {}` names it)", path.display(), path.display())]
    DeviceBusy {
        /// The device.
        path: PathBuf,
    },
    /// The device is no camera.
    #[error("{} cannot capture video ({what}); cameras often have several devices, try the next number", path.display())]
    NotACamera {
        /// The device.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The camera offers nothing that is read, or not what was asked for.
    #[error("{} does not offer {wanted}; it offers {offered}", path.display())]
    NoFormat {
        /// The device.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
        /// Its formats.
        offered: String,
    },
    /// The device failed.
    #[error("{}: {what}: {source}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// What was attempted.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The agent was built without V4L2.
    #[error("{} needs an agent built with the feature `v4l`", path.display())]
    NoV4l {
        /// The device.
        path: PathBuf,
    },
    /// The system gives no thread.
    #[error("cannot start the capture thread: {source}")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
    /// The device thread ended in a panic, which is a bug.
    #[error("the capture thread panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The device thread did not end in time.
    #[error("{input} did not let go within {patience:?}; its thread is left behind")]
    Wedged {
        /// The source, redacted.
        input: String,
        /// How long it was given.
        patience: std::time::Duration,
    },
}
