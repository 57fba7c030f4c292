//! What a training says when it is done.

use std::fmt;

use shared::head::{HeldOut, IntervalOffsets, Task};

use super::kinds::{KindChoice, Tried};
use super::measure::Measure;

/// How a training went. `Display` gives lines for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the labels mean.
    pub task: Task,
    /// Unit of answers and errors.
    pub unit: String,
    /// Which kind of head.
    pub kind: KindChoice,
    /// The kinds that were tried, when there was a choice.
    pub tried: Vec<Tried>,
    /// What cross-validation chose, in words.
    pub choice: String,
    /// Labelled frames that were trained on.
    pub labelled: usize,
    /// Frames in the embeddings file.
    pub embedded: usize,
    /// Block length of the bootstrap, in frames.
    pub block: usize,
    /// The score.
    pub held_out: HeldOut,
    /// The interval around answers, when there were labels enough to state one.
    pub interval: Option<IntervalOffsets>,
    /// The encoder, as it names itself.
    pub model: String,
}

impl Report {
    /// Whether the whole 95 % interval of the score is better than the constant answer's score.
    pub fn better_than_constant(&self) -> bool {
        let HeldOut { ci95: [low, high], baseline, .. } = self.held_out;
        if self.task == Task::Class { low > baseline } else { high < baseline }
    }
}

/// A task's name for people.
pub fn task_name(task: Task) -> &'static str {
    match task {
        Task::Count => "count",
        Task::TimeOfDay => "time of day",
        Task::Scalar => "value",
        Task::Class => "class",
    }
}

/// A held-out score with its interval, and the constant answer's beside it.
pub fn held_out_words(score: &HeldOut, task: Task, unit: &str) -> String {
    let HeldOut { value, ci95: [low, high], n, baseline, .. } = score;
    let (metric, scale, unit, constant) = match task {
        Task::Class => ("accuracy", 100.0, "%", "the most frequent class"),
        _ => ("MAE", 1.0, unit, "the mean"),
    };
    let [value, low, high, baseline] = [value, low, high, baseline].map(|score| digits(scale * score));
    format!(
        "{metric} {value} {unit} [{low}, {high}] on {n} held-out frames; always answering {constant}: {baseline}"
    )
}

/// A number with three significant digits, and never fewer than its whole part.
pub fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 99.5 => format!("{value:.0}"),
        medium if medium >= 9.95 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Report {
    /// Name of the score, as it stands before a number.
    fn metric(&self) -> &'static str {
        if self.task == Task::Class { "accuracy" } else { "MAE" }
    }

    /// What comes with an answer.
    fn fmt_interval(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interval {
            _ if self.task == Task::Class => {
                writeln!(f, "  answers carry the probability of their class, as least squares estimate it")
            }
            Some(i) => writeln!(
                f,
                "  answers carry a {:.0} % interval of {} to +{} {}, from cross-validation",
                100.0 * i.level,
                digits(i.lower),
                digits(i.upper),
                if self.kind == KindChoice::Kernel { "of the frame's own deviation" } else { &self.unit }
            ),
            None => writeln!(f, "  answers carry no interval: that takes at least 19 labels"),
        }
    }

    /// One line for each kind that was tried.
    fn fmt_tried(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return Ok(());
        }
        writeln!(f, "tried in cross-validation over stretches of time, simplest first:")?;
        for Tried { kind, score, took } in &self.tried {
            let mark = if *kind == self.kind { "← chosen" } else { "" };
            let score = match score {
                Ok((error, standard_error)) => {
                    let measure = Measure::of(self.task, &self.unit);
                    let (name, deviation) = (self.metric(), measure.difference(*standard_error));
                    format!("{name} {} ± {deviation} {}", measure.score(*error), measure.unit())
                }
                Err(reason) => reason.clone(),
            };
            let line = format!("  {:<10} {score:<24} {:>5.1} s  {mark}", kind.name(), took.as_secs_f64());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held_out, .. } = self;
        self.fmt_tried(f)?;
        let kind = self.kind.name();
        let (labelled, embedded) = (self.labelled, self.embedded);
        writeln!(f, "{kind} head on {labelled} labelled of {embedded} embedded frames: {}", self.choice)?;
        writeln!(f, "{}: {}", task_name(self.task), held_out_words(held_out, self.task, &self.unit),)?;
        writeln!(
            f,
            "  held out: {}; 95 % interval from a moving-block bootstrap, {} frames a block",
            held_out.method, self.block
        )?;
        self.fmt_interval(f)?;
        if !self.better_than_constant() {
            writeln!(f, "  not shown to be better than the constant answer: label more frames, or others")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let got = [0.8249, 1.0, -1.337, 9.949, 12.34, 350.4].map(digits);
        assert_eq!(got, ["0.82", "1.00", "-1.34", "9.95", "12.3", "350"]);
    }
}
