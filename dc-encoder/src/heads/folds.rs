//! Cross-validation folds that are contiguous in time.
//!
//! ```text
//! time ─►  train train train gap [ held out ] gap train train
//! ```
//! The frames next to a held-out stretch are nearly in it, so they are left out of the training too.

use std::ops::Range;

use super::target::Target;

/// Folds of one cross-validation; five leave 80 % to learn from, and 10 labels still give two a fold.
pub const FOLDS: usize = 5;

/// The gap is one part in this many of the rows (rounded down) at each edge of a fold: with 300 frames at
/// 7 per second that is 1.4 s, where neighbours still correlate, at the cost of 2 × 3 % of the labels.
const GAP_DIVISOR: usize = 30;

/// One fold over rows `0..n` in time order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Rows held out.
    pub held: Range<usize>,
    /// Rows to train on.
    pub train: Vec<usize>,
}

/// Rows dropped at each edge of a held-out stretch.
pub fn gap(n: usize) -> usize {
    n / GAP_DIVISOR
}

/// Cuts rows `0..n`, in time order, into [`FOLDS`] contiguous folds. Every row is held out exactly once.
pub fn contiguous(n: usize) -> Vec<Fold> {
    let gap = gap(n);
    (0..FOLDS)
        .map(|k| k * n / FOLDS..(k + 1) * n / FOLDS)
        .map(|held| {
            let before = 0..held.start.saturating_sub(gap);
            let after = (held.end + gap).min(n)..n;
            Fold { held, train: before.chain(after).collect() }
        })
        .collect()
}

/// The best constant's answer for each of the values, in time order, from the fold that does not hold it.
pub fn constant_answers(values: &[f64], target: Target) -> Vec<f64> {
    let answers = contiguous(values.len()).into_iter().flat_map(|fold| {
        let answer = target.constant(fold.train.iter().map(|row| values[*row]));
        fold.held.map(move |_| answer)
    });
    answers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_contiguous_cover_everything_and_keep_their_distance() {
        for n in [10, 11, 30, 59, 300, 688] {
            let folds = contiguous(n);
            let mut next = 0;
            for fold in &folds {
                assert_eq!(fold.held.start, next, "held-out stretches follow each other");
                next = fold.held.end;
                assert!(!fold.held.is_empty() && !fold.train.is_empty());
                for row in &fold.train {
                    let apart =
                        if *row < fold.held.start { fold.held.start - row } else { row + 1 - fold.held.end };
                    assert!(*row < fold.held.start || *row >= fold.held.end);
                    assert!(apart > gap(n), "row {row} is a neighbour of {:?}", fold.held);
                }
                let edges = usize::from(fold.held.start > 0) + usize::from(fold.held.end < n);
                assert_eq!(fold.train.len(), n - fold.held.len() - edges * gap(n));
            }
            assert_eq!(next, n);
        }
        assert_eq!(gap(300), 10);
    }
}
