//! The end of the demo: errors beside the constant answer's, latency by stage.

use std::collections::{HashMap, HashSet};

use anyhow::bail;

use super::Options;
use crate::{
    answers::{Line, STAGES, circular_distance, quantile},
    plaza::Truth,
    setup::Prepared,
};

const MINUTES_PER_DAY: f64 = 1440.0;

/// Prints the summary.
///
/// # Errors
/// No answer came back, or, on the plaza, a head answered nothing.
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
            "The heads were trained on the synthetic plaza with random encoder weights: on your footage their answers\n\
             mean nothing until you train heads from your own labels (README, \"Train a head, and swap it\")."
        );
    } else {
        errors(&answers, prepared)?;
    }
    latency(&answers);
    Ok(())
}

fn errors(answers: &[&Line], prepared: &Prepared) -> anyhow::Result<()> {
    let truth: HashMap<&str, &Truth> =
        prepared.truth.iter().map(|labelled| (labelled.file.as_str(), &labelled.truth)).collect();
    let pairs = |unit: &str| -> Vec<(f64, &Truth)> {
        let of_unit = answers.iter().filter(|line| line.unit.as_deref() == Some(unit));
        of_unit.filter_map(|line| Some((line.value?, *truth.get(line.frame.as_deref()?)?))).collect()
    };
    let (counts, clocks) = (pairs("people"), pairs("min"));
    if counts.is_empty() || clocks.is_empty() {
        bail!("a head gave no answers: {} counts, {} times of day", counts.len(), clocks.len());
    }
    let training_counts: Vec<f64> = prepared.training.iter().map(|l| f64::from(l.truth.count)).collect();
    let usual = training_counts.iter().sum::<f64>() / training_counts.len() as f64;
    println!("(random encoder weights, synthetic frames: this shows the way of a frame, not accuracy)\n");
    println!("{:<32}{:>10}{:>24}", "mean absolute error", "head", "always the same answer");
    let count_error = |answer: f64, truth: &Truth| (answer - f64::from(truth.count)).abs();
    println!(
        "{:<32}{:>10.2}{:>24.2}",
        "people",
        mean(counts.iter().map(|(value, truth)| count_error(*value, truth))),
        mean(counts.iter().map(|(_, truth)| count_error(usual, truth))),
    );
    let clock_error =
        |answer: f64, truth: &Truth| circular_distance(answer, truth.minute_of_day, MINUTES_PER_DAY);
    // The best constant on the training frames, to the quarter of an hour.
    let constant = (0..96).map(|k| f64::from(k) * 15.0).min_by(|a, b| {
        let error = |c: f64| mean(prepared.training.iter().map(|l| clock_error(c, &l.truth)));
        error(*a).total_cmp(&error(*b))
    });
    println!(
        "{:<32}{:>10.0}{:>24.0}",
        "time of day, minutes",
        mean(clocks.iter().map(|(value, truth)| clock_error(*value, truth))),
        mean(clocks.iter().map(|(_, truth)| clock_error(constant.unwrap_or(0.0), truth))),
    );
    Ok(())
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
