//! Frames from a stream or a file into the archive, for as long as it takes.
//!
//! ```text
//!  capture thread                                   this thread
//!  page (yt-dlp) ─► source (ffmpeg) ─► Shot ═ 8 ═► JPEG ─► embedding ─► novelty ─► archive.add ─► retention
//!       ▲ gone: growing waits, resolved anew ┘ (full: the source waits)
//! ```
//! A stream that stalls or ends is opened again; one that never gave a frame is an error, with ffmpeg's own words.

mod page;
mod rate;
mod schedule;
mod source;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use shared::capture::{CaptureError, Image, Shot, SourceUri, Stop};
use shared::image::{Chroma, jpeg};

use crate::archive::{Added, Archive, ArchiveError, Embedder, Incoming, Keep, Novelty, Zone};
use crate::backend::BackendError;

pub use page::{Page, PageError};
pub use rate::{ParseRateError, Rate};
pub use schedule::{ParseScheduleError, Schedule};
pub use source::Clock;

/// Shots that wait to be kept; a source that is faster waits, too.
const WAITING: usize = 8;

/// Frames of one transaction at most.
const BATCH: usize = 32;

/// The oldest frame of a batch waits no longer for company.
const LINGER: Duration = Duration::from_secs(2);

/// Between two looks at what is too old or too much.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// JPEG quality of frames that come decoded, on libjpeg's scale: a later encoder may see more than today's.
const QUALITY: u8 = 90;

/// What to collect.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where from.
    pub from: From,
    /// The camera's name.
    pub camera: String,
    /// The camera's time zone.
    pub zone: Zone,
    /// How many frames a second.
    pub rate: Rate,
    /// When.
    pub schedule: Schedule,
    /// When a video file begins; by default what its name or its modification time says.
    pub start: Option<Timestamp>,
    /// How far times may be off; by default what the kind of source is known for.
    pub uncertainty: Option<Duration>,
    /// What may stay.
    pub keep: Keep,
    /// Share of the usual distance between embeddings that a frame must be away from the last one; 0 keeps all.
    pub novelty: f32,
    /// End after so long.
    pub during: Option<Duration>,
    /// End after so many frames were kept.
    pub frames: Option<u64>,
    /// The ffmpeg program.
    pub ffmpeg: PathBuf,
    /// A live source that delivers nothing for this long is restarted.
    pub stall: Duration,
}

/// Where frames come from.
#[derive(Debug, Clone)]
pub enum From {
    /// What ffmpeg or this program reads.
    Source(SourceUri),
    /// A page that yt-dlp finds the stream of.
    Page(Page),
}

/// Why collecting ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The source.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The encoder.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Nothing may go, and nothing more fits.
    #[error(
        "labelled frames of {camera} alone are {beyond} bytes beyond --keep-bytes: raise it, or remove some with \
         `archive forget`"
    )]
    Full {
        /// The camera.
        camera: String,
        /// Bytes too many.
        beyond: u64,
    },
    /// The system gives no thread.
    #[error("cannot start the capture thread: {0}")]
    Thread(std::io::Error),
}

/// What was collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames in the archive now that were not there.
    pub kept: u64,
    /// Frames with bytes that were there already.
    pub same: u64,
    /// Frames that looked like the last one.
    pub alike: u64,
    /// Frames that could not be read.
    pub unreadable: u64,
    /// Frames removed because they were too old or too much.
    pub removed: u64,
}

/// Collects until the source ends, the time or number of frames is reached, or `stop` is raised.
///
/// # Errors
/// A source that never gives a frame, an archive that cannot be written. What was kept until then is kept.
pub fn run(
    config: &Config,
    archive: &Archive,
    embedder: Option<&mut Embedder>,
    stop: &Stop,
) -> Result<Summary, CollectError> {
    let (sender, shots) = sync_channel(WAITING);
    let capture = source::Capture { config: config.clone(), stop: stop.clone() };
    let thread = std::thread::Builder::new().name("capture".to_owned()).spawn(move || capture.run(&sender));
    let thread = thread.map_err(CollectError::Thread)?;
    let until = config.during.map(|during| Instant::now() + during);
    let mut keeper = Keeper {
        config,
        archive,
        embedder,
        novelty: Novelty::new(config.novelty),
        batch: Vec::new(),
        since: None,
        retained: Instant::now(),
        summary: Summary::default(),
    };
    let kept = keeper.take_all(&shots, until, stop);
    stop.stop();
    drop(shots);
    let captured = thread.join().unwrap_or_else(|_| {
        Err(CollectError::Capture(CaptureError::Panicked { message: "while capturing".to_owned() }))
    });
    kept?;
    captured?;
    Ok(keeper.summary)
}

/// What became of a wait for a shot.
enum Next {
    Shot(Shot),
    Nothing,
    Over,
}

struct Keeper<'a> {
    config: &'a Config,
    archive: &'a Archive,
    embedder: Option<&'a mut Embedder>,
    novelty: Novelty,
    batch: Vec<Incoming>,
    /// When the batch's first frame came.
    since: Option<Instant>,
    retained: Instant,
    summary: Summary,
}

impl Keeper<'_> {
    fn take_all(
        &mut self,
        shots: &Receiver<Shot>,
        until: Option<Instant>,
        stop: &Stop,
    ) -> Result<(), CollectError> {
        let mut clock = Clock::new(self.config);
        self.retain()?;
        while !self.is_done(until, stop) {
            match self.next(shots, until) {
                Next::Shot(shot) => self.take(shot, &mut clock),
                Next::Nothing => {}
                Next::Over => break,
            }
            if self.is_due() {
                self.flush()?;
            }
            if self.retained.elapsed() >= RETENTION_EVERY {
                self.retain()?;
            }
        }
        self.flush()?;
        self.retain()
    }

    fn is_done(&self, until: Option<Instant>, stop: &Stop) -> bool {
        let enough =
            self.config.frames.is_some_and(|frames| self.summary.kept + self.batch.len() as u64 >= frames);
        enough || stop.is_stopped() || until.is_some_and(|until| Instant::now() >= until)
    }

    fn next(&self, shots: &Receiver<Shot>, until: Option<Instant>) -> Next {
        let now = Instant::now();
        let linger = self.since.map_or(LINGER, |since| LINGER.saturating_sub(since.elapsed()));
        let left = until.map_or(LINGER, |until| until.saturating_duration_since(now));
        match shots.recv_timeout(linger.min(left).min(shared::capture::STOP_POLL)) {
            Ok(shot) => Next::Shot(shot),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::Over,
        }
    }

    fn is_due(&self) -> bool {
        self.batch.len() >= BATCH || self.since.is_some_and(|since| since.elapsed() >= LINGER)
    }

    fn take(&mut self, shot: Shot, clock: &mut Clock) {
        let (captured_at, uncertainty) = clock.time(&shot);
        let jpeg = match shot.image {
            Ok(Image::Jpeg(jpeg)) => jpeg,
            Ok(Image::Rgb(image)) => Bytes::from(jpeg::encode(&image, QUALITY, Chroma::C420)),
            Ok(Image::Yuyv { .. }) => return, // devices are the agent's
            Err(why) => {
                tracing::warn!(frame = shot.id, why, "a frame cannot be read");
                self.summary.unreadable += 1;
                return;
            }
        };
        self.since.get_or_insert_with(Instant::now);
        self.batch.push(Incoming {
            camera: self.config.camera.clone(),
            captured_at,
            zone: self.config.zone.clone(),
            uncertainty_ms: u64::try_from(uncertainty.as_millis()).unwrap_or(u64::MAX),
            source: shot.id.map_or_else(|| clock.source(), |id| format!("{}#{id}", clock.source())),
            jpeg,
            embedding: None,
        });
    }

    /// Puts the batch into the archive.
    fn flush(&mut self) -> Result<(), CollectError> {
        self.since = None;
        let mut batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(embedder) = self.embedder.as_deref_mut() {
            let jpegs: Vec<Bytes> = batch.iter().map(|it| it.jpeg.clone()).collect();
            for (frame, embedding) in batch.iter_mut().zip(embedder.embed(&jpegs)?) {
                frame.embedding = embedding;
            }
        }
        let before = batch.len();
        let novelty = &mut self.novelty;
        batch.retain(|it| it.embedding.as_ref().is_none_or(|embedding| novelty.is_new(&embedding.values)));
        self.summary.alike += (before - batch.len()) as u64;
        for added in self.archive.add(batch)? {
            match added {
                Added::New(_) => self.summary.kept += 1,
                Added::Same(_) => self.summary.same += 1,
            }
        }
        let Summary { kept, same, alike, .. } = self.summary;
        tracing::debug!(kept, same, alike, "collected");
        Ok(())
    }

    fn retain(&mut self) -> Result<(), CollectError> {
        self.retained = Instant::now();
        let Config { camera, keep, .. } = self.config;
        if *keep == Keep::default() {
            return Ok(());
        }
        let removed = self.archive.retain_if_known(camera, *keep, Timestamp::now())?;
        self.summary.removed += removed.frames as u64;
        match removed.beyond {
            0 => Ok(()),
            beyond => Err(CollectError::Full { camera: camera.clone(), beyond }),
        }
    }
}
