//! Frames of live agents, on their way from the sessions into the archive.
//!
//! ```text
//! session ─► wants? (policy of the camera) ─► offer ═ 64 ═► a thread ─► archive.add, up to 32 together ─► retention
//!                                              └ full: the sample is dropped and counted; no frame ever waits
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::sampling::{Policy, Sampling, State};
use super::{Archive, ArchiveError, Incoming, Keep};

/// Samples that wait for the disk; of 100 kB each 6 MB.
const WAITING: usize = 64;

/// Samples of one transaction at most.
const BATCH: usize = 32;

/// Between two looks at what is too old or too much, and between two lines in the log.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The sessions' end of it.
#[derive(Debug)]
pub struct Tap {
    sampling: Sampling,
    cameras: Mutex<HashMap<String, State>>,
    /// `None` once it has ended.
    running: Mutex<Option<(SyncSender<Incoming>, JoinHandle<()>)>>,
    dropped: AtomicU64,
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
        let keeper = Keeper { archive, keep: sampling.keep(), looked: Instant::now(), kept: 0, failed: 0 };
        let thread =
            std::thread::Builder::new().name("archive".to_owned()).spawn(move || keeper.run(&receiver));
        let thread = thread.map_err(ArchiveError::io("start a thread for", dir))?;
        tracing::info!(archive = %dir.display(), "keeping samples of agents' frames");
        Ok(Some(Self {
            sampling: sampling.clone(),
            cameras: Mutex::default(),
            running: Mutex::new(Some((sender, thread))),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Whether the next frame of this camera is to be kept, if it is answered.
    pub fn wants(&self, camera: &str, now: Instant) -> bool {
        self.policy(camera, |state, policy| state.wants(policy, now))
    }

    /// Hands a frame over that is to be kept, unless another one of its camera was meanwhile.
    pub fn offer(&self, camera: &str, now: Instant, frame: impl FnOnce(&Sampling) -> Incoming) {
        if !self.policy(camera, |state, policy| state.take(policy, now)) {
            return;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sender, _)) = &*running else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(frame(&self.sampling)) {
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
    keep: Keep,
    looked: Instant,
    kept: u64,
    failed: u64,
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
        let count = batch.len() as u64;
        match self.archive.add(batch) {
            Ok(_) => self.kept += count,
            Err(error) => {
                self.failed += count;
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
        if self.keep == Keep::default() {
            return;
        }
        let cameras = self.archive.totals().unwrap_or_default();
        for (camera, ..) in cameras {
            if let Err(error) = self.archive.retain(&camera, self.keep, Timestamp::now()) {
                tracing::warn!(camera, %error, "what is too old or too much could not be removed");
            }
        }
    }
}
