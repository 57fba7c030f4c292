//! How old the newest answer is, looked at in regular steps: frames that came to nothing count, because nothing newer came.

use std::time::{Duration, Instant};

/// A frame that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When it was captured.
    pub captured: Instant,
    /// When its answer came.
    pub at: Instant,
}

/// Milliseconds since the capture of the newest frame whose answer is there, every `step` from `from` until `until`. Before
/// the first answer: since `from`.
#[must_use]
pub fn ages(answers: &[Answered], step: Duration, (from, until): (Instant, Instant)) -> Vec<f64> {
    let mut in_order = answers.to_vec();
    in_order.sort_unstable_by_key(|answer| answer.at);
    let mut to_come = in_order.into_iter().peekable();
    let (mut newest, mut at, mut ages) = (None, from, Vec::new());
    while at < until {
        while let Some(answer) = to_come.next_if(|answer| answer.at <= at) {
            newest = newest.max(Some(answer.captured));
        }
        ages.push(at.saturating_duration_since(newest.unwrap_or(from)).as_secs_f64() * 1e3);
        at += step;
    }
    ages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_makes_nothing_younger() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let answered = |captured, at| Answered { captured: ms(captured), at: ms(at) };
        // The frame of 100 ms comes last, the one of 300 ms never.
        let answers = [answered(0, 30), answered(200, 220), answered(100, 250)];
        let ages = ages(&answers, Duration::from_millis(50), (start, ms(400)));
        assert_eq!(ages, [0.0, 50.0, 100.0, 150.0, 200.0, 50.0, 100.0, 150.0]);
    }

    #[test]
    fn answers_before_the_first_look_are_known() {
        let start = Instant::now();
        let from = start + Duration::from_secs(1);
        let early = Answered { captured: start, at: start };
        assert_eq!(ages(&[early], Duration::from_secs(1), (from, from + Duration::from_secs(1))), [1000.0]);
        assert_eq!(ages(&[], Duration::from_secs(1), (from, from + Duration::from_secs(2))), [0.0, 1000.0]);
    }
}
