//! The last answers, repeated and marked stale while no newer ones come: a reader sees that the agent lives,
//! and how old what it knows is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::way::Way;
use crate::sinks::{Answer, Event};
use crate::uplink::link::State;

/// The answers of the newest frame that has some.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    seq: Option<u64>,
    /// When the frame was complete in memory.
    ready: Option<Instant>,
    answers: Vec<Answer>,
    /// A frame was tried since, and not answered.
    missed: bool,
}

impl Latest {
    /// A frame was answered. Older frames than the newest change nothing.
    pub(super) fn answered(&self, seq: u64, ready: Instant, answers: &[Answer]) {
        let mut newest = self.lock();
        if newest.seq.is_none_or(|known| known < seq) {
            *newest = Newest { seq: Some(seq), ready: Some(ready), answers: answers.to_vec(), missed: false };
        }
    }

    /// A frame that was on its way came to nothing.
    pub(super) fn missed(&self) {
        self.lock().missed = true;
    }

    /// The answers as stale ones, if they are: the link is down, or frames come to nothing.
    fn stale(&self, link_down: bool) -> Vec<Answer> {
        let newest = self.lock();
        let Some(ready) = newest.ready.filter(|_| link_down || newest.missed) else { return Vec::new() };
        let age = ready.elapsed();
        newest.answers.iter().map(|answer| Answer { stale: true, age, ..answer.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats stale answers every `period`, for as long as the run lasts.
pub(super) async fn repeat(way: Arc<Way>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let link_down = !matches!(*way.link.borrow(), State::Up(_));
        for answer in way.latest.stale(link_down) {
            way.sink.offer(Event::Answer(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::{FrameInfo, HeadInfo, Stages};

    fn answer(seq: u64) -> Answer {
        Answer {
            frame: FrameInfo { camera: "a".into(), seq, captured_at: jiff::Timestamp::UNIX_EPOCH, id: None },
            head: Arc::new(HeadInfo {
                name: "n".into(),
                release: "r".into(),
                unit: "u".into(),
                classes: Vec::new(),
            }),
            value: 1.0,
            class: None,
            interval: None,
            stale: false,
            reused: false,
            age: Duration::ZERO,
            stages: Stages::default(),
        }
    }

    #[test]
    fn stale_only_when_nothing_newer_comes() {
        let latest = Latest::default();
        assert!(latest.stale(true).is_empty(), "nothing to repeat yet");
        let ready = Instant::now().checked_sub(Duration::from_secs(9)).unwrap_or_else(Instant::now);
        latest.answered(7, ready, &[answer(7)]);
        assert!(latest.stale(false).is_empty());
        latest.missed();
        let stale = latest.stale(false);
        assert!(stale[0].stale && stale[0].age >= ready.elapsed() - Duration::from_secs(1));
        latest.answered(8, Instant::now(), &[answer(8)]);
        assert!(latest.stale(false).is_empty());
        latest.answered(6, Instant::now(), &[answer(6)]);
        assert_eq!(latest.stale(true)[0].frame.seq, 8, "a late answer to an older frame is not the latest");
    }
}
