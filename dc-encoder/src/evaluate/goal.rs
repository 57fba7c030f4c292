//! What is wanted of a task, as lines that a person or a script can read.

use std::fmt;

use serde::Serialize;
use shared::head::Task;

use super::curve::{Curve, Method};
use super::score::Estimate;
use crate::heads::report::digits;

/// A wanted score and the measured one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// What is measured, at how many labels.
    pub what: String,
    /// Largest error that meets it.
    pub limit: f64,
    /// The measured error; none where the pool has too few labels.
    pub measured: Option<Estimate>,
    /// Unit of both.
    pub unit: String,
}

/// Labels, statistic and limit of the goals of a task.
fn wanted(task: Task) -> &'static [(usize, &'static str, f64)] {
    match task {
        Task::TimeOfDay => &[(300, "mean", 25.0), (300, "median", 10.0)],
        Task::Count => &[(30, "mean", 0.7), (100, "mean", 0.45)],
        Task::Scalar | Task::Class => &[],
    }
}

impl Goal {
    /// The goals of a task, with what this head reached.
    pub fn of(task: Task, unit: &str, curve: &Curve, head: &Method) -> Vec<Self> {
        let goal = |(labels, statistic, limit): &(usize, &str, f64)| {
            let at = curve.labels.iter().position(|n| n == labels);
            let score = at.map(|at| &head.scores[at]);
            let measured = score.and_then(|score| match *statistic {
                "median" => score.median,
                _ => Some(score.mean),
            });
            let what = format!("{statistic}-error@{labels}-labels");
            Self { what, limit: *limit, measured, unit: unit.to_owned() }
        };
        wanted(task).iter().map(goal).collect()
    }

    /// Whether the measured score itself is within the limit.
    pub fn met(&self) -> bool {
        self.measured.is_some_and(|measured| measured.value <= self.limit)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, measured, unit } = self;
        write!(f, "goal={what}<={}{unit} ", digits(*limit))?;
        let Some(Estimate { value, ci95: [low, high], .. }) = measured else {
            return write!(f, "measured=nothing: the pool has fewer labels");
        };
        write!(f, "measured={}{unit} [{}, {}] ", digits(*value), digits(*low), digits(*high))?;
        match self.met() {
            true => write!(f, "met"),
            false => write!(f, "missed by {}{unit}", digits(value - limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_by_how_much() {
        let goal = |value: f64| Goal {
            what: "mean-error@30-labels".into(),
            limit: 0.7,
            measured: Some(Estimate { value, ci95: [value - 0.1, value + 0.1], draws: [value; 2] }),
            unit: "people".into(),
        };
        let line = "goal=mean-error@30-labels<=0.70people ";
        assert_eq!(goal(0.65).to_string(), format!("{line}measured=0.65people [0.55, 0.75] met"));
        assert_eq!(
            goal(0.9).to_string(),
            format!("{line}measured=0.90people [0.80, 1.00] missed by 0.20people")
        );
        let none = Goal { measured: None, ..goal(0.0) };
        assert!(!none.met() && none.to_string().ends_with("measured=nothing: the pool has fewer labels"));
    }
}
