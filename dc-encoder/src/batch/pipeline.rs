//! The state between sessions, decode workers and the device: two queues under one lock.
//!
//! Ownership: a session owns a frame's [`Ticket`]; the pipeline owns the frame until exactly one
//! [`Outcome`] is sent. Dropping the ticket cancels the frame wherever it waits.
//!
//! States: `Open` (frames pass) → `Closed` (queued frames are answered "draining") or `Failed` (the device is
//! beyond use; every frame is answered "internal").

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::DropReason;
use shared::image::Rgb;
use shared::metrics::{FRAMES, Histogram, Kind, Page};
use tokio::sync::oneshot;

use super::frame::{Frame, Outcome, Ready, Rejection, Timings, Waiting, internal, settle, waited};
use super::policy::{CameraKey, Dropped, Entry, FrameId, Limits, Queue};

/// Sizes of the pipeline; none may be zero (zero counts as one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Frames of one camera that wait in each queue; older ones leave as superseded.
    pub per_camera: usize,
    /// Frames of all cameras that wait for a decoder.
    pub total: usize,
    /// Frames of all cameras that are being decoded or wait decoded for the device. Decoding ahead of the
    /// device costs memory and takes processor time from frames that may be superseded.
    pub decoded_ahead: usize,
}

/// How many frames are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for a decoder.
    pub waiting: usize,
    /// Being decoded.
    pub decoding: usize,
    /// Waiting for the device.
    pub ready: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Open,
    Closed,
    Failed(String),
}

#[derive(Debug)]
struct State {
    waiting: Queue<Waiting>,
    ready: Queue<Ready>,
    decoding: usize,
    /// What the device lately took for a frame, as a moving average.
    each: Duration,
    phase: Phase,
}

/// The two queues, shared by sessions, decode workers and the driver.
#[derive(Debug)]
pub struct Pipeline {
    state: Mutex<State>,
    decoders: Condvar,
    device: Condvar,
    decoded_ahead: usize,
    next_id: AtomicU64,
    batches: Histogram,
}

impl Pipeline {
    /// An empty, open pipeline.
    pub fn new(settings: Settings) -> Arc<Self> {
        let Settings { per_camera, total, decoded_ahead } = settings;
        let decoded_ahead = decoded_ahead.max(1);
        let state = State {
            waiting: Queue::new(Limits { per_camera, total }),
            // Decoding starts only below `decoded_ahead`, so this total is never exceeded.
            ready: Queue::new(Limits { per_camera, total: decoded_ahead }),
            decoding: 0,
            each: Duration::ZERO,
            phase: Phase::Open,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            decoders: Condvar::new(),
            device: Condvar::new(),
            decoded_ahead,
            next_id: AtomicU64::new(0),
            batches: Histogram::new(FRAMES),
        })
    }

    /// Takes a frame in. The outcome, whatever it is, comes through the ticket.
    pub fn submit(self: &Arc<Self>, frame: Frame) -> Ticket {
        let now = Instant::now();
        let (reply, outcome) = oneshot::channel();
        let id = FrameId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let Frame { camera, weight, seq, jpeg, patches, tokens, deadline, account, memory } = frame;
        let item = Waiting { jpeg, patches, tokens, account, submitted: now, reply, _memory: memory };
        let entry = Entry { camera, id, seq, weight, deadline, item };
        let mut state = self.lock();
        match state.phase.clone() {
            Phase::Open => {
                let dropped = state.waiting.push(now, entry);
                drop(state);
                dropped.into_iter().for_each(|dropped| drop_waiting(dropped, now));
                self.decoders.notify_one();
            }
            Phase::Closed => drop_waiting(Dropped { entry, reason: DropReason::Draining }, now),
            Phase::Failed(why) => settle(entry.item.reply, Outcome::Rejected(internal(&why))),
        }
        Ticket { pipeline: Arc::clone(self), camera, id, outcome, settled: false }
    }

    /// Answers queued frames whose deadline has passed. Sessions call this when a frame of theirs is due.
    pub fn expire(&self, now: Instant) {
        let mut state = self.lock();
        let waiting = state.waiting.expire(now);
        let ready = state.ready.expire(now);
        drop(state);
        waiting.into_iter().for_each(|dropped| drop_waiting(dropped, now));
        ready.into_iter().for_each(|dropped| drop_ready(dropped, now));
        self.decoders.notify_all();
    }

    /// How many frames are where.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { waiting: state.waiting.len(), decoding: state.decoding, ready: state.ready.len() }
    }

    /// Writes how many frames are where, and how large the batches were.
    pub(crate) fn write(&self, page: &mut Page) {
        let Counts { waiting, decoding, ready } = self.counts();
        let mut family = page.family(Kind::Gauge, "fth_encoder_frames_queued", "Frames by where they wait.");
        for (place, frames) in [("waiting", waiting), ("decoding", decoding), ("ready", ready)] {
            family.sample(&[("place", place)], frames);
        }
        let (name, help) = ("fth_encoder_batch_frames", "Frames that were encoded together.");
        page.family(Kind::Histogram, name, help).histogram(&[], &self.batches);
    }

    /// Ends the pipeline: queued frames are answered "draining", decode workers and the driver return.
    pub fn close(&self) {
        self.end(Phase::Closed);
    }

    /// Ends the pipeline because the device cannot go on: every queued and later frame is answered "internal".
    pub fn fail(&self, why: &str) {
        self.end(Phase::Failed(why.to_owned()));
    }

    fn end(&self, phase: Phase) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return;
        }
        state.phase = phase.clone();
        let (waiting, ready) = (state.waiting.clear(), state.ready.clear());
        drop(state);
        for entry in waiting {
            settle(entry.item.reply, ended(&phase, waited(now, entry.item.submitted)));
        }
        for mut entry in ready {
            entry.item.started(now);
            settle(entry.item.reply, ended(&phase, entry.item.timings));
        }
        self.decoders.notify_all();
        self.device.notify_all();
    }

    /// The next frame to decode: waits until there is one and the device is not too far behind. `None` when
    /// the pipeline has ended. The caller must give the frame back through [`decoded`](Self::decoded).
    pub fn next_to_decode(&self) -> Option<Entry<Waiting>> {
        let mut state = self.lock();
        loop {
            if state.phase != Phase::Open {
                return None;
            }
            if state.ready.len() + state.decoding < self.decoded_ahead
                && let Some(entry) = self.take_waiting(&mut state)
            {
                state.decoding += 1;
                return Some(entry);
            }
            state = self.decoders.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_waiting(&self, state: &mut State) -> Option<Entry<Waiting>> {
        let now = Instant::now();
        state.waiting.expire(now).into_iter().for_each(|dropped| drop_waiting(dropped, now));
        state.waiting.take(now, 1).pop()
    }

    /// Gives back a frame from [`next_to_decode`](Self::next_to_decode), `started` being when its decoding
    /// began.
    pub fn decoded(&self, entry: Entry<Waiting>, started: Instant, result: Result<Rgb, Rejection>) {
        let now = Instant::now();
        let Entry { camera, id, seq, weight, deadline, item } = entry;
        let Waiting { patches, tokens, account, submitted, reply, .. } = item;
        let timings = Timings {
            queue: started.saturating_duration_since(submitted),
            decode: now.saturating_duration_since(started),
            encode: Duration::ZERO,
        };
        let mut state = self.lock();
        state.decoding -= 1;
        let phase = state.phase.clone();
        match (result, phase) {
            (Err(rejection), _) => settle(reply, Outcome::Rejected(rejection)),
            // Its camera cancelled it meanwhile: the device's time is worth more.
            (Ok(_), _) if reply.is_closed() => {}
            (Ok(rgb), Phase::Open) => {
                let rgb = Arc::new(rgb);
                let item = Ready { rgb, patches, tokens, account, since: now, timings, reply };
                let dropped = state.ready.push(now, Entry { camera, id, seq, weight, deadline, item });
                dropped.into_iter().for_each(|dropped| drop_ready(dropped, now));
            }
            (Ok(_), phase) => settle(reply, ended(&phase, timings)),
        }
        drop(state);
        self.decoders.notify_one();
        self.device.notify_one();
    }

    /// The next batch, at least one and at most `max` frames: waits until there is a decoded frame. `None`
    /// when the pipeline has ended.
    pub fn next_batch(&self, max: usize) -> Option<Vec<Entry<Ready>>> {
        let mut state = self.lock();
        loop {
            if state.phase != Phase::Open {
                return None;
            }
            let now = Instant::now();
            state.ready.expire(now).into_iter().for_each(|dropped| drop_ready(dropped, now));
            let each = state.each;
            let batch = state.ready.take_in_time(now, max.max(1), each);
            if !batch.is_empty() {
                drop(state);
                self.decoders.notify_all();
                self.batches.add(batch.len() as f64);
                return Some(batch);
            }
            state = self.device.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The device took this long for a batch.
    pub(super) fn encoded(&self, frames: usize, took: Duration) {
        let each = took / u32::try_from(frames.max(1)).unwrap_or(u32::MAX);
        let mut state = self.lock();
        state.each = if state.each.is_zero() { each } else { (state.each * 3 + each) / 4 };
    }

    fn cancel(&self, camera: CameraKey, id: FrameId) {
        let mut state = self.lock();
        if state.waiting.cancel(camera, id).is_none() && state.ready.cancel(camera, id).is_some() {
            self.decoders.notify_one();
        }
    }

    /// Nothing panics while holding the lock; were it to happen, the queues would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A submitted frame, held by its session. Dropped early, it cancels the frame.
#[derive(Debug)]
pub struct Ticket {
    pipeline: Arc<Pipeline>,
    camera: CameraKey,
    id: FrameId,
    outcome: oneshot::Receiver<Outcome>,
    settled: bool,
}

impl Ticket {
    /// What became of the frame. Cancel-safe; to be awaited to its end once.
    pub async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        self.settled = true;
        outcome.unwrap_or_else(|_| Outcome::Rejected(internal("the frame was lost inside the encoder")))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            // Closed first: a frame that is being decoded is found by nobody, but checks this.
            self.outcome.close();
            self.pipeline.cancel(self.camera, self.id);
        }
    }
}

fn ended(phase: &Phase, timings: Timings) -> Outcome {
    match phase {
        Phase::Failed(why) => Outcome::Rejected(internal(why)),
        Phase::Open | Phase::Closed => Outcome::Dropped(DropReason::Draining, timings),
    }
}

fn drop_waiting(dropped: Dropped<Waiting>, now: Instant) {
    let Dropped { entry, reason } = dropped;
    settle(entry.item.reply, Outcome::Dropped(reason, waited(now, entry.item.submitted)));
}

fn drop_ready(dropped: Dropped<Ready>, now: Instant) {
    let Dropped { mut entry, reason } = dropped;
    entry.item.started(now);
    settle(entry.item.reply, Outcome::Dropped(reason, entry.item.timings));
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
