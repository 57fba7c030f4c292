//! How many frames a second the agent allows itself while its encoder has too much to do.
//!
//! ```text
//! "overloaded" ─► half of what was sent, once for all frames then under way ─► … ─► the floor
//! answers      ─► a tenth of the camera's own rate more each second ─► … ─► no limit, as before
//! ```
//! Additive increase and multiplicative decrease let agents that know nothing of each other share an
//! encoder fairly (Chiu and Jain, 1989). The encoder sheds what is too much in any case: this saves sending
//! what will be shed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::DropReason;
use tokio::time::sleep_until;

use crate::ledger::Dropped;

/// Frames a second that are always sent: whether there is room again shows only in answers.
const FLOOR: f64 = 0.1;
/// What remains of the rate when the encoder is overloaded.
const DECREASE: f64 = 0.5;
/// Share of the camera's own rate that each second of answers gives back.
const INCREASE_A_SECOND: f64 = 0.1;
/// Longer silence before an answer counts as this much.
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// Weight of the newest interval in the mean of those between frames.
const NEWEST: f64 = 0.125;

/// A limit that began, or ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// From the camera's own rate to at most this one, frames a second.
    Limited {
        /// What was sent before.
        own: f64,
        /// What is sent now.
        limit: f64,
    },
    /// There is no limit any more.
    Free,
}

/// The decisions. Pure: `now` comes from outside.
#[derive(Debug, Default)]
pub struct Policy {
    /// Frames a second; `None`: as many as the camera gives.
    limit: Option<f64>,
    /// Mean time between frames sent without a limit, seconds.
    between: Option<f64>,
    sent: Option<Instant>,
    /// When the limit last fell. What was sent before says nothing about it.
    fell: Option<Instant>,
    /// When the limit last changed.
    changed: Option<Instant>,
    /// Under a limit, the next frame goes no sooner.
    next: Option<Instant>,
}

impl Policy {
    /// Frames a second at most; `None`: no limit.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Takes the turn of a frame.
    ///
    /// # Errors
    /// When to ask again.
    pub fn turn(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(limit) = self.limit else { return Ok(()) };
        if let Some(next) = self.next.filter(|next| *next > now) {
            return Err(next);
        }
        self.next = Some(now + Duration::from_secs_f64(1.0 / limit));
        Ok(())
    }

    /// A frame is sent.
    pub fn sent(&mut self, now: Instant) {
        if self.limit.is_none()
            && let Some(before) = self.sent
        {
            let between = now.saturating_duration_since(before).as_secs_f64();
            self.between = Some(self.between.map_or(between, |mean| mean + (between - mean) * NEWEST));
        }
        self.sent = Some(now);
    }

    /// The encoder did not encode a frame sent at `sent`, for want of time or room.
    pub fn overloaded(&mut self, sent: Instant, now: Instant) -> Option<Change> {
        if self.fell.is_some_and(|fell| sent <= fell) {
            return None;
        }
        // The first frame of all says nothing about a rate yet.
        let own = self.own()?;
        let before = self.limit;
        let limit = (before.unwrap_or(own) * DECREASE).max(FLOOR);
        if limit >= own {
            return None;
        }
        (self.limit, self.fell, self.changed) = (Some(limit), Some(now), Some(now));
        self.next = Some(now + Duration::from_secs_f64(1.0 / limit));
        before.is_none().then_some(Change::Limited { own, limit })
    }

    /// The encoder answered a frame sent at `sent`.
    pub fn answered(&mut self, sent: Instant, now: Instant) -> Option<Change> {
        let (limit, own) = self.limit.zip(self.own())?;
        if self.fell.is_some_and(|fell| sent <= fell) {
            return None;
        }
        let since = self.changed.map_or(LONGEST_STEP, |at| now.saturating_duration_since(at));
        let limit = limit + own * INCREASE_A_SECOND * since.min(LONGEST_STEP).as_secs_f64();
        self.changed = Some(now);
        self.limit = (limit < own).then_some(limit);
        if self.limit.is_none() {
            // Intervals from before the limit still count; the one across it does not.
            self.sent = None;
            return Some(Change::Free);
        }
        None
    }

    /// Frames a second that the camera gave before there was a limit.
    fn own(&self) -> Option<f64> {
        self.between.filter(|between| *between > 0.0).map(|between| 1.0 / between)
    }
}

/// The policy, shared by the frames of a run.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Policy>);

impl Pace {
    /// Waits for a frame's turn. Cancel-safe.
    pub async fn turn(&self) {
        loop {
            let turn = self.lock().turn(Instant::now());
            match turn {
                Ok(()) => return,
                Err(next) => sleep_until(next.into()).await,
            }
        }
    }

    /// A frame is sent.
    pub fn sent(&self, now: Instant) {
        self.lock().sent(now);
    }

    /// What came of a frame sent at `sent`.
    pub fn heard<T>(&self, sent: Instant, result: &Result<T, Dropped>) {
        let now = Instant::now();
        let change = match result {
            Ok(_) => self.lock().answered(sent, now),
            Err(Dropped::Encoder(DropReason::Overloaded | DropReason::Superseded | DropReason::Expired)) => {
                self.lock().overloaded(sent, now)
            }
            Err(_) => None,
        };
        match change {
            Some(Change::Limited { own, limit }) => tracing::warn!(
                "the encoder is overloaded: at most {limit:.2} frames a second instead of {own:.2}, until it \
                 keeps up"
            ),
            Some(Change::Free) => tracing::info!("the encoder keeps up again: all frames are sent"),
            None => {}
        }
    }

    /// Frames a second at most; `None`: no limit.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.lock().limit()
    }

    fn lock(&self) -> MutexGuard<'_, Policy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A camera of 10 frames a second that sent some; the time of the last one.
    fn filming(start: Instant) -> (Policy, Instant) {
        let mut policy = Policy::default();
        (0..10).for_each(|frame| policy.sent(start + ms(frame * 100)));
        (policy, start + ms(900))
    }

    #[test]
    fn halves_once_for_all_frames_under_way_and_says_so_once() {
        let start = Instant::now();
        let (mut policy, last) = filming(start);
        let now = last + ms(50);
        let Some(Change::Limited { own, limit }) = policy.overloaded(last, now) else { panic!("no limit") };
        assert!((own - 10.0).abs() < 1e-6 && (limit - 5.0).abs() < 1e-6, "{own} {limit}");
        assert_eq!(policy.overloaded(last - ms(100), now), None);
        assert_eq!(policy.limit(), Some(limit), "a frame of the same time says nothing new");
        assert_eq!(policy.overloaded(now + ms(200), now + ms(300)), None, "it was said already");
        assert_eq!(policy.limit(), Some(limit / 2.0));
    }

    #[test]
    fn turns_come_at_the_limit() {
        let (mut policy, last) = filming(Instant::now());
        assert_eq!(policy.turn(last), Ok(()));
        policy.overloaded(last, last + ms(10));
        let next = last + ms(210);
        assert_eq!(policy.turn(last + ms(20)), Err(next));
        assert_eq!((policy.turn(next), policy.turn(next)), (Ok(()), Err(next + ms(200))));
    }

    #[test]
    fn answers_give_it_back_within_seconds_and_then_there_is_no_limit() {
        let (mut policy, last) = filming(Instant::now());
        policy.overloaded(last, last);
        let freed = (1..100).find(|step| {
            let now = last + ms(step * 200);
            policy.answered(now - ms(50), now) == Some(Change::Free)
        });
        assert!((25..=26).contains(&freed.unwrap()), "from 5 to 10 at one a second: {freed:?} steps");
        assert_eq!((policy.limit(), policy.turn(last)), (None, Ok(())));
    }

    #[test]
    fn a_camera_slower_than_the_floor_is_left_alone() {
        let start = Instant::now();
        let mut policy = Policy::default();
        assert_eq!(policy.overloaded(start, start), None, "one frame has no rate");
        (0..4).for_each(|frame| policy.sent(start + ms(frame * 20_000)));
        let last = start + ms(60_000);
        assert_eq!((policy.overloaded(last, last + ms(9)), policy.limit()), (None, None));
    }

    proptest! {
        /// Whatever is heard: between the floor and the camera's own rate, and never waiting longer than
        /// the floor says.
        #[test]
        fn stays_between_the_floor_and_the_cameras_own_rate(
            period in 10_u64..5_000,
            heard in prop::collection::vec((any::<bool>(), 0_u64..3_000, 0_u64..3_000), 0..100),
        ) {
            let start = Instant::now();
            let mut policy = Policy::default();
            (0..20).for_each(|frame| policy.sent(start + ms(frame * period)));
            let (own, mut now) = (1e3 / period as f64, start + ms(19 * period));
            for (overloaded, wait, under_way) in heard {
                now += ms(wait);
                let sent = now - ms(under_way.min(wait));
                if overloaded { policy.overloaded(sent, now) } else { policy.answered(sent, now) };
                if let Some(limit) = policy.limit() {
                    prop_assert!((FLOOR..own * 1.0001).contains(&limit), "{limit} of {own}");
                }
                if let Err(next) = policy.turn(now) {
                    prop_assert!(next - now <= Duration::from_secs_f64(1.0 / FLOOR) + ms(1));
                }
            }
            // Answers alone free it again.
            for _ in 0..12 {
                now += Duration::from_secs(1);
                policy.answered(now, now);
            }
            prop_assert_eq!(policy.limit(), None);
        }

        /// The longer an encoder says no, the less is sent: a cut is never followed by a rise without an
        /// answer.
        #[test]
        fn only_answers_raise_it(waits in prop::collection::vec(1_u64..5_000, 1..40)) {
            let (mut policy, mut now) = filming(Instant::now());
            let mut least = f64::INFINITY;
            for wait in waits {
                now += ms(wait);
                policy.overloaded(now, now + ms(1));
                let limit = policy.limit().unwrap();
                prop_assert!(limit <= least);
                least = limit;
            }
        }
    }
}
