//! Frames of live agents, on their way from the sessions into the archive.
//!
//! ```text
//! session ─► wants? (policy of the camera) ─► offer ═ 64 ═► a thread ─► archive.add, up to 32 together ─► retention
//!                                              └ full: the sample is dropped and counted; no frame ever waits
//! ```
//! A disk that is full, or a bucket that does not answer, costs the samples of that time, counted; the server goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::metrics::{Counters, Page};

use super::sampling::{Policy, Sampling, State};
use super::{Added, Archive, ArchiveError, Incoming, Keep};

/// Samples that wait for the disk; of 100 kB each 6 MB.
const WAITING: usize = 64;

/// Samples of one transaction at most.
const BATCH: usize = 32;

/// Between two looks at what is too old or too much, and between two lines in the log.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A frame is in the archive.
const KEPT: &str = "kept";

/// Why a frame of an agent is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// The camera's policy wants a later one.
    NotDue,
    /// Nothing of this camera is kept.
    Off,
    /// Only some of its patches were sent.
    Patches,
    /// The encoder gave no embedding.
    Unanswered,
    /// The archive is behind.
    QueueFull,
    /// The camera has a frame with these bytes.
    Same,
    /// The archive could not be written.
    Failed,
}

impl Skipped {
    const ALL: [Self; 7] =
        [Self::NotDue, Self::Off, Self::Patches, Self::Unanswered, Self::QueueFull, Self::Same, Self::Failed];

    const fn key(self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::Off => "off",
            Self::Patches => "patches",
            Self::Unanswered => "unanswered",
            Self::QueueFull => "queue_full",
            Self::Same => "same",
            Self::Failed => "failed",
        }
    }
}

/// What became of agents' frames, as Prometheus reads it: each frame that arrived whole is counted once.
#[derive(Debug)]
struct Tally {
    frames: Counters,
    bytes: AtomicU64,
    removed: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        let frames = Counters::new(std::iter::once(KEPT).chain(Skipped::ALL.map(Skipped::key)));
        Self { frames, bytes: AtomicU64::new(0), removed: AtomicU64::new(0) }
    }
}

/// The sessions' end of it.
#[derive(Debug)]
pub struct Tap {
    sampling: Sampling,
    cameras: Mutex<HashMap<String, State>>,
    /// `None` once it has ended.
    running: Mutex<Option<(SyncSender<Incoming>, JoinHandle<()>)>>,
    dropped: AtomicU64,
    tally: Arc<Tally>,
}

impl Tap {
    /// Opens the archive and starts the thread.
    ///
    /// # Errors
    /// An archive that cannot be opened; the system gives no thread.
    pub fn start(sampling: &Sampling) -> Result<Option<Self>, ArchiveError> {
        let Some(dir) = &sampling.dir else { return Ok(None) };
        let archive = Archive::open(dir)?;
        let (sender, receiver) = sync_channel(WAITING);
        let tally = Arc::new(Tally::default());
        let keeper = Keeper {
            archive,
            sampling: sampling.clone(),
            looked: Instant::now(),
            kept: 0,
            failed: 0,
            unsettled: false,
            tally: Arc::clone(&tally),
        };
        let frames = keeper.archive.frames_at();
        let thread =
            std::thread::Builder::new().name("archive".to_owned()).spawn(move || keeper.run(&receiver));
        let thread = thread.map_err(ArchiveError::io("start a thread for", dir))?;
        tracing::info!(archive = %dir.display(), frames, "keeping samples of agents' frames");
        Ok(Some(Self {
            sampling: sampling.clone(),
            cameras: Mutex::default(),
            running: Mutex::new(Some((sender, thread))),
            dropped: AtomicU64::new(0),
            tally,
        }))
    }

    /// Whether the next frame of this camera is to be kept, if it is answered.
    pub fn wants(&self, camera: &str, now: Instant) -> bool {
        let (wants, policy) = self.policy(camera, |state, policy| (state.wants(policy, now), policy));
        if !wants {
            self.skip(if policy == Policy::Off { Skipped::Off } else { Skipped::NotDue });
        }
        wants
    }

    /// Counts a frame that was wanted and is not to be had.
    pub fn skip(&self, why: Skipped) {
        self.tally.frames.add(why.key());
    }

    /// Hands a frame over that is to be kept, unless another one of its camera was meanwhile.
    pub fn offer(&self, camera: &str, now: Instant, frame: impl FnOnce(&Sampling) -> Incoming) {
        if !self.policy(camera, |state, policy| state.take(policy, now)) {
            return self.skip(Skipped::NotDue);
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sender, _)) = &*running else { return self.skip(Skipped::Failed) };
        let sent = sender.try_send(frame(&self.sampling));
        if let Err(TrySendError::Disconnected(_)) = sent {
            self.skip(Skipped::Failed);
        } else if let Err(TrySendError::Full(_)) = sent {
            self.skip(Skipped::QueueFull);
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(
                    dropped,
                    "the archive is behind: samples are dropped; is its disk slow or full?"
                );
            }
        }
    }

    /// Takes no more, and waits until what waits is written.
    pub fn finish(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = running {
            drop(sender);
            let _ = thread.join();
        }
    }

    /// Samples that did not fit the queue.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What was counted, for Prometheus.
    pub fn write(&self, page: &mut Page) {
        let Tally { frames, bytes, removed } = &*self.tally;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.counters(
            "fth_encoder_archive_frames_total",
            "Agents' frames that arrived whole, by whether the archive keeps them, and why not.",
            "outcome",
            frames.counts(),
        );
        let (name, help) = ("fth_encoder_archive_bytes_total", "Bytes of the frames that were kept.");
        page.counter(name, help, load(bytes));
        let (name, help) =
            ("fth_encoder_archive_removed_total", "Frames that the server removed: too old, or too much.");
        page.counter(name, help, load(removed));
    }

    fn policy<T>(&self, camera: &str, ask: impl FnOnce(&mut State, Policy) -> T) -> T {
        let policy = self.sampling.policy(camera);
        let mut cameras = self.cameras.lock().unwrap_or_else(PoisonError::into_inner);
        // Cameras have certificates of our own: there are not more of them than were issued.
        match cameras.get_mut(camera) {
            Some(state) => ask(state, policy),
            None => ask(cameras.entry(camera.to_owned()).or_default(), policy),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Keeper {
    archive: Archive,
    sampling: Sampling,
    looked: Instant,
    kept: u64,
    failed: u64,
    /// A batch failed since the archive last settled what was left half done.
    unsettled: bool,
    tally: Arc<Tally>,
}

impl Keeper {
    fn run(mut self, frames: &Receiver<Incoming>) {
        loop {
            match frames.recv_timeout(LOOK_EVERY) {
                Ok(first) => {
                    let more = std::iter::from_fn(|| frames.try_recv().ok());
                    self.add(std::iter::once(first).chain(more).take(BATCH).collect());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.looked.elapsed() >= LOOK_EVERY {
                self.look();
            }
        }
    }

    /// A disk that is full today may have room tomorrow: the server goes on, and says so.
    fn add(&mut self, batch: Vec<Incoming>) {
        let (count, sizes) = (batch.len() as u64, batch.iter().map(|it| it.jpeg.len()).collect::<Vec<_>>());
        match self.archive.add(batch) {
            Ok(added) => {
                for (added, bytes) in added.iter().zip(sizes) {
                    if let Added::Same(_) = added {
                        self.tally.frames.add(Skipped::Same.key());
                        continue;
                    }
                    self.kept += 1;
                    self.tally.frames.add(KEPT);
                    self.tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            }
            Err(error) => {
                (0..count).for_each(|_| self.tally.frames.add(Skipped::Failed.key()));
                self.failed += count;
                self.unsettled = true;
                if self.failed.is_power_of_two() || self.failed == count {
                    tracing::warn!(failed = self.failed, %error, "samples are not kept");
                }
            }
        }
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        if self.kept > 0 {
            tracing::debug!(kept = self.kept, failed = self.failed, "samples of agents' frames");
        }
        if self.unsettled {
            match self.archive.recover() {
                Ok(()) => self.unsettled = false,
                Err(error) => tracing::warn!(%error, "what was left half done is settled another time"),
            }
        }
        let cameras = self.archive.totals().unwrap_or_default();
        for (camera, ..) in cameras {
            let keep = self.sampling.keep(&camera);
            if self.archive.keep(&camera, keep) == Keep::default() {
                continue;
            }
            match self.archive.retain(&camera, keep, Timestamp::now()) {
                Ok(removed) => {
                    self.tally.removed.fetch_add(removed.frames as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::warn!(camera, %error, "what is too old or too much could not be removed");
                }
            }
        }
    }
}
