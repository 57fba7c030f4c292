//! How a task's scores are written: mean errors in the unit of the labels, or for classes the share that is right.

use serde::Serialize;
use shared::head::Task;

use super::report::digits;

/// How scores are written for people. Everywhere else a score is a mean error; for classes, where an answer's error is
/// 0 or 1, that is the share of wrong answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// Unit of the errors.
    unit: String,
    #[serde(skip)]
    accuracy: bool,
}

impl Measure {
    /// The measure of a task whose answers have this unit.
    pub fn of(task: Task, unit: &str) -> Self {
        match task {
            Task::Class => Self { unit: "share of answers wrong".to_owned(), accuracy: true },
            Task::Count | Task::TimeOfDay | Task::Scalar => Self { unit: unit.to_owned(), accuracy: false },
        }
    }

    /// Whether scores are written as accuracies, of which the greater is the better.
    pub fn is_accuracy(&self) -> bool {
        self.accuracy
    }

    /// What a score is.
    pub fn name(&self) -> &'static str {
        if self.accuracy { "accuracy" } else { "absolute error" }
    }

    /// Unit of a score as written.
    pub fn unit(&self) -> &str {
        if self.accuracy { "%" } else { &self.unit }
    }

    /// Unit of a difference of two scores.
    pub fn difference_unit(&self) -> &str {
        if self.accuracy { "points" } else { &self.unit }
    }

    /// A score as written, from a mean error.
    pub fn score(&self, error: f64) -> String {
        digits(if self.accuracy { 100.0 * (1.0 - error) } else { error })
    }

    /// A score and its interval as written, from a mean error and its interval.
    pub fn scored(&self, error: f64, [low, high]: [f64; 2]) -> String {
        // A mean of absolute values is not below zero, nor a share above one, whatever a bootstrap says.
        let (low, high) = (low.max(0.0), if self.accuracy { high.min(1.0) } else { high });
        let [first, last] = if self.accuracy { [high, low] } else { [low, high] };
        format!("{} [{}, {}]", self.score(error), self.score(first), self.score(last))
    }

    /// How much better, as written, from how much smaller an error.
    pub fn difference(&self, smaller: f64) -> String {
        // Not −0.
        digits(if self.accuracy { 100.0 * smaller } else { smaller } + 0.0)
    }

    /// Whether more is better, in words.
    pub fn better_word(&self) -> &'static str {
        if self.accuracy { "accuracy is higher by" } else { "errors are smaller by" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_errors_and_shares_become_accuracies() {
        let people = Measure::of(Task::Count, "people");
        assert_eq!(people.scored(0.5, [-0.1, 1.25]), "0.50 [0.00, 1.25]");
        assert_eq!((people.unit(), people.difference(0.25).as_str()), ("people", "0.25"));
        let share = Measure::of(Task::Class, "probability");
        assert_eq!(share.scored(0.125, [0.0, 0.25]), "87.5 [75.0, 100]");
        assert_eq!((share.unit(), share.difference(0.25).as_str()), ("%", "25.0"));
        assert_eq!(share.difference(-0.0), "0.00");
    }
}
