//! Video files and streams through an `ffmpeg` child process.
//!
//! ```text
//! command ─► child ─► ppm ─► Shot
//!              └─ died, silent ─► why (words) ─► backoff ─► the next child
//! ```
//! A video file ends; a live stream is started again for as long as the options allow. Frames are counted from
//! the moment they leave ffmpeg: those it skips to keep the asked-for rate were never captured.
//!
//! Known limit: an HLS playlist that says it is over (`EXT-X-ENDLIST`) but is still served is played again, from its
//! first segment, at each attempt; the log says so. Nothing in the frames tells old pictures from new ones.

mod child;
mod command;
mod os;
mod ppm;
mod words;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use self::child::{Child, Event};
use self::command::{Dialect, Invocation};
use self::ppm::Frame;
use self::words::Redactor;
use super::{CaptureError, Image, Options, Shot, Source, Stop, StreamKind, StreamUrl};

/// Between two fetches of a snapshot when no frame rate is asked for.
const SNAPSHOT_PERIOD: Duration = Duration::from_secs(1);

/// Why an HLS stream came to an end without an error.
const ENDED_LIST: &str = "its playlist says that it is over; what it still lists will be played again";

/// Frames from an ffmpeg child.
pub(super) struct Ffmpeg {
    input: Input,
    dialect: Dialect,
    options: Options,
    child: Option<Child>,
    /// Frames from the child that runs now.
    delivered: u64,
    /// Frames from all children; names frames of a video.
    frames: u64,
    /// Failures since the last frame.
    failures: u32,
    /// When the child was started.
    since: Instant,
}

enum Input {
    Video(PathBuf),
    Stream(StreamUrl),
}

/// Why a child is gone.
struct Gone {
    clean: bool,
    why: String,
}

impl Ffmpeg {
    /// Frames of a video file.
    pub(super) fn video(path: &Path, options: &Options) -> Result<Self, CaptureError> {
        Self::new(Input::Video(path.to_owned()), options)
    }

    /// Frames of a stream.
    pub(super) fn stream(url: &StreamUrl, options: &Options) -> Result<Self, CaptureError> {
        Self::new(Input::Stream(url.clone()), options)
    }

    fn new(input: Input, options: &Options) -> Result<Self, CaptureError> {
        options.check()?;
        Ok(Self {
            input,
            dialect: ask_dialect(options)?,
            options: options.clone(),
            child: None,
            delivered: 0,
            frames: 0,
            failures: 0,
            since: Instant::now(),
        })
    }

    fn ensure_child(&mut self) -> Result<(), CaptureError> {
        if self.child.is_some() {
            return Ok(());
        }
        let (invocation, redactor) = match &self.input {
            Input::Video(path) => (command::video(path, self.dialect, &self.options), Redactor::new(None)),
            Input::Stream(url) => {
                (command::stream(url, self.dialect, &self.options), Redactor::new(Some(url.secret())))
            }
        };
        let Invocation { args, .. } = &invocation;
        tracing::debug!(source = self.describe(), ?args, "starting ffmpeg");
        (self.delivered, self.since) = (0, Instant::now());
        let child = Child::spawn(&invocation, redactor, &self.options)?;
        tracing::debug!(source = self.describe(), pid = child.id(), "ffmpeg runs");
        self.child = Some(child);
        Ok(())
    }

    fn is_live(&self) -> bool {
        matches!(&self.input, Input::Stream(url) if url.kind() != StreamKind::File)
    }

    fn is_snapshot(&self) -> bool {
        matches!(&self.input, Input::Stream(url) if url.kind() == StreamKind::Snapshot)
    }

    /// How long the child may be silent. A local file may take its time; a low frame rate is no silence.
    fn patience(&self) -> Option<Duration> {
        let period = self.options.fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(1.0 / fps));
        match (&self.input, self.delivered) {
            (Input::Video(_), _) => None,
            (Input::Stream(_), 0) => Some(self.options.connect + period),
            (Input::Stream(_), _) => Some(self.options.stall + period),
        }
    }

    fn shot(&mut self, frame: Frame) -> Shot {
        let id = match &self.input {
            Input::Video(path) => {
                path.file_name().map(|name| format!("{}#{}", name.to_string_lossy(), self.frames))
            }
            Input::Stream(_) => None,
        };
        self.delivered += 1;
        self.frames += 1;
        self.failures = 0;
        let Frame { image, captured_at, started, ready } = frame;
        Shot { captured_at, started, ready, id, image: Ok(Image::Rgb(image)) }
    }

    /// A frame of the child that runs, or why there will be none; `None` if stopped.
    fn ask(&mut self, stop: &Stop) -> Option<Result<Shot, Gone>> {
        let patience = self.patience();
        let child = self.child.as_mut()?;
        let gone = match child.next(patience, stop) {
            Event::Frame(frame) => return Some(Ok(self.shot(frame))),
            Event::Stopped => return None,
            Event::Ended(end) => Gone { clean: end.clean, why: end.why },
            Event::Silent => {
                let said = child.words();
                let colon = if said.is_empty() { "" } else { ": " };
                let what = if self.delivered == 0 { "no first frame" } else { "no frame" };
                let patience = patience.unwrap_or_default();
                Gone { clean: false, why: format!("{what} for {patience:.1?}{colon}{said}") }
            }
        };
        Some(Err(gone))
    }

    /// What follows from the child's end: `Ok(true)` another try, `Ok(false)` the end of the source.
    fn after(&mut self, gone: Gone, stop: &Stop) -> Result<bool, CaptureError> {
        self.child = None;
        if !self.is_live() {
            if gone.clean && self.frames > 0 {
                return Ok(false);
            }
            let why = if gone.clean { "it holds no video frame".to_owned() } else { gone.why };
            return Err(CaptureError::Video { input: self.describe(), why });
        }
        if self.is_snapshot() && gone.clean && self.delivered > 0 {
            let period = self.options.fps.map_or(SNAPSHOT_PERIOD, |fps| Duration::from_secs_f64(1.0 / fps));
            return Ok(!stop.sleep(period.saturating_sub(self.since.elapsed())));
        }
        self.failures += 1;
        if let Some(attempts) = self.options.attempts.filter(|attempts| self.failures >= *attempts) {
            return Err(CaptureError::GaveUp { input: self.describe(), attempts, why: gone.why });
        }
        let wait = self.options.backoff.wait(self.failures, rand::random());
        let over = gone.clean && matches!(&self.input, Input::Stream(url) if url.kind() == StreamKind::Hls);
        let why = if over { ENDED_LIST.to_owned() } else { gone.why };
        let (source, failures) = (self.describe(), self.failures);
        tracing::warn!(source, why, failures, ?wait, "the stream is gone, trying again after the wait");
        Ok(!stop.sleep(wait))
    }
}

impl Source for Ffmpeg {
    fn describe(&self) -> String {
        match &self.input {
            Input::Video(path) => path.display().to_string(),
            Input::Stream(url) => url.to_string(),
        }
    }

    fn next(&mut self, stop: &Stop) -> Result<Option<Shot>, CaptureError> {
        while !stop.is_stopped() {
            let asked = match self.ensure_child() {
                Ok(()) => self.ask(stop),
                // The machine may be out of processes for a moment: a live source outlives that.
                Err(error) if self.is_live() => Some(Err(Gone { clean: false, why: error.to_string() })),
                Err(error) => return Err(error),
            };
            match asked {
                Some(Ok(shot)) => return Ok(Some(shot)),
                Some(Err(gone)) => {
                    if !self.after(gone, stop)? {
                        break;
                    }
                }
                None => break,
            }
        }
        self.child = None;
        Ok(None)
    }
}

/// Asks the program for its version, which also shows that it is there.
fn ask_dialect(options: &Options) -> Result<Dialect, CaptureError> {
    let output = child::command(options)
        .args(["-hide_banner", "-version"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| child::start_error(options, error))?;
    Ok(Dialect::of(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default()))
}
