//! Two heads on the same frames.

use std::fmt;

use serde::Serialize;
use shared::head::{Head, Task};

use super::bench::run;
use super::error::EvalError;
use super::score::{Estimate, Statistic, advantage, estimate};
use crate::embed::EmbeddingsFile;
use crate::heads::Measure;
use crate::heads::join::join;
use crate::heads::labels::Label;
use crate::heads::report::task_name;
use crate::heads::target::Target;

/// Two heads' errors on the same frames, paired.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Names and short releases of the heads.
    pub heads: [String; 2],
    /// Mean absolute error of each.
    pub scores: [Estimate; 2],
    /// How much smaller the first one's errors are, paired frame by frame.
    pub advantage: Estimate,
    /// Frames compared on.
    pub frames: usize,
    /// How they are written.
    #[serde(flatten)]
    pub measure: Measure,
}

/// The task both heads answer.
///
/// # Errors
/// [`EvalError::Task`] where they differ.
pub fn common_task(a: &Head, b: &Head) -> Result<Task, EvalError> {
    let (first, second) = (a.manifest().task, b.manifest().task);
    if first == second {
        return Ok(first);
    }
    Err(EvalError::Task {
        first: title(a),
        first_task: task_name(first),
        second: title(b),
        second_task: task_name(second),
    })
}

/// Runs two heads on labelled frames and compares their errors. Classes are those the labels name.
///
/// # Errors
/// A head of another embedding space or task, a label without its frame, an answer that fails.
pub fn compare(
    heads: [&Head; 2],
    embeddings: &EmbeddingsFile,
    (labels, classes): (&[Label], &[String]),
    seed: u64,
) -> Result<Comparison, EvalError> {
    let task = common_task(heads[0], heads[1])?;
    let target = Target::of(task, classes);
    check_classes(heads, labels, classes)?;
    let samples = join(labels, &embeddings.ids)?;
    let frames: Vec<usize> = samples.iter().map(|sample| sample.frame).collect();
    let errors = |head: &Head| -> Result<Vec<Vec<f64>>, EvalError> {
        head.check_space(&embeddings.space)?;
        let (answers, _) = run(head, embeddings, &frames, classes)?;
        let error = |(sample, answer): (&crate::heads::join::Sample, f64)| {
            target.residual(sample.value, answer).abs()
        };
        Ok(vec![samples.iter().zip(answers).map(error).collect()])
    };
    let [a, b] = [errors(heads[0])?, errors(heads[1])?];
    Ok(Comparison {
        heads: heads.map(title),
        scores: [&a, &b].map(|errors| estimate(errors, Statistic::Mean, seed)),
        advantage: advantage(&a, &b, seed),
        frames: frames.len(),
        measure: Measure::of(task, &heads[0].manifest().output.unit),
    })
}

/// A class that neither head knows would make both wrong, whatever they see.
fn check_classes(heads: [&Head; 2], labels: &[Label], classes: &[String]) -> Result<(), EvalError> {
    let known = |name: &String| heads.iter().any(|head| head.manifest().output.kind.classes().contains(name));
    let used = |class: usize| labels.iter().any(|label| label.value as usize == class);
    match classes.iter().enumerate().find(|(class, name)| used(*class) && !known(name)) {
        Some((_, class)) => {
            let [first, second] = heads.map(title);
            Err(EvalError::ForeignClass { class: class.clone(), first, second })
        }
        None => Ok(()),
    }
}

fn title(head: &Head) -> String {
    format!("{} ({})", head.manifest().name, head.short_release())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heads, scores, advantage, frames, measure } = self;
        let one = |Estimate { value, ci95, .. }: &Estimate| measure.scored(*value, *ci95);
        writeln!(
            f,
            "mean {} in {} on {frames} frames [95 % interval, moving blocks of time]",
            measure.name(),
            measure.unit()
        )?;
        let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or(0);
        for (letter, (head, score)) in ["A", "B"].into_iter().zip(heads.iter().zip(scores)) {
            writeln!(f, "{letter}  {head:<width$}  {}", one(score))?;
        }
        let [low, high] = advantage.ci95;
        let [by, from, to] = [advantage.value, low, high].map(|by| measure.difference(by));
        let unit = measure.difference_unit();
        writeln!(f, "paired frame by frame, the {} of A {by} {unit} [{from}, {to}]", measure.better_word())?;
        let verdict = match (low > 0.0, high < 0.0) {
            (true, _) => "A is better",
            (_, true) => "B is better",
            _ => "no difference is shown: the interval holds 0",
        };
        writeln!(f, "{verdict}")
    }
}
