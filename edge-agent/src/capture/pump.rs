//! The device thread: asks the source, numbers the frames, keeps the newest.
//!
//! ```text
//! Source::next ─► number ─► latest slot ─► uplink
//!                    └─ unreadable, superseded ─► losses ─► output
//! ```
//! One thread owns the source from its first frame to its end: devices and children stay with it. It ends when
//! the source ends or fails, when [`Pump::stop`] is called, or when the frames' receiver is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::SourceUri;
use super::Stop;
use super::losses::{LossReceiver, LossSender, losses};
use super::{CaptureError, Source};
use super::{Captured, Lost, LostReason, Shot};
use super::{Options, Pacing};
use crate::latest;

/// Records of lost frames that wait for the output, at most: a minute and a half at 10 frames a second with
/// nobody reading, then they are summed up.
const LOSS_RECORDS: usize = 1024;

/// A capture that runs.
pub struct Running {
    /// The newest frame. `None` is the end of the source: [`Pump::finish`] then says why.
    pub frames: latest::Receiver<Captured>,
    /// Frames that will never come out of `frames`.
    pub losses: LossReceiver,
    /// The device thread.
    pub pump: Pump,
}

/// Opens the source and starts its thread.
///
/// # Errors
/// See [`open`](super::open).
pub fn start(uri: &SourceUri, options: &Options) -> Result<Running, CaptureError> {
    let source = super::open(uri, options)?;
    let (sender, frames) = latest::slot();
    let (loss_sender, losses) = losses(LOSS_RECORDS);
    let pump = Pump::spawn(source, Pacing::of(uri, options), sender, loss_sender)?;
    Ok(Running { frames, losses, pump })
}

/// The device thread's handle. Dropping it stops the thread and waits a little for it.
pub struct Pump {
    input: String,
    stop: Stop,
    captured: Arc<AtomicU64>,
    done: mpsc::Receiver<()>,
    thread: Option<JoinHandle<Result<(), CaptureError>>>,
}

impl Pump {
    /// Starts a thread that moves frames from `source` to `frames` and lost ones to `losses`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(
        source: Box<dyn Source>,
        pacing: Pacing,
        frames: latest::Sender<Captured>,
        losses: LossSender,
    ) -> Result<Self, CaptureError> {
        let input = source.describe();
        let stop = Stop::new();
        let captured = Arc::new(AtomicU64::new(0));
        // Held by the thread; dropped, and so noticed, when the thread ends in whatever way.
        let (running, done) = mpsc::sync_channel::<()>(0);
        let belt = Belt { source, pacing, frames, losses, stop: stop.clone(), captured: captured.clone() };
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                let _running = running;
                belt.run()
            })
            .map_err(|source| CaptureError::Thread { source })?;
        Ok(Self { input, stop, captured, done, thread: Some(thread) })
    }

    /// Asks the thread to end. Returns at once.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Frames captured so far, lost ones included.
    pub fn captured(&self) -> u64 {
        self.captured.load(Ordering::Acquire)
    }

    /// Ends the thread and says how many frames it captured.
    ///
    /// # Errors
    /// Why the source failed for good; [`CaptureError::Wedged`] if the device did not let go within `patience`
    /// (the thread is then left behind, so that a stuck driver cannot hold up the whole program).
    pub fn finish(mut self, patience: Duration) -> Result<u64, CaptureError> {
        self.end(patience)?;
        Ok(self.captured())
    }

    fn end(&mut self, patience: Duration) -> Result<(), CaptureError> {
        self.stop.stop();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if let Err(mpsc::RecvTimeoutError::Timeout) = self.done.recv_timeout(patience) {
            return Err(CaptureError::Wedged { input: self.input.clone(), patience });
        }
        thread.join().unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(CaptureError::Panicked { message: message.unwrap_or_default() })
        })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        /// A child gets half a second to end before it is killed; the rest is margin.
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Err(error) = self.end(PATIENCE) {
            tracing::warn!(source = self.input, %error, "capture ended badly");
        }
    }
}

/// What the thread owns.
struct Belt {
    source: Box<dyn Source>,
    pacing: Pacing,
    frames: latest::Sender<Captured>,
    losses: LossSender,
    stop: Stop,
    captured: Arc<AtomicU64>,
}

impl Belt {
    fn run(mut self) -> Result<(), CaptureError> {
        let mut ticker = Ticker::new(self.pacing);
        let mut seq = 0;
        while self.wait(&mut ticker) {
            let Some(shot) = self.source.next(&self.stop)? else { break };
            let due = ticker.due(&shot);
            let going_on = self.hand_over(shot, seq, due);
            seq += 1;
            self.captured.store(seq, Ordering::Release);
            if !going_on {
                break;
            }
        }
        Ok(())
    }

    /// Waits until a frame may be asked for; `false` is the end.
    fn wait(&self, ticker: &mut Ticker) -> bool {
        match self.pacing {
            Pacing::Lossless => self.frames.wait_vacant(&self.stop),
            Pacing::Rate(_) | Pacing::Steady(_) => !self.stop.sleep(ticker.wait(Instant::now())),
            Pacing::Live => !self.stop.is_stopped(),
        }
    }

    /// `false` if nobody takes frames any more.
    fn hand_over(&self, shot: Shot, seq: u64, due: Instant) -> bool {
        let Shot { captured_at, started, ready, id, image } = shot;
        let image = match image {
            Ok(image) => image,
            Err(why) => {
                tracing::warn!(source = self.source.describe(), seq, id, why, "frame cannot be read");
                let reason = LostReason::Unreadable(why);
                self.losses.report(Lost { seq, captured_at, id, reason });
                return true;
            }
        };
        match self.frames.replace(Captured { seq, captured_at, due, started, ready, id, image }) {
            Ok(None) => true,
            Ok(Some(older)) => {
                self.losses.report(older.lost(LostReason::Superseded));
                true
            }
            Err(latest::Abandoned(frame)) => {
                self.losses.report(frame.lost(LostReason::Shutdown));
                false
            }
        }
    }
}

/// When frames of a fixed rate are due. Pure: `now` comes from outside.
struct Ticker {
    period: Duration,
    steady: bool,
    due: Option<Instant>,
}

impl Ticker {
    fn new(pacing: Pacing) -> Self {
        let period = match pacing {
            Pacing::Rate(fps) | Pacing::Steady(fps) => Duration::from_secs_f64(1.0 / fps),
            Pacing::Lossless | Pacing::Live => Duration::ZERO,
        };
        Self { period, steady: matches!(pacing, Pacing::Steady(_)), due: None }
    }

    /// How long to wait for the next frame. One that is late is due at once, and the ones after it follow at
    /// the period from then: missed frames are not made up for in a burst, unless they are to be [steady](Pacing::Steady).
    fn wait(&mut self, now: Instant) -> Duration {
        let due = match self.due {
            Some(last) if self.steady => last + self.period,
            Some(last) => (last + self.period).max(now),
            None => now,
        };
        self.due = Some(due);
        due.saturating_duration_since(now)
    }

    /// When the frame that was just waited for was due.
    fn due(&self, shot: &Shot) -> Instant {
        self.due.filter(|_| self.steady).unwrap_or(shot.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_the_rate_and_do_not_burst() {
        let mut ticker = Ticker::new(Pacing::Rate(10.0));
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        assert_eq!(ticker.wait(ms(0)), Duration::ZERO);
        assert_eq!(ticker.wait(ms(30)), Duration::from_millis(70));
        assert_eq!(ticker.wait(ms(150)), Duration::from_millis(50));
        assert_eq!(ticker.wait(ms(777)), Duration::ZERO);
        assert_eq!(ticker.wait(ms(780)), Duration::from_millis(97));
    }

    #[test]
    fn steady_ticks_stay_due_when_they_were() {
        let mut ticker = Ticker::new(Pacing::Steady(10.0));
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let shot = Shot {
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            started: ms(777),
            ready: ms(778),
            id: None,
            image: Err(String::new()),
        };
        assert_eq!(ticker.wait(ms(0)), Duration::ZERO);
        assert_eq!(ticker.wait(ms(250)), Duration::ZERO, "due at 100");
        assert_eq!((ticker.wait(ms(250)), ticker.due(&shot)), (Duration::ZERO, ms(200)));
        assert_eq!((ticker.wait(ms(260)), ticker.due(&shot)), (Duration::from_millis(40), ms(300)));
        assert_eq!(Ticker::new(Pacing::Rate(10.0)).due(&shot), shot.started);
    }
}
