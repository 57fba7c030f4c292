//! V4L2 cameras.
//!
//! ```text
//! open ─► choose (format, size) ─► stream ─► picture ─► Shot
//!  ▲                                 └─ unplugged, silent ─► why
//!  └──────────────── backoff ◄───────────────────────────────┘
//! ```
//! A camera that is missing at the start is an error, at once. One that was there and is gone is waited for.

mod choose;
mod look;
mod picture;
mod rate;
mod session;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) use self::look::look;
use self::session::{Event, Session};
use super::{CaptureError, Options, Shot, Source, Stop};

/// How often a camera that was pulled out is looked for: one `open` that fails.
const LOOK: Duration = Duration::from_millis(50);

/// A V4L2 camera.
pub(super) struct Camera {
    path: PathBuf,
    options: Options,
    session: Option<Session>,
    /// Whether this session delivered a frame.
    delivered: bool,
    /// Failures since the last frame.
    failures: u32,
}

impl Camera {
    /// Opens the device and starts its stream.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, CaptureError> {
        options.check()?;
        let session = Some(Session::open(path, options)?);
        Ok(Self { path: path.to_owned(), options: options.clone(), session, delivered: false, failures: 0 })
    }

    /// Counts the failure and waits; `Ok(false)` if stopped meanwhile.
    fn after(&mut self, why: String, stop: &Stop) -> Result<bool, CaptureError> {
        self.session = None;
        self.failures += 1;
        if let Some(attempts) = self.options.attempts.filter(|attempts| self.failures >= *attempts) {
            return Err(CaptureError::GaveUp { input: self.describe(), attempts, why });
        }
        let wait = self.options.backoff.wait(self.failures, rand::random());
        let (device, failures) = (self.describe(), self.failures);
        tracing::warn!(device, why, failures, ?wait, "the camera is gone, trying again after the wait");
        Ok(!self.sleep(wait, stop))
    }

    /// Sleeps, or until a device that is not there can be opened again; returns whether it was stopped.
    fn sleep(&self, wait: Duration, stop: &Stop) -> bool {
        let there = || File::options().read(true).write(true).open(&self.path).is_ok();
        if there() {
            return stop.sleep(wait);
        }
        let until = Instant::now() + wait;
        while !stop.sleep(LOOK.min(until.saturating_duration_since(Instant::now()))) {
            if there() || Instant::now() >= until {
                return false;
            }
        }
        true
    }
}

impl Source for Camera {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn next(&mut self, stop: &Stop) -> Result<Option<Shot>, CaptureError> {
        while !stop.is_stopped() {
            let why = match &mut self.session {
                Some(session) => {
                    let patience = if self.delivered { self.options.stall } else { self.options.connect };
                    match session.next(patience, stop) {
                        Event::Frame(shot) => {
                            (self.delivered, self.failures) = (true, 0);
                            return Ok(Some(shot));
                        }
                        Event::Stopped => break,
                        Event::Silent => format!("no frame for {patience:.1?}"),
                        Event::Failed(error) => session::explain(&self.path, "reading it", error).to_string(),
                    }
                }
                None => match Session::open(&self.path, &self.options) {
                    Ok(session) => {
                        (self.session, self.delivered) = (Some(session), false);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
            };
            if !self.after(why, stop)? {
                break;
            }
        }
        self.session = None;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> CaptureError {
        match Camera::open(Path::new(path), &Options::default()) {
            Err(error) => error,
            Ok(_) => panic!("{path} opened"),
        }
    }

    #[test]
    fn what_is_no_camera_is_named() {
        assert!(matches!(refused("/dev/video-none"), CaptureError::DeviceMissing { .. }));
        let error = refused("/dev/null");
        assert!(matches!(&error, CaptureError::NotACamera { .. }), "{error:?}");
    }

    #[test]
    fn the_system_s_answers_name_the_remedy() {
        let path = Path::new("/dev/video0");
        for (code, words) in [
            (libc::ENOENT, "plug the camera in"),
            (libc::EACCES, "group `video`"),
            (libc::EBUSY, "another program"),
            (libc::ENOTTY, "cannot capture"),
            (libc::EIO, "starting it"),
        ] {
            let error = session::explain(path, "starting it", std::io::Error::from_raw_os_error(code));
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_device_that_stays_away_is_given_up_when_asked_to() {
        let options = Options {
            attempts: Some(2),
            backoff: crate::capture::Backoff { first: std::time::Duration::ZERO, ..Default::default() },
            ..Options::default()
        };
        let path = PathBuf::from("/dev/video-none");
        let mut camera = Camera { path, options, session: None, delivered: true, failures: 0 };
        let error = camera.next(&Stop::new()).unwrap_err();
        assert!(matches!(error, CaptureError::GaveUp { attempts: 2, .. }), "{error}");
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
