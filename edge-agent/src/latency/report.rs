//! What the measured frames say.

use std::time::{Duration, Instant};

use super::quantiles::{Quantiles, millis, rank};
use super::recorder::Sample;
use crate::meter::Stage;
use crate::run::Asked;

/// The percentiles whose frames are shown.
pub(super) const SHOWN: [(&str, usize); 4] = [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)];

/// A finished measurement; it holds at least one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Where frames came from.
    pub source: String,
    /// Who answered; `None` if it was gone at the end.
    pub encoder: Option<Asked>,
    /// Frames a second that were due at fixed times. `None`: each followed the one before, or came when the camera had
    /// it.
    pub rate: Option<f64>,
    /// Answered frames that were left out.
    pub warm_up: u64,
    /// By their numbers.
    pub samples: Vec<Sample>,
    /// The same over TCP, to compare.
    pub tcp: Option<Box<Report>>,
}

impl Report {
    /// Where the times of one stage lie.
    #[must_use]
    pub fn stage(&self, stage: usize) -> Quantiles {
        Quantiles::of(self.samples.iter().map(|sample| sample.micros[stage].into()).collect())
    }

    /// Where the whole times of answered frames lie.
    #[must_use]
    pub fn total(&self) -> Quantiles {
        Quantiles::of(self.samples.iter().map(Sample::total).collect())
    }

    /// The network by way; `None` before a ping was answered.
    #[must_use]
    pub fn one_way(&self) -> Option<OneWays> {
        let known =
            || self.samples.iter().filter_map(|sample| Some((sample.micros[NETWORK], sample.way_back?)));
        let within_ms = known().map(|(_, [_, within])| millis(within.into())).reduce(f64::max)?;
        let up = known().map(|(both, [down, _])| both.saturating_sub(down).into()).collect();
        let down = known().map(|(_, [down, _])| down.into()).collect();
        Some(OneWays { up: Quantiles::of(up), down: Quantiles::of(down), within_ms })
    }

    /// What a reader waits for: every frame that was due where that is known, else the answered ones.
    #[must_use]
    pub fn waits(&self) -> Quantiles {
        self.every_frame().unwrap_or_else(|| self.total())
    }

    /// Frames between the first measured and the last that were not answered.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let numbers = self.samples[self.samples.len() - 1].seq - self.samples[0].seq + 1;
        numbers - self.samples.len() as u64
    }

    /// For *every* frame that was due, answered or not: from then until it or a newer one was answered. Where the newest
    /// frame wins, slow times show in the frames that were given up: leaving those out would flatter (coordinated
    /// omission). `None` without a rate: nobody knows when a frame that was given up was due.
    #[must_use]
    pub fn every_frame(&self) -> Option<Quantiles> {
        let period = Duration::from_secs_f64(1.0 / self.rate?);
        let mut times = Vec::new();
        let mut newest: Option<Answered> = None;
        for sample in self.samples.iter().rev() {
            let own = Answered {
                at: sample.due + Duration::from_micros(sample.total()),
                due: sample.due,
                seq: sample.seq,
            };
            if let Some(newer) = newest {
                let given_up = (sample.seq + 1..newer.seq).rev();
                times.extend(given_up.map(|seq| newer.micros_since(period, seq)));
            }
            let first = newest.map_or(own.at, |newer| newer.at.min(own.at));
            newest = Some(Answered { at: first, ..own });
            times.push(micros(first.saturating_duration_since(own.due)));
        }
        Some(Quantiles::of(times))
    }

    /// The frame at a percentile of the whole times.
    #[must_use]
    pub fn at(&self, percent: usize) -> &Sample {
        let mut by_total: Vec<&Sample> = self.samples.iter().collect();
        let at = rank(percent, by_total.len());
        by_total.select_nth_unstable_by_key(at, |sample| (sample.total(), sample.seq)).1
    }
}

/// Where the ways to the encoder and back lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneWays {
    /// To the encoder.
    pub up: Quantiles,
    /// Back.
    pub down: Quantiles,
    /// Each frame's may be this many milliseconds more one way and fewer the other, and no more.
    pub within_ms: f64,
}

/// The network's place among the stages.
pub(super) const NETWORK: usize = Stage::Network as usize;

/// When a frame or a newer one was answered.
#[derive(Debug, Clone, Copy)]
struct Answered {
    at: Instant,
    due: Instant,
    seq: u64,
}

impl Answered {
    /// From when the older frame `seq` was due, one every `period`, to this answer.
    fn micros_since(&self, period: Duration, seq: u64) -> u64 {
        let older = period.mul_f64((self.seq - seq) as f64);
        micros((self.at + older).saturating_duration_since(self.due))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Stages with their places in a sample.
pub(super) fn stages() -> impl Iterator<Item = (usize, &'static str)> {
    Stage::ALL.iter().map(|stage| stage.name()).enumerate()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Frames due every 100 ms: number, and milliseconds until the answer, all of it in the encoder but for 1 ms.
    pub(in crate::latency) fn report(rate: Option<f64>, frames: &[(u64, u32)]) -> Report {
        let start = Instant::now();
        let samples = frames.iter().map(|&(seq, ms)| {
            let mut micros = [0; Stage::ALL.len()];
            (micros[4], micros[7]) = (1000, (ms - 1) * 1000);
            Sample { seq, due: start + Duration::from_millis(100 * seq), micros, way_back: Some([400, 150]) }
        });
        let asked =
            Asked { address: "enc:1".into(), model: "m <1>".into(), round_trip: Duration::from_millis(2) };
        let samples = samples.collect();
        Report { source: "a&b".into(), encoder: Some(asked), rate, warm_up: 2, samples, tcp: None }
    }

    #[test]
    fn frames_that_were_given_up_count_until_a_newer_answer() {
        // 0 is answered at 20 ms; 1 to 3 are given up while the encoder stands still; 4 (due at 400) comes at 450.
        let report = report(Some(10.0), &[(0, 20), (4, 50), (5, 20)]);
        assert_eq!(report.missed(), 3);
        assert_eq!(report.total().p50, 20.0, "the answered ones look well");
        let every = report.every_frame().unwrap();
        // 20, 350, 250, 150, 50, 20.
        assert_eq!((every.p50, every.p95, every.max), (50.0, 350.0, 350.0));
        assert!((every.mean - 140.0).abs() < 1e-9, "{every:?}");
    }

    #[test]
    fn a_newer_frame_that_overtakes_is_the_answer() {
        let report = report(Some(10.0), &[(0, 500), (1, 30)]);
        let every = report.every_frame().unwrap();
        assert_eq!((every.p50, every.max), (30.0, 130.0));
        assert_eq!(super::Report { rate: None, ..report }.every_frame(), None);
    }

    #[test]
    fn the_network_splits_where_the_clocks_are_known() {
        let mut report = report(None, &[(3, 30), (4, 10)]);
        report.samples[0].way_back = None;
        let OneWays { up, down, within_ms } = report.one_way().unwrap();
        assert_eq!((up.p50, down.p50, within_ms), (0.6, 0.4, 0.15));
        report.samples[1].way_back = None;
        assert_eq!(report.one_way(), None);
    }

    #[test]
    fn the_frame_at_a_percentile_is_one_that_was_measured() {
        let report = report(None, &[(3, 30), (4, 10), (7, 20), (9, 90)]);
        assert_eq!(SHOWN.map(|(_, percent)| report.at(percent).seq), [7, 9, 9, 9]);
        assert_eq!(report.stage(7).max, 89.0);
    }
}
