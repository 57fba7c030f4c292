//! What trees may look at: differences of neighbouring numbers, and among them those that say something.
//!
//! ```text
//! maps at several scales ─► differences of near places, drawn at random ─► the ones that tell labels apart ─► columns
//! ```
//! The difference of two neighbours does not change with the light that falls on both, so it means the same on another
//! day; a raw number does not. An embedding without a grid has no neighbours, and its numbers are taken as they are.
//!
//! Few of many differences say anything about the labels, and a node that draws a hundred of them at random would
//! hardly meet one. The most telling thousands are chosen first, by how much of the labels' variance lies between bins
//! of the feature, and the trees draw among these. The choice sees training rows only.

use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use shared::head::{MapShape, NO_SECOND};

use super::grow::Columns;

/// Differences that are looked at before any is chosen; three times as many gain nothing.
const DRAWN: usize = 60_000;

/// Features that the trees draw from.
const KEPT: usize = 2000;

/// Most bins a feature is cut into when it is judged; enough to see that noon differs from morning and evening.
const MAX_BINS: usize = 8;

/// Rows a bin should have.
const BIN_ROWS: usize = 6;

/// Features judged together: their columns fit a processor's cache.
const BLOCK: usize = 256;

/// Where a neighbour stands: rows down, columns right. Farther ones were measured to add nothing to coarser scales.
const OFFSETS: [(usize, usize); 2] = [(0, 1), (1, 0)];

/// One number of a frame, or the difference of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Feature {
    /// Place of the number.
    pub first: u32,
    /// Place of the number that is subtracted; [`NO_SECOND`] for none.
    pub second: u32,
}

impl Feature {
    fn of(self, numbers: &[f32]) -> f32 {
        // A subtraction of zero is exact, as the forest's is.
        let second = if self.second == NO_SECOND { 0.0 } else { numbers[self.second as usize] };
        numbers[self.first as usize] - second
    }
}

/// Every number of an embedding, as it is.
pub(super) fn raw(numbers: usize) -> Vec<Feature> {
    (0..numbers as u32).map(|first| Feature { first, second: NO_SECOND }).collect()
}

/// Differences of near places within the same map, at every scale; a random part of them when there are many.
pub(super) fn differences(scales: &[MapShape], rng: &mut ChaCha8Rng) -> Vec<Feature> {
    let all = scales.iter().map(MapShape::numbers).sum::<usize>() * OFFSETS.len();
    let mut drawn: Vec<usize> =
        if all > DRAWN { sample(rng, all, DRAWN).into_vec() } else { (0..all).collect() };
    // In order of place, so that reading them walks through memory.
    drawn.sort_unstable();
    drawn.into_iter().filter_map(|index| difference(scales, index)).collect()
}

/// The difference of this index; none where the neighbour would lie outside the map.
fn difference(scales: &[MapShape], index: usize) -> Option<Feature> {
    let (first, (down, right)) = (index / OFFSETS.len(), OFFSETS[index % OFFSETS.len()]);
    let mut start = 0;
    for shape in scales {
        if first < start + shape.numbers() {
            let place = (first - start) % (shape.rows * shape.cols);
            let inside = place / shape.cols + down < shape.rows && place % shape.cols + right < shape.cols;
            let second = first + down * shape.cols + right;
            return inside.then_some(Feature { first: first as u32, second: second as u32 });
        }
        start += shape.numbers();
    }
    None
}

/// Labelled frames: their numbers `[rows][numbers]` and encoded labels `[rows, width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    /// Numbers of each row.
    pub numbers: &'a [Vec<f32>],
    /// Encoded labels.
    pub targets: &'a [f32],
    /// Numbers in an encoded label.
    pub width: usize,
}

impl Table<'_> {
    /// The features of all rows.
    pub(super) fn columns(&self, features: &[Feature]) -> Columns {
        let rows = self.numbers.len();
        let mut values = vec![0.0; features.len() * rows];
        for (row, numbers) in self.numbers.iter().enumerate() {
            for (column, feature) in values.chunks_exact_mut(rows).zip(features) {
                column[row] = feature.of(numbers);
            }
        }
        Columns { values, rows }
    }

    /// The features that tell the labels of `train` apart best, in their given order; all when there are few.
    pub(super) fn choose(&self, features: &[Feature], train: &[usize]) -> Vec<Feature> {
        if features.len() <= KEPT {
            return features.to_vec();
        }
        let judge = Judge::new(self, train);
        let judged = features.par_chunks(BLOCK).flat_map_iter(|block| {
            let columns = self.columns(block);
            let scores: Vec<f32> =
                columns.values.chunks_exact(columns.rows).map(|column| judge.score(column)).collect();
            scores
        });
        let scores: Vec<f32> = judged.collect();
        let mut order: Vec<usize> = (0..features.len()).collect();
        // Equal scores keep their order, so that the choice does not depend on the sort.
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order.truncate(KEPT);
        order.sort_unstable();
        order.into_iter().map(|at| features[at]).collect()
    }
}

/// Says how well a feature tells the training rows' labels apart.
struct Judge<'a> {
    train: &'a [usize],
    /// Labels of the training rows without their mean, `[train, width]`.
    residuals: Vec<f32>,
    width: usize,
    bins: usize,
}

impl<'a> Judge<'a> {
    fn new(table: &Table<'_>, train: &'a [usize]) -> Self {
        let width = table.width;
        let label = |row: usize, output: usize| table.targets[row * width + output];
        let means: Vec<f32> = (0..width)
            .map(|output| train.iter().map(|row| label(*row, output)).sum::<f32>() / train.len() as f32)
            .collect();
        let residuals = train.iter().flat_map(|row| (0..width).map(|o| label(*row, o) - means[o])).collect();
        Self { train, residuals, width, bins: (train.len() / BIN_ROWS).clamp(2, MAX_BINS) }
    }

    /// Sum of squares of the labels between bins of equally many rows.
    fn score(&self, column: &[f32]) -> f32 {
        let n = self.train.len();
        let mut order: Vec<(f32, u32)> =
            self.train.iter().enumerate().map(|(at, row)| (column[*row], at as u32)).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if order[0].0 >= order[n - 1].0 {
            return 0.0;
        }
        let between = |bin: usize| {
            let rows = &order[bin * n / self.bins..(bin + 1) * n / self.bins];
            let sum = |output: usize| -> f32 {
                rows.iter().map(|(_, at)| self.residuals[*at as usize * self.width + output]).sum()
            };
            (0..self.width).map(|output| sum(output).powi(2)).sum::<f32>() / rows.len() as f32
        };
        (0..self.bins).map(between).sum()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn differences_stay_within_a_map_and_a_scale() {
        let scales = [MapShape { maps: 2, rows: 3, cols: 4 }, MapShape { maps: 2, rows: 1, cols: 2 }];
        let features = differences(&scales, &mut ChaCha8Rng::seed_from_u64(0));
        for Feature { first, second } in &features {
            let place = |at: u32| match at as usize {
                at if at < 24 => (0, at / 12, at % 12 / 4, at % 4),
                at => (1, (at - 24) / 2, 0, at % 2),
            };
            let (a, b) = (place(*first), place(*second));
            assert_eq!((a.0, a.1), (b.0, b.1), "{first} {second}");
            assert!([(a.2, a.3 + 1), (a.2 + 1, a.3)].contains(&(b.2, b.3)), "{first} {second}");
        }
        // 3 × 3 to the right and 2 × 4 below in each map, and one to the right at the coarser scale.
        assert_eq!(features.len(), 2 * (9 + 8) + 2);
        assert_eq!(features.iter().collect::<std::collections::BTreeSet<_>>().len(), features.len());
    }

    #[test]
    fn the_telling_features_are_chosen_from_training_rows_alone() {
        // Number 7 is the label on the training rows; number 9 is it on the others.
        let numbers: Vec<Vec<f32>> = (0..40)
            .map(|row| {
                let mut numbers: Vec<f32> =
                    (0..3000).map(|at| ((row * 7919 + at * 104_729) % 997) as f32).collect();
                numbers[if row < 20 { 7 } else { 9 }] = row as f32 * 1e-3;
                numbers
            })
            .collect();
        let targets: Vec<f32> = (0..40).map(|row| row as f32).collect();
        let table = Table { numbers: &numbers, targets: &targets, width: 1 };
        let train: Vec<usize> = (0..20).collect();
        let chosen = table.choose(&raw(3000), &train);
        assert_eq!(chosen.len(), KEPT);
        let scores = Judge::new(&table, &train);
        let columns = table.columns(&raw(3000));
        let score = |at: usize| scores.score(&columns.values[at * 40..(at + 1) * 40]);
        assert!((0..3000).all(|at| at == 7 || score(at) < score(7)));
        assert!(chosen.contains(&Feature { first: 7, second: NO_SECOND }));
    }
}
