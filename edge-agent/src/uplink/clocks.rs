//! How far the encoder's clock is from ours, between hard bounds: nothing is assumed about which way takes how long.
//!
//! ```text
//! ours      sent ───────────────────────────► received
//! theirs          └─► arrived … left ─┘          offset = theirs − ours
//!     arrived was after sent:   offset ≤ arrived − sent          left was before received:   offset ≥ left − received
//! ```
//! The bounds of all exchanges hold together, so the narrowest of each side counts: half the gap is at most half the shortest
//! round trip. Clocks drift apart, so bounds widen as they age. Pure: times come from outside.

use std::time::Duration;

/// What two clocks of ordinary machines drift apart at most: a crystal keeps within 50 parts in a million.
const DRIFT: f64 = 100e-6;

/// One question and its answer, in microseconds: ours since any fixed moment, theirs since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Our clock when the question left.
    pub sent: i64,
    /// Their clock when it was there.
    pub arrived: i64,
    /// Their clock when the answer left, or before.
    pub left: i64,
    /// Our clock when that was here.
    pub received: i64,
}

/// Where the offset may lie, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// At least.
    pub low: i64,
    /// At most.
    pub high: i64,
}

/// What is known of the offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The greatest lower bound, and our time when it was found.
    low: Option<(i64, i64)>,
    /// The least upper bound, likewise.
    high: Option<(i64, i64)>,
}

impl Bounds {
    /// Takes in an exchange. `false`: it contradicts those before, so a clock was set; they are forgotten.
    pub fn heard(&mut self, exchange: &Exchange) -> bool {
        let Exchange { sent, arrived, left, received } = *exchange;
        let now = received;
        let own = Range { low: left.saturating_sub(received), high: arrived.saturating_sub(sent) };
        let fits = self.at(now).is_none_or(|known| known.low.max(own.low) <= known.high.min(own.high));
        if !fits {
            *self = Self::default();
        }
        if self.low.is_none_or(|low| own.low > aged(low, now, -1)) {
            self.low = Some((own.low, now));
        }
        if self.high.is_none_or(|high| own.high < aged(high, now, 1)) {
            self.high = Some((own.high, now));
        }
        fits
    }

    /// Where the offset may lie at this time of ours.
    #[must_use]
    pub fn at(&self, now: i64) -> Option<Range> {
        Some(Range { low: aged(self.low?, now, -1), high: aged(self.high?, now, 1) })
    }
}

/// A bound that was found some time ago, moved by what the clocks may have drifted since.
fn aged((bound, found): (i64, i64), now: i64, way: i64) -> i64 {
    let drifted = (now.saturating_sub(found).max(0) as f64 * DRIFT).ceil() as i64;
    bound.saturating_add(way * drifted)
}

/// A way through the network in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneWay {
    /// The middle of what it may have taken.
    pub time: Duration,
    /// It took so much more or less at most.
    pub within: Duration,
}

/// The way back of an answer that left at `left` (theirs) and came at `received` (ours), out of `both` ways together;
/// microseconds. It took no less than nothing and no more than both.
#[must_use]
pub fn way_back(range: Range, left: i64, received: i64, both: Duration) -> OneWay {
    let most = i64::try_from(both.as_micros()).unwrap_or(i64::MAX);
    let took = |offset: i64| received.saturating_add(offset).saturating_sub(left).clamp(0, most);
    let [least, most] = [took(range.low), took(range.high)].map(|us| u64::try_from(us).unwrap_or_default());
    let within = Duration::from_micros((most - least).div_ceil(2));
    OneWay { time: Duration::from_micros(least.midpoint(most)), within }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An exchange of clocks that are `offset` apart, with these times on the ways there and back.
    fn exchange(at: i64, offset: i64, up: i64, down: i64) -> Exchange {
        let arrived = at + up + offset;
        Exchange { sent: at, arrived, left: arrived + 50, received: at + up + 50 + down }
    }

    proptest! {
        #[test]
        fn the_offset_is_within_and_half_the_gap_is_at_most_half_the_shortest_round_trip(
            offset in -1_000_000_000_000_i64..1_000_000_000_000,
            ways in prop::collection::vec((0..500_000_i64, 0..500_000_i64), 1..20),
        ) {
            let mut bounds = Bounds::default();
            for (number, (up, down)) in (0..).zip(&ways) {
                // Half a second apart, so that ageing matters little.
                prop_assert!(bounds.heard(&exchange(number * 1_000_000, offset, *up, *down)));
            }
            let last = ways.len() as i64 * 1_000_000;
            let Range { low, high } = bounds.at(last).unwrap();
            prop_assert!(low <= offset && offset <= high);
            let shortest = ways.iter().map(|(up, down)| up + down).min().unwrap();
            let drift = (last as f64 * DRIFT) as i64 + 2;
            prop_assert!(high - low <= shortest + 2 * drift, "{} for {shortest}", high - low);
        }

        #[test]
        fn drifting_clocks_never_contradict(
            start in -1_000_000_i64..1_000_000,
            drift in -100.0..100.0_f64,
            ways in prop::collection::vec((1..50_000_i64, 1..50_000_i64, 1..60_000_000_i64), 2..30),
        ) {
            let (mut bounds, mut at) = (Bounds::default(), 0);
            for (up, down, pause) in ways {
                at += pause;
                // Offsets change within an exchange too: by less than the microsecond that is added to each way.
                let offset = |at: i64| start + (at as f64 * drift / 1e6) as i64;
                let (there, back) = (at + up, at + up + down);
                let told = Exchange {
                    sent: at,
                    arrived: there + offset(there),
                    left: there + offset(there),
                    received: back,
                };
                prop_assert!(bounds.heard(&told));
                let known = bounds.at(back).unwrap();
                let drifted = (down as f64 * DRIFT).ceil() as i64 + 1;
                prop_assert!(known.low - drifted <= offset(back) && offset(back) <= known.high + drifted);
            }
        }

        #[test]
        fn a_way_back_holds_the_truth(
            offset in -1_000_000_i64..1_000_000,
            up in 0..100_000_i64,
            down in 0..100_000_i64,
            quick in (0..100_i64, 0..100_i64),
        ) {
            let mut bounds = Bounds::default();
            bounds.heard(&exchange(0, offset, quick.0, quick.1));
            let frame = exchange(1000, offset, up, down);
            let range = bounds.at(frame.received).unwrap();
            let both = Duration::from_micros((up + down) as u64);
            let OneWay { time, within } = way_back(range, frame.left, frame.received, both);
            let (time, within) = (time.as_micros() as i64, within.as_micros() as i64);
            prop_assert!((time - down).abs() <= within + 1, "{time} ± {within} for {down}");
            // Bounds on the way are no wider than those on the clocks, nor than both ways.
            prop_assert!(2 * within <= (range.high - range.low).min(up + down) + 1);
        }
    }

    #[test]
    fn a_clock_that_is_set_starts_anew() {
        let mut bounds = Bounds::default();
        assert!(bounds.heard(&exchange(0, 7_000_000, 400, 600)));
        assert!(bounds.heard(&exchange(10_000, 7_000_000, 100, 900)));
        assert_eq!(bounds.at(11_050), Some(Range { low: 7_000_000 - 600 - 1, high: 7_000_100 }));
        assert!(!bounds.heard(&exchange(20_000, 9_000_000, 500, 500)), "two seconds ahead");
        assert_eq!(bounds.at(21_050), Some(Range { low: 9_000_000 - 500, high: 9_000_500 }));
    }
}
