//! The thread that captures, and when its frames were taken.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use shared::capture::{self, Backoff, Options, Shot, SourceUri, Stop, StreamKind};

use super::{CollectError, Config, From};

/// Failures in a row after which a source is opened anew, with a page resolved again; the first time it is given up.
const ATTEMPTS: u32 = 3;

/// HLS comes in segments of seconds, several of them behind.
const HLS_OFF: Duration = Duration::from_secs(30);

/// What a network and a decoder hold back.
const LIVE_OFF: Duration = Duration::from_secs(1);

/// A file's modification time says when it was copied, as likely as when it ended.
const FILE_OFF: Duration = Duration::from_secs(3600);

pub(super) struct Capture {
    pub(super) config: Config,
    pub(super) stop: Stop,
}

impl Capture {
    /// Hands shots over until the source ends, nobody takes them any more, or `stop` is raised.
    pub(super) fn run(self, shots: &SyncSender<Shot>) -> Result<(), CollectError> {
        let (mut delivered, mut failures) = (0_u64, 0);
        while !self.wait_for_opening() {
            let before = delivered;
            match self.capture(shots, &mut delivered) {
                Ok(over) if over => break,
                Ok(_) => failures = 0,
                Err(error) if delivered == 0 => return Err(error),
                Err(error) => {
                    // Who gave frames since then did not fail in a row.
                    failures = if delivered > before { 1 } else { failures + 1 };
                    let wait = Backoff::default().wait(failures, rand::random());
                    tracing::warn!(%error, ?wait, "the source is gone, opening it anew after the wait");
                    self.stop.sleep(wait);
                }
            }
        }
        Ok(())
    }

    /// Waits until the schedule says so; whether it was stopped meanwhile.
    fn wait_for_opening(&self) -> bool {
        let closed = self.config.schedule.closed_for(Timestamp::now(), &self.config.zone);
        if !closed.is_zero() {
            let closed = Duration::from_secs(closed.as_secs() + 1);
            tracing::info!("closed by the schedule for {}", humantime::format_duration(closed));
            return self.stop.sleep(closed);
        }
        self.stop.is_stopped()
    }

    /// Whether it is over for good; `false` when the schedule closed.
    fn capture(&self, shots: &SyncSender<Shot>, delivered: &mut u64) -> Result<bool, CollectError> {
        let Config { from, rate, ffmpeg, stall, schedule, zone, .. } = &self.config;
        let uri = match from {
            From::Source(uri) => uri.clone(),
            From::Page(page) => page.resolve()?,
        };
        let pictures = matches!(uri, SourceUri::Folder(_) | SourceUri::List(_));
        let options = Options {
            // Pictures have their own times: all are taken.
            fps: (!pictures).then(|| rate.per_second()),
            ffmpeg: ffmpeg.clone(),
            stall: *stall,
            // Connecting and finding a key frame takes longer.
            connect: *stall * 2,
            attempts: Some(ATTEMPTS),
            ..Options::default()
        };
        let mut source = capture::open(&uri, &options)?;
        tracing::info!(source = source.describe(), "collecting");
        while schedule.closed_for(Timestamp::now(), zone).is_zero() || uri.is_finite() {
            let Some(shot) = source.next(&self.stop)? else { return Ok(true) };
            *delivered += 1;
            if shots.send(shot).is_err() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// When frames were taken, and how far that may be off.
#[derive(Debug)]
pub struct Clock {
    source: String,
    kind: Kind,
    off: Duration,
}

#[derive(Debug)]
enum Kind {
    /// By the clock on the wall, when the first byte arrived.
    Live,
    /// By the list or the file's name.
    Pictures,
    /// From its beginning on, so far apart.
    Video { start: Timestamp, period: Duration, frames: u32 },
}

impl Clock {
    /// For what the configuration names.
    pub fn new(config: &Config) -> Self {
        let period = Duration::from_secs_f64(1.0 / config.rate.per_second());
        let (source, kind, off) = match &config.from {
            From::Page(page) => (shared::telemetry::redact_url(&page.url), Kind::Live, HLS_OFF),
            From::Source(uri) => {
                let (kind, off) = match uri {
                    SourceUri::Folder(_) | SourceUri::List(_) => (Kind::Pictures, LIVE_OFF),
                    SourceUri::Video(path) => video(path, config.start, period),
                    SourceUri::Stream(url) if url.kind() == StreamKind::Hls => (Kind::Live, HLS_OFF),
                    SourceUri::Stream(_) | SourceUri::Device(_) => (Kind::Live, LIVE_OFF),
                };
                (uri.to_string(), kind, off)
            }
        };
        Self { source, kind, off: config.uncertainty.unwrap_or(off) }
    }

    /// Where frames come from, credentials removed.
    pub fn source(&self) -> String {
        self.source.clone()
    }

    /// The time of the next frame.
    pub fn time(&mut self, shot: &Shot) -> (Timestamp, Duration) {
        let at = match &mut self.kind {
            Kind::Live | Kind::Pictures => shot.captured_at,
            Kind::Video { start, period, frames } => {
                let after = SignedDuration::try_from(*period * *frames).unwrap_or(SignedDuration::ZERO);
                *frames += 1;
                start.checked_add(after).unwrap_or(*start)
            }
        };
        (at, self.off)
    }
}

/// A video begins when somebody says so, when its name says so, or when it was last written.
fn video(path: &Path, start: Option<Timestamp>, period: Duration) -> (Kind, Duration) {
    let named = || path.to_str().and_then(shared::frames::from_name);
    let modified = || {
        let time = std::fs::metadata(path).and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let (start, off) = match start.or_else(named) {
        Some(start) => (start, period),
        None => (modified(), FILE_OFF),
    };
    (Kind::Video { start, period, frames: 0 }, off)
}
