//! Takes in what is measured, and knows when it is enough.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Plan;
use crate::meter::{Measured, Meter, Stage};
use crate::uplink::clocks::OneWay;

/// Frames that are kept at most: 8 MB.
pub const MOST_FRAMES: usize = 100_000;

/// A measured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Number of the frame in the run.
    pub seq: u64,
    /// When it was due.
    pub due: Instant,
    /// Microseconds by stage, in the order of [`Stage::ALL`].
    pub micros: [u32; Stage::ALL.len()],
    /// Microseconds of the network's that were the way back, and how many more or fewer they may be; `None` before the
    /// clocks' offset was known.
    pub way_back: Option<[u32; 2]>,
}

impl Sample {
    /// From when it was due to when its lines were written, microseconds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.micros.iter().copied().map(u64::from).sum()
    }
}

impl From<&Measured> for Sample {
    fn from(frame: &Measured) -> Self {
        let micros = |time: Duration| u32::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u32::MAX);
        let way_back = frame.way_back.map(|OneWay { time, within }| [time, within].map(micros));
        Self { seq: frame.seq, due: frame.due, micros: frame.stages.map(micros), way_back }
    }
}

/// Whether a measurement goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is complete.
    Enough,
    /// Nothing comes any more.
    GiveUp,
    /// Not before then, if nothing comes.
    Until(Instant),
}

/// Keeps the frames of a [`Plan`]. Pure but for the lock: `now` comes from outside.
#[derive(Debug)]
pub struct Recorder {
    plan: Plan,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Frames answered for the warm-up.
    warm: u64,
    /// Frames from this number on are measured: those before it were sent during the warm-up.
    first: u64,
    /// When the warm-up was over.
    began: Option<Instant>,
    /// When a frame was last answered; at first, the start.
    heard: Instant,
    samples: Vec<Sample>,
}

impl Recorder {
    /// Records from `now` on.
    #[must_use]
    pub fn new(plan: Plan, now: Instant) -> Self {
        let plan = Plan { frames: plan.frames.clamp(1, MOST_FRAMES), ..plan };
        let began = (plan.warm_up == 0).then_some(now);
        let state = State { warm: 0, first: 0, began, heard: now, samples: Vec::new() };
        Self { plan, state: Mutex::new(state), changed: Notify::new() }
    }

    /// The frames so far, by their numbers.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = self.lock().samples.clone();
        samples.sort_unstable_by_key(|sample| sample.seq);
        samples
    }

    /// How it stands.
    #[must_use]
    pub fn verdict(&self, now: Instant) -> Verdict {
        let state = self.lock();
        let end = self.plan.within.and_then(|within| Some(state.began? + within));
        if state.samples.len() >= self.plan.frames
            || end.is_some_and(|end| end <= now) && !state.samples.is_empty()
        {
            return Verdict::Enough;
        }
        let patience = state.heard + self.plan.patience;
        if patience <= now {
            return Verdict::GiveUp;
        }
        Verdict::Until(end.filter(|&end| end > now).map_or(patience, |end| end.min(patience)))
    }

    /// Waits until it is complete or nothing comes any more.
    pub async fn enough(&self) {
        while let Verdict::Until(then) = self.verdict(Instant::now()) {
            // A frame that came between the verdict and here has left its permit.
            let _ = tokio::time::timeout_at(then.into(), self.changed.notified()).await;
        }
    }

    /// Takes in a frame that was answered at `now`.
    pub fn record(&self, frame: &Measured, now: Instant) {
        let mut state = self.lock();
        state.heard = now;
        if state.warm < self.plan.warm_up {
            state.warm += 1;
            state.first = state.first.max(frame.seq + 1);
            if state.warm == self.plan.warm_up {
                state.began = Some(now);
            }
        } else if frame.seq >= state.first && state.samples.len() < self.plan.frames {
            state.samples.push(frame.into());
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for Recorder {
    fn answered(&self, frame: &Measured) {
        self.record(frame, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { frames: 3, within: None, warm_up: 2, patience: Duration::from_secs(9) };

    fn frame(seq: u64) -> Measured {
        Measured { seq, due: Instant::now(), stages: [Duration::from_nanos(1_499); 11], way_back: None }
    }

    fn seqs(recorder: &Recorder) -> Vec<u64> {
        recorder.samples().iter().map(|sample| sample.seq).collect()
    }

    #[test]
    fn what_was_sent_during_the_warm_up_is_left_out() {
        let now = Instant::now();
        let recorder = Recorder::new(PLAN, now);
        for seq in [1, 4, 3, 6, 5, 0] {
            recorder.record(&frame(seq), now);
            assert_eq!(recorder.verdict(now), Verdict::Until(now + PLAN.patience));
        }
        assert_eq!(seqs(&recorder), [5, 6], "0 and 3 were on their way when the warm-up ended");
        recorder.record(&frame(9), now);
        assert_eq!(recorder.verdict(now), Verdict::Enough);
        recorder.record(&frame(10), now);
        assert_eq!(seqs(&recorder), [5, 6, 9], "what comes later does not count");
        assert_eq!(recorder.samples()[0].micros, [1; 11]);
    }

    #[test]
    fn time_is_up_after_the_warm_up_and_never_without_a_frame() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let within = Some(Duration::from_secs(5));
        let recorder = Recorder::new(Plan { within, ..PLAN }, start);
        recorder.record(&frame(0), after(7));
        recorder.record(&frame(1), after(8));
        assert_eq!(recorder.verdict(after(8)), Verdict::Until(after(13)));
        assert_eq!(recorder.verdict(after(14)), Verdict::Until(after(17)), "nothing to report yet");
        recorder.record(&frame(2), after(15));
        assert_eq!(recorder.verdict(after(15)), Verdict::Enough);
    }

    #[test]
    fn patience_ends() {
        let start = Instant::now();
        let recorder = Recorder::new(PLAN, start);
        recorder.record(&frame(0), start + Duration::from_secs(5));
        assert_eq!(
            recorder.verdict(start + Duration::from_secs(13)),
            Verdict::Until(start + Duration::from_secs(14))
        );
        assert_eq!(recorder.verdict(start + Duration::from_secs(14)), Verdict::GiveUp);
    }
}
