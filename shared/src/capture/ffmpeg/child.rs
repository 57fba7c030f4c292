//! One run of ffmpeg: its pipes, its end.
//!
//! ```text
//! script ─► stdin ┐                ┌ stdout ─► reader thread (ppm) ─► one waiting frame ─► next()
//!                 └──── ffmpeg ────┤
//!                                  └ stderr ─► listener thread ─► log, last words
//! ```
//! Dropping a [`Child`] ends the process and waits for it and for both threads: nothing is left behind.

use std::io::{BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::command::Invocation;
use super::os;
use super::ppm::{self, Frame, PpmError};
use super::words::{LastWords, Redactor};
use crate::capture::{CaptureError, Options, STOP_POLL, Stop};

/// How long a child may take to end by itself when asked to (it may say goodbye to an RTSP server).
const GRACE: Duration = Duration::from_millis(300);
/// How often its end is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// Read from the pipe at a time: the size of a pipe.
const PIPE_BYTES: usize = 64 << 10;
/// What ffmpeg may know of the agent's environment; secrets given to the agent in variables stay there.
const ENVIRONMENT: [&str; 10] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LIBVA_DRIVER_NAME",
];

/// A running ffmpeg. Used by the thread that spawned it, which must outlive it: see [`os::bind_to_thread`].
pub(super) struct Child {
    process: std::process::Child,
    /// `None` once the child is being ended: a reader that waits to hand over a frame then gives up.
    frames: Option<Receiver<Result<Frame, PpmError>>>,
    threads: Vec<JoinHandle<()>>,
    words: Arc<LastWords>,
    max_pixels: u64,
}

/// What came of waiting for a frame.
pub(super) enum Event {
    Frame(Frame),
    /// No more frames will come.
    Ended(End),
    /// Nothing came in time.
    Silent,
    Stopped,
}

/// How a child ended.
pub(super) struct End {
    /// It reached the end of its input.
    pub(super) clean: bool,
    /// In words, redacted.
    pub(super) why: String,
}

impl Child {
    pub(super) fn spawn(
        invocation: &Invocation,
        redactor: Redactor,
        options: &Options,
    ) -> Result<Self, CaptureError> {
        let failed = |source| start_error(options, source);
        let mut command = command(options);
        command.args(&invocation.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        os::bind_to_thread(&mut command);
        let mut process = command.spawn().map_err(failed)?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let mut child = Self {
            process,
            frames: None,
            threads: Vec::new(),
            words: Arc::default(),
            max_pixels: options.limits.max_pixels,
        };
        // From here on an error drops the child, which ends the process.
        let (Some(mut script), Some(stdout), Some(stderr)) = pipes else { return Ok(child) };
        let (sender, frames) = sync_channel(0);
        child.frames = Some(frames);
        let max_pixels = child.max_pixels;
        let reader = move || read_frames(BufReader::with_capacity(PIPE_BYTES, stdout), max_pixels, &sender);
        let words = child.words.clone();
        child.start_thread("ffmpeg-frames", reader).map_err(failed)?;
        child.start_thread("ffmpeg-errors", move || words.listen(stderr, &redactor)).map_err(failed)?;
        // A child that died before reading says so by its end; closing the pipe ends the script.
        let _ = script.write_all(invocation.script.as_bytes());
        Ok(child)
    }

    fn start_thread(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(())
    }

    /// Waits for a frame until `patience` is over (`None`: for as long as it takes) or `stop` is raised.
    pub(super) fn next(&mut self, patience: Option<Duration>, stop: &Stop) -> Event {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            if stop.is_stopped() {
                return Event::Stopped;
            }
            let left = until.map_or(STOP_POLL, |until| until.saturating_duration_since(Instant::now()));
            let Some(frames) = &self.frames else { return Event::Ended(self.end(None)) };
            match frames.recv_timeout(left.min(STOP_POLL)) {
                Ok(Ok(frame)) => return Event::Frame(frame),
                Ok(Err(error)) => return Event::Ended(self.end(Some(error))),
                Err(RecvTimeoutError::Disconnected) => return Event::Ended(self.end(None)),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Event::Silent,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Its last words so far, redacted.
    pub(super) fn words(&self) -> String {
        self.words.text()
    }

    /// Its process number.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its output is over: waits for the process and says how it ended.
    fn end(&mut self, error: Option<PpmError>) -> End {
        let status = self.reap();
        let words = self.words.text();
        let clean = error.is_none() && status.is_some_and(|status| status.success());
        let mut why = match (error, status) {
            (Some(error), _) => error.to_string(),
            (None, Some(status)) if status.success() => "it reached the end".to_owned(),
            (None, Some(status)) => format!("ffmpeg ended with {status}"),
            (None, None) => "ffmpeg ended".to_owned(),
        };
        if !words.is_empty() {
            why = format!("{why}: {words}");
        }
        End { clean, why }
    }

    /// Waits for a process that ends by itself, asks one that does not, kills one that does not listen; then
    /// collects both threads. Idempotent.
    fn reap(&mut self) -> Option<ExitStatus> {
        let ended_itself = self.wait(if self.frames.is_some() { GRACE } else { Duration::ZERO });
        // A reader with a frame in its hands stops, closes the pipe, and ffmpeg cannot hang in a write.
        self.frames = None;
        if ended_itself.is_none() {
            os::signal_group(&mut self.process, libc::SIGTERM);
            if self.wait(GRACE).is_none() {
                os::signal_group(&mut self.process, libc::SIGKILL);
            }
        }
        let status = self.process.wait().ok();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        status
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => sleep(LOOK),
                _ => return None,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.frames = None;
        self.reap();
    }
}

/// The program, knowing only what it needs of the environment.
pub(super) fn command(options: &Options) -> Command {
    let mut command = Command::new(&options.ffmpeg);
    command.env_clear();
    for name in ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Why the program could not be started.
pub(super) fn start_error(options: &Options, source: std::io::Error) -> CaptureError {
    let program = options.ffmpeg.clone();
    match source.kind() {
        std::io::ErrorKind::NotFound => CaptureError::NoFfmpeg { program },
        _ => CaptureError::Spawn { program, source },
    }
}

/// Hands frames over one by one, waiting for each to be taken: ffmpeg is at most one frame (and a pipe) ahead.
fn read_frames(
    mut pipe: BufReader<std::process::ChildStdout>,
    max_pixels: u64,
    frames: &SyncSender<Result<Frame, PpmError>>,
) {
    while let Some(frame) = ppm::read(&mut pipe, max_pixels).transpose() {
        let failed = frame.is_err();
        if frames.send(frame).is_err() || failed {
            return;
        }
    }
}
