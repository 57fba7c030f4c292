//! Frames from a stream or a file into the archive, for as long as it takes.
//!
//! ```text
//!  capture thread                                   this thread
//!  page (yt-dlp) ─► source (ffmpeg) ─► Shot ═ 8 ═► JPEG ─► embedding ─► novelty ─► archive.add ─► retention
//!       ▲ gone: growing waits, resolved anew ┘ (full: the source waits)
//! ```
//! A stream that stalls or ends is opened again; one that never gave a frame is an error, with ffmpeg's own words. Frames
//! wait while a bucket does not answer, up to [`HELD`] of them; a disk that cannot be written ends it. What it does is
//! said once a minute: a stream that repeats itself is no silence.

mod page;
mod progress;
mod rate;
mod schedule;
mod source;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use shared::capture::{Backoff, CaptureError, Image, Shot, SourceUri, Stop};
use shared::image::{Chroma, Limits, Mask, jpeg};

use crate::archive::{Added, Archive, ArchiveError, Embedder, Incoming, Keep, Novelty, Zone};
use crate::backend::BackendError;

pub use page::{Page, PageError};
use progress::Progress;
pub use progress::Summary;
pub use rate::{ParseRateError, Rate};
pub use schedule::{ParseScheduleError, Schedule};
pub use source::Clock;

/// Shots that wait to be kept; a source that is faster waits, too.
const WAITING: usize = 8;

/// Frames of one transaction at most.
const BATCH: usize = 32;

/// The oldest frame of a batch waits no longer for company.
const LINGER: Duration = Duration::from_secs(2);

/// Frames that wait for a bucket that does not answer; of 100 kB each 25 MB. The oldest of more are given up.
const HELD: usize = 256;

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
    /// What nobody is to see: hidden before anything else happens to a frame. Then no JPEG is kept as it came.
    pub masks: Vec<Mask>,
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
    /// The frames' store does not answer.
    #[error("{held} frames were not stored, because {place} does not take them: the lines above say why")]
    Refused {
        /// Frames that are lost with this program's end.
        held: usize,
        /// Where they were to go.
        place: String,
    },
    /// The system gives no thread.
    #[error("cannot start the capture thread: {0}")]
    Thread(std::io::Error),
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
        held: Vec::new(),
        refusals: 0,
        again: None,
        retained: Instant::now(),
        progress: Progress::new(Instant::now()),
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

/// The file that is kept: with masks, of nothing but pixels.
fn kept(image: Image, masks: &[Mask]) -> Result<Bytes, String> {
    let mut rgb = match image {
        Image::Jpeg(jpeg) if masks.is_empty() => return Ok(jpeg),
        Image::Jpeg(jpeg) => jpeg::decode(&jpeg, &Limits::default()).map_err(|error| error.to_string())?,
        Image::Rgb(rgb) => rgb,
        Image::Yuyv { .. } => return Err("raw video, as devices give it to the agent".to_owned()),
    };
    masks.iter().for_each(|mask| mask.apply(&mut rgb));
    Ok(Bytes::from(jpeg::encode(&rgb, QUALITY, Chroma::C420)))
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
    /// Frames that are only to be stored.
    held: Vec<Incoming>,
    /// How often in a row their store did not take them.
    refusals: u32,
    /// When it is asked again.
    again: Option<Instant>,
    retained: Instant,
    progress: Progress,
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
        loop {
            if self.is_done(until, stop) {
                // What waits may be there already, and then it was not enough.
                self.flush()?;
                if self.is_over(until, stop) || self.held.is_empty() && self.is_done(until, stop) {
                    break;
                }
            }
            match self.next(shots, until, stop) {
                Next::Shot(shot) => self.take(shot, &mut clock),
                Next::Nothing => {}
                Next::Over => break,
            }
            if self.is_due() {
                self.flush()?;
            }
            if self.again.is_some_and(|again| Instant::now() >= again) {
                self.store()?;
            }
            if let Some(line) = self.progress.line(&self.summary, self.held.len(), Instant::now()) {
                tracing::info!(camera = self.config.camera, "{line}");
            }
            if self.retained.elapsed() >= RETENTION_EVERY {
                self.retain()?;
            }
        }
        self.flush()?;
        if !self.held.is_empty() {
            self.last_try()?;
        }
        self.retain()
    }

    fn is_done(&self, until: Option<Instant>, stop: &Stop) -> bool {
        let waiting = (self.batch.len() + self.held.len()) as u64;
        let enough = self.config.frames.is_some_and(|frames| self.summary.kept + waiting >= frames);
        enough || self.is_over(until, stop)
    }

    fn is_over(&self, until: Option<Instant>, stop: &Stop) -> bool {
        stop.is_stopped() || until.is_some_and(|until| Instant::now() >= until)
    }

    fn next(&self, shots: &Receiver<Shot>, until: Option<Instant>, stop: &Stop) -> Next {
        if self.is_done(until, stop) {
            // There are enough, and they are only to be stored.
            stop.sleep(shared::capture::STOP_POLL);
            return Next::Nothing;
        }
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
        let jpeg = match shot.image.and_then(|image| kept(image, &self.config.masks)) {
            Ok(jpeg) => jpeg,
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
        self.held.extend(batch);
        if self.again.is_none() { self.store() } else { Ok(()) }
    }

    /// Stores what is held. A bucket that does not take it is asked again later; a disk that does not ends it all.
    fn store(&mut self) -> Result<(), CollectError> {
        match self.archive.add(self.held.clone()) {
            Ok(added) => {
                for added in added {
                    match added {
                        Added::New(_) => self.summary.kept += 1,
                        Added::Same(_) => self.summary.same += 1,
                    }
                }
                self.held.clear();
                if self.refusals > 0 {
                    tracing::info!("frames are taken again");
                }
                (self.refusals, self.again) = (0, None);
                Ok(())
            }
            Err(error @ ArchiveError::Store { .. }) => {
                self.refusals += 1;
                let wait = Backoff::default().wait(self.refusals, rand::random());
                let given_up = self.held.len().saturating_sub(HELD);
                self.held.drain(..given_up);
                self.summary.refused += given_up as u64;
                tracing::warn!(%error, waiting = self.held.len(), given_up, ?wait, "frames wait");
                self.again = Some(Instant::now() + wait);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// At the end there is nobody left to wait.
    fn last_try(&mut self) -> Result<(), CollectError> {
        self.store()?;
        match self.held.len() {
            0 => Ok(()),
            held => Err(CollectError::Refused { held, place: self.archive.frames_at() }),
        }
    }

    fn retain(&mut self) -> Result<(), CollectError> {
        self.retained = Instant::now();
        let Config { camera, keep, .. } = self.config;
        if self.archive.keep(camera, *keep) == Keep::default() {
            return Ok(());
        }
        let removed = match self.archive.retain_if_known(camera, *keep, Timestamp::now()) {
            Err(error @ ArchiveError::Store { .. }) => {
                tracing::warn!(%error, "what is too old or too much is removed another time");
                return Ok(());
            }
            removed => removed?,
        };
        self.summary.removed += removed.frames as u64;
        match removed.beyond {
            0 => Ok(()),
            beyond => Err(CollectError::Full { camera: camera.clone(), beyond }),
        }
    }
}
