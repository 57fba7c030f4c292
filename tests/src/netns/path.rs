//! What one direction of a link does to packets. Pure: `now` is the caller's, chance is seeded.
//!
//! ```text
//! packet ─► outage? ─► queue (bounded, drop-tail) ─► rate ─► loss? ─► delay + jitter, held back? ─► arrives
//! ```

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What a direction does to packets. The default is a perfect link.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// From one end to the other, half a round trip.
    pub delay: Duration,
    /// Most time a packet takes more than `delay`, evenly spread; order is kept.
    pub jitter: Duration,
    /// Fraction of packets that are lost, each for itself, 0 to 1.
    pub loss: f64,
    /// Fraction of packets that are held back by `held`, so that later ones overtake them.
    pub reorder: f64,
    /// How long those are held back.
    pub held: Duration,
    /// Bytes a second, IP headers included; `None`: no limit.
    pub rate: Option<f64>,
    /// Bytes that wait for the rate; a packet that would be more is lost.
    pub queue: usize,
    /// When nothing gets in, counted from the start of the link.
    pub outages: Vec<Range<Duration>>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            held: Duration::ZERO,
            rate: None,
            queue: usize::MAX,
            outages: Vec::new(),
        }
    }
}

/// One direction, and what is under way in it.
#[derive(Debug)]
pub struct Path {
    shape: Shape,
    start: Instant,
    chance: ChaCha8Rng,
    /// When all that was let in has been sent.
    free_at: Instant,
    /// When the last packet that was not held back arrives.
    last: Instant,
}

impl Path {
    /// A direction that starts now; `stream` sets directions with one seed apart.
    #[must_use]
    pub fn new(shape: Shape, (seed, stream): (u64, u64), now: Instant) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        Self { shape, start: now, chance, free_at: now, last: now }
    }

    /// When a packet of so many bytes that comes now arrives; `None`: never.
    pub fn pass(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Shape { delay, jitter, loss, reorder, held, rate, queue, outages } = &self.shape;
        // Always as many draws, so that one packet's fate does not change the next ones'.
        let [lost, late, back] = [(); 3].map(|()| self.chance.random::<f64>());
        let since = now.duration_since(self.start);
        if outages.iter().any(|outage| outage.contains(&since)) {
            return None;
        }
        let mut sent = now;
        if let Some(rate) = rate {
            let begins = self.free_at.max(now);
            let waiting = begins.duration_since(now).as_secs_f64() * rate;
            if waiting + bytes as f64 > *queue as f64 {
                return None;
            }
            sent = begins + Duration::from_secs_f64(bytes as f64 / rate);
            self.free_at = sent;
        }
        if lost < *loss {
            return None;
        }
        let at = (sent + *delay + jitter.mul_f64(late)).max(self.last);
        if back < *reorder {
            return Some(at + *held);
        }
        self.last = at;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn path(shape: Shape) -> (Path, Instant) {
        let now = Instant::now();
        (Path::new(shape, (1, 0), now), now)
    }

    #[test]
    fn a_perfect_link_takes_no_time_and_a_delay_is_for_everyone() {
        let (mut perfect, now) = path(Shape::default());
        assert_eq!(perfect.pass(1500, now), Some(now));
        let (mut late, now) = path(Shape { delay: 25 * MS, ..Shape::default() });
        assert_eq!([late.pass(1500, now), late.pass(1, now)], [Some(now + 25 * MS); 2]);
    }

    #[test]
    fn packets_wait_for_the_rate_and_a_full_queue_drops() {
        let shape = Shape { rate: Some(1000.0), queue: 250, delay: 50 * MS, ..Shape::default() };
        let (mut link, now) = path(shape);
        let mut sent = |bytes| link.pass(bytes, now).map(|at| at.duration_since(now).as_millis());
        assert_eq!([sent(100), sent(100), sent(100), sent(50)], [Some(150), Some(250), None, Some(300)]);
        let later = now + Duration::from_secs(1);
        assert_eq!(link.pass(100, later), Some(later + 150 * MS), "it is free again");
    }

    #[test]
    fn losses_are_as_many_as_said_and_the_same_for_a_seed() {
        let lost = |seed, loss| {
            let now = Instant::now();
            let mut link = Path::new(Shape { loss, ..Shape::default() }, (seed, 0), now);
            (0..10_000).map(|_| link.pass(1, now).is_none()).collect::<Vec<_>>()
        };
        let count = |lost: &[bool]| lost.iter().filter(|lost| **lost).count();
        assert_eq!(lost(1, 0.05), lost(1, 0.05));
        assert_ne!(lost(1, 0.05), lost(2, 0.05));
        // Four standard deviations of a binomial around 500.
        assert!((413..=587).contains(&count(&lost(1, 0.05))) && (413..=587).contains(&count(&lost(2, 0.05))));
        assert_eq!((count(&lost(1, 0.0)), count(&lost(1, 1.0))), (0, 10_000));
    }

    #[test]
    fn lost_packets_took_their_turn() {
        let (mut link, now) = path(Shape { rate: Some(1000.0), loss: 1.0, queue: 150, ..Shape::default() });
        assert_eq!(link.pass(100, now), None);
        assert_eq!(link.free_at, now + 100 * MS);
    }

    #[test]
    fn jitter_spreads_and_keeps_the_order() {
        let (mut link, start) = path(Shape { delay: 10 * MS, jitter: 20 * MS, ..Shape::default() });
        let far_apart: Vec<_> = (0..1000)
            .map(|i| (i, link.pass(1, start + 100 * MS * i)))
            .map(|(i, at)| at.unwrap() - (start + 100 * MS * i))
            .collect();
        assert!(far_apart.iter().all(|late| (10 * MS..=30 * MS).contains(late)));
        assert!(far_apart.iter().min().unwrap() < &(11 * MS) && far_apart.iter().max().unwrap() > &(29 * MS));
        let later = start + Duration::from_secs(1000);
        let close: Vec<_> = (0..100).map(|i| link.pass(1, later + MS * i).unwrap()).collect();
        assert!(close.is_sorted());
    }

    #[test]
    fn those_held_back_are_overtaken() {
        let (mut link, now) = path(Shape { delay: 5 * MS, reorder: 0.1, held: 8 * MS, ..Shape::default() });
        let late: Vec<_> = (0..10_000).map(|_| link.pass(1, now).unwrap() - now).collect();
        let back = late.iter().filter(|late| **late == 13 * MS).count();
        assert_eq!(late.iter().filter(|late| **late == 5 * MS).count() + back, 10_000);
        // Four standard deviations around 1000.
        assert!((880..=1120).contains(&back), "{back}");
    }

    #[test]
    fn nothing_gets_in_during_an_outage() {
        let second = Duration::from_secs(1);
        let (mut link, now) = path(Shape { outages: vec![second..3 * second], ..Shape::default() });
        let passes = [0, 1, 2, 3].map(|at| link.pass(1, now + second * at).is_some());
        assert_eq!(passes, [true, false, false, true]);
    }
}
