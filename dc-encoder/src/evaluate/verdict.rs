//! Plain words: is the head better than the best simple peer, and if not, what to label.

use serde::Serialize;
use std::fmt;

use super::bench::Bench;
use super::curve::{Curve, Method};
use super::score::{Estimate, advantage, over_draws};
use crate::heads::Measure;
use crate::heads::target::Target;

/// Stretches that are named.
const NAMED: usize = 3;

/// Stretches a scalar task's test is cut into.
const STRETCHES: usize = 12;

/// Hours of the day that are looked at together.
const HOURS: usize = 2;

/// Whether a head beats the best simple peer at one number of labels.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The head.
    pub head: String,
    /// Labels.
    pub labels: usize,
    /// The simple peer with the least error on this test.
    pub peer: String,
    /// How much smaller the head's errors are than the peer's, paired frame by frame.
    pub advantage: Estimate,
    /// How they are written.
    #[serde(flatten)]
    pub measure: Measure,
    /// Where the head's errors are largest.
    pub worst: Vec<Stretch>,
}

/// Frames with something in common, and the head's mean error on them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// Which frames, in words.
    pub what: String,
    /// How many.
    pub frames: usize,
    /// Mean absolute error on them.
    pub error: f64,
}

impl Verdict {
    /// A head against the best peer at one place of the curve; none without peers.
    pub fn new(bench: &Bench, curve: &Curve, head: &Method, at: usize, seed: u64) -> Option<Self> {
        let peer = curve.best_peer(at)?;
        let (score, other) = (&head.scores[at], &peer.scores[at]);
        Some(Self {
            head: head.name.clone(),
            labels: score.labels,
            peer: peer.name.clone(),
            advantage: advantage(&score.errors, &other.errors, seed),
            measure: bench.folder.measure(),
            worst: worst(bench, &curve.test, &over_draws(&score.errors)),
        })
    }

    /// Whether the whole interval of the advantage lies above zero.
    pub fn better(&self) -> bool {
        self.advantage.ci95[0] > 0.0
    }
}

impl Verdict {
    /// What to label next, in words.
    pub fn advice(&self) -> String {
        let what = if self.measure.is_accuracy() { "accuracy" } else { "error" };
        let one = |stretch: &Stretch| {
            format!("{} ({what} {} {})", stretch.what, self.measure.score(stretch.error), self.measure.unit())
        };
        let stretches: Vec<String> = self.worst.iter().map(one).collect();
        match stretches.is_empty() {
            true => format!("{}: label more frames of all kinds", self.head),
            false => format!("{}: label more frames like {}", self.head, stretches.join(", ")),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            head, labels, peer, advantage: Estimate { value, ci95: [low, high], .. }, measure, ..
        } = self;
        let unit = measure.difference_unit();
        let (what, value, range) = match (self.better(), *high < 0.0) {
            (true, _) => ("better than the best baseline", *value, [*low, *high]),
            (_, true) => ("not yet, worse than the best baseline", -value, [-high, -low]),
            _ => {
                let [value, low, high] = [*value, *low, *high].map(|by| measure.difference(by));
                return write!(
                    f,
                    "{head}, {labels} labels: not yet, no difference from the best baseline ({peer}) is shown: {} \
                     {value} {unit} [{low}, {high}]",
                    measure.better_word()
                );
            }
        };
        let [low, high] = range.map(|by| measure.difference(by));
        let value = measure.difference(value);
        write!(f, "{head}, {labels} labels: {what} ({peer}) by {value} {unit} [{low}, {high}]")
    }
}

/// The stretches with the largest errors: hours of the day for a circular task, classes, else stretches of the test in time.
/// Only those that are worse than the average.
fn worst(bench: &Bench, test: &[usize], errors: &[f64]) -> Vec<Stretch> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let group = |at: usize| match bench.folder.target {
        Target::Circular { period } => (bench.folder.truth(test[at]) / period * (24 / HOURS) as f64) as usize,
        Target::Class { .. } => bench.folder.truth(test[at]) as usize,
        Target::Scalar { .. } => at * STRETCHES / test.len(),
    };
    for at in 0..test.len() {
        let group = group(at);
        groups.resize(groups.len().max(group + 1), Vec::new());
        groups[group].push(at);
    }
    let average = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let mut stretches: Vec<Stretch> = groups
        .iter()
        .enumerate()
        .filter(|(_, members)| !members.is_empty())
        .map(|(group, members)| Stretch {
            what: describe(bench, test, group, members),
            frames: members.len(),
            error: members.iter().map(|at| errors[*at]).sum::<f64>() / members.len() as f64,
        })
        .filter(|stretch| stretch.error > average)
        .collect();
    stretches.sort_by(|a, b| b.error.total_cmp(&a.error));
    stretches.truncate(NAMED);
    stretches
}

fn describe(bench: &Bench, test: &[usize], group: usize, members: &[usize]) -> String {
    if let Target::Circular { .. } = bench.folder.target {
        return format!("those between {:02}:00 and {:02}:00", group * HOURS, (group + 1) * HOURS);
    }
    if let Some(class) = bench.folder.class_name(group as f64) {
        return format!("those of class `{class}`");
    }
    let truths = members.iter().map(|at| bench.folder.truth(test[*at]));
    let (low, high) = truths
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), truth| (low.min(truth), high.max(truth)));
    let row = |at: usize| &bench.folder.labels.rows[test[members[at]]].file;
    format!("{} to {} ({low} to {high} {})", row(0), row(members.len() - 1), bench.folder.unit())
}
