//! The end of the demo: errors beside the constant answer's, latency by stage.

use std::collections::{HashMap, HashSet};

use anyhow::bail;

use super::{Options, swap};
use crate::{
    answers::{Line, STAGES, circular_distance, quantile},
    plaza::Truth,
    setup::Prepared,
};

const MINUTES_PER_DAY: f64 = 1440.0;

/// Prints the summary.
///
/// # Errors
/// No answer came back, or, on the plaza, a head answered nothing or not clearly better than a constant.
pub(super) fn print(lines: &[Line], prepared: &Prepared, options: &Options) -> anyhow::Result<()> {
    let answers: Vec<&Line> = lines.iter().filter(|line| line.is_answer()).collect();
    let over_the_wire =
        |line: &&&Line| line.ms.as_ref().is_some_and(|ms| ms.get("encode").copied().unwrap_or(0.0) > 0.0);
    if answers.iter().filter(over_the_wire).count() == 0 {
        bail!("no answer came back over QUIC: see the lines above");
    }
    let answered: HashSet<u64> = answers.iter().map(|line| line.seq).collect();
    let dropped = lines.iter().filter(|line| line.dropped.is_some()).count();
    println!("\nframes answered over QUIC: {}, dropped with a reason: {dropped}", answered.len());
    if options.source.is_some() {
        println!(
            "The heads were trained on the synthetic plaza: on your footage their answers mean nothing until you\n\
             train heads from your own labels (README, \"Train a head, and swap it\")."
        );
    } else {
        let swapped_at = swapped(lines)?;
        let of_the_last = |line: &&&Line| line.unit.as_deref() != Some(swap::UNIT) || line.seq >= swapped_at;
        errors(&answers.iter().filter(of_the_last).copied().collect::<Vec<_>>(), prepared)?;
    }
    latency(&answers);
    Ok(())
}

/// Says which release counted people when: the last one from the frame that is returned on.
fn swapped(lines: &[Line]) -> anyhow::Result<u64> {
    let reigns = swap::reigns(lines)?;
    let [before, after] = &reigns[..] else {
        bail!("the second release of the people count did not take over from the first: {reigns:?}");
    };
    println!(
        "people were counted by release {} up to frame {}, by release {} from frame {} on: no frame was lost or \
         answered twice",
        before.release, before.last, after.release, after.first
    );
    Ok(after.first)
}

fn errors(answers: &[&Line], prepared: &Prepared) -> anyhow::Result<()> {
    let truth: HashMap<&str, &Truth> =
        prepared.truth.iter().map(|labelled| (labelled.file.as_str(), &labelled.truth)).collect();
    let pairs = |unit: &str| -> Vec<(f64, &Truth)> {
        let of_unit = answers.iter().filter(|line| line.unit.as_deref() == Some(unit));
        of_unit.filter_map(|line| Some((line.value?, *truth.get(line.frame.as_deref()?)?))).collect()
    };
    let (counts, clocks) = (pairs(swap::UNIT), pairs("min"));
    if counts.is_empty() || clocks.is_empty() {
        bail!("a head gave no answers: {} counts, {} times of day", counts.len(), clocks.len());
    }
    let training_counts: Vec<f64> = prepared.training.iter().map(|l| f64::from(l.truth.count)).collect();
    let usual = training_counts.iter().sum::<f64>() / training_counts.len() as f64;
    let count_error = |answer: f64, truth: &Truth| (answer - f64::from(truth.count)).abs();
    let clock_error =
        |answer: f64, truth: &Truth| circular_distance(answer, truth.minute_of_day, MINUTES_PER_DAY);
    // The best constant on the training frames, to the quarter of an hour.
    let constant = (0..96).map(|k| f64::from(k) * 15.0).min_by(|a, b| {
        let error = |c: f64| mean(prepared.training.iter().map(|l| clock_error(c, &l.truth)));
        error(*a).total_cmp(&error(*b))
    });
    println!("(synthetic frames: this shows the way of a frame and of a head, not accuracy on yours)\n");
    println!("{:<32}{:>10}{:>24}", "mean absolute error", "head", "always the same answer");
    let people = Errors::new(&counts, usual, count_error);
    println!("{:<32}{:>10.2}{:>24.2}", "people, the last release", people.head, people.constant);
    let clock = Errors::new(&clocks, constant.unwrap_or(0.0), clock_error);
    println!("{:<32}{:>10.0}{:>24.0}", "time of day, minutes", clock.head, clock.constant);
    for (what, errors) in [("people count", people), ("time of day", clock)] {
        if !errors.clearly_better() {
            bail!(
                "the {what} head is not clearly better than always the same answer: {:.2} against {:.2}, by {:.2} \
                 with a standard error of {:.2}",
                errors.head,
                errors.constant,
                errors.gain,
                errors.gain_error
            );
        }
    }
    Ok(())
}

/// A head's mean absolute error beside that of a constant on the same frames.
#[derive(Debug, Clone, Copy)]
struct Errors {
    head: f64,
    constant: f64,
    /// Mean difference, and its standard error over frames.
    gain: f64,
    gain_error: f64,
}

impl Errors {
    fn new(pairs: &[(f64, &Truth)], constant: f64, error: impl Fn(f64, &Truth) -> f64) -> Self {
        let gains: Vec<f64> =
            pairs.iter().map(|(answer, truth)| error(constant, truth) - error(*answer, truth)).collect();
        let (n, gain) = (gains.len() as f64, mean(gains.iter().copied()));
        let variance = gains.iter().map(|g| (g - gain).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self {
            head: mean(pairs.iter().map(|(answer, truth)| error(*answer, truth))),
            constant: mean(pairs.iter().map(|(_, truth)| error(constant, truth))),
            gain,
            gain_error: (variance / n).sqrt(),
        }
    }

    /// Better by more than luck (three standard errors: live frames are a quarter of an hour apart, and nearly
    /// independent), and by enough to see.
    fn clearly_better(&self) -> bool {
        self.gain > 3.0 * self.gain_error && self.head < 0.8 * self.constant
    }
}

fn latency(answers: &[&Line]) {
    let mut seen = HashSet::new();
    let frames: Vec<&&Line> = answers.iter().filter(|line| seen.insert(line.seq)).collect();
    println!("\n{:<12}{:>10}{:>10}   (ms, {} frames)", "stage", "p50", "p95", frames.len());
    let row = |name: &str, values: Vec<f64>| {
        if let (Some(p50), Some(p95)) = (quantile(&values, 0.5), quantile(&values, 0.95)) {
            println!("{name:<12}{p50:>10.2}{p95:>10.2}");
        }
    };
    for stage in STAGES {
        row(stage, frames.iter().filter_map(|line| line.ms.as_ref()?.get(stage).copied()).collect());
    }
    row("total", frames.iter().filter_map(|line| line.age_ms).collect());
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    if n > 0.0 { sum / n } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plaza::{Clock, Plaza};

    #[test]
    fn a_head_that_answers_the_usual_count_is_not_clearly_better() {
        let plaza = Plaza::new(7);
        let truths: Vec<Truth> = (0..40).map(|k| plaza.frame(Clock::at(0, f64::from(k) * 36.0)).1).collect();
        let usual = mean(truths.iter().map(|truth| f64::from(truth.count)));
        let error = |answer: f64, truth: &Truth| (answer - f64::from(truth.count)).abs();
        let errors = |answer: &dyn Fn(&Truth) -> f64| {
            let pairs: Vec<_> = truths.iter().map(|truth| (answer(truth), truth)).collect();
            Errors::new(&pairs, usual, error)
        };
        assert!(!errors(&|_| usual).clearly_better());
        assert!(!errors(&|truth| usual + 0.1 * (f64::from(truth.count) - usual)).clearly_better());
        assert!(errors(&|truth| f64::from(truth.count) + 0.3).clearly_better());
    }
}
