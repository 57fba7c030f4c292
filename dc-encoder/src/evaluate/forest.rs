//! Extra trees on plain features, for the baseline: Geurts, Ernst & Wehenkel 2006, with scikit-learn's defaults for
//! regression (every feature tried at every node, all rows in every tree, leaves of one row).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Trees of a forest.
const TREES: usize = 200;

/// What a forest is grown from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'a> {
    /// Features by column, `[features][rows]`.
    pub(super) columns: &'a [Vec<f32>],
    /// Targets, `[rows]`; the second number is 0 for a scalar.
    pub(super) targets: &'a [[f64; 2]],
}

/// A grown forest.
#[derive(Debug)]
pub(super) struct Forest {
    trees: Vec<Vec<Node>>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    /// Go to the next node where the feature is at most the threshold, else to `right`.
    Split {
        feature: usize,
        threshold: f32,
        right: usize,
    },
    Leaf([f64; 2]),
}

impl Forest {
    /// Grows a forest; at least one row.
    pub(super) fn grow(data: &Data<'_>, seed: u64) -> Self {
        let tree = |index: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(index as u64);
            let mut rows: Vec<usize> = (0..data.targets.len()).collect();
            let mut nodes = Vec::new();
            grow(data, &mut rows, &mut nodes, &mut rng);
            nodes
        };
        Self { trees: (0..TREES).into_par_iter().map(tree).collect() }
    }

    /// Mean of the trees' answers.
    pub(super) fn answer(&self, features: &[f32]) -> [f64; 2] {
        let mut sum = [0.0; 2];
        for tree in &self.trees {
            let [a, b] = walk(tree, features);
            sum = [sum[0] + a, sum[1] + b];
        }
        sum.map(|x| x / self.trees.len() as f64)
    }
}

fn walk(tree: &[Node], features: &[f32]) -> [f64; 2] {
    let mut at = 0;
    loop {
        match tree[at] {
            Node::Leaf(answer) => return answer,
            Node::Split { feature, threshold, right } => {
                at = if features[feature] <= threshold { at + 1 } else { right };
            }
        }
    }
}

/// Grows the subtree of these rows: node, left subtree, right subtree.
fn grow(data: &Data<'_>, rows: &mut [usize], nodes: &mut Vec<Node>, rng: &mut ChaCha8Rng) {
    let Some((feature, threshold)) = best_split(data, rows, rng) else {
        nodes.push(Node::Leaf(sum(data, rows).map(|x| x / rows.len() as f64)));
        return;
    };
    let column = &data.columns[feature];
    let mut left = 0;
    for at in 0..rows.len() {
        if column[rows[at]] <= threshold {
            rows.swap(at, left);
            left += 1;
        }
    }
    let place = nodes.len();
    nodes.push(Node::Split { feature, threshold, right: 0 });
    let (below, above) = rows.split_at_mut(left);
    grow(data, below, nodes, rng);
    let right = nodes.len();
    grow(data, above, nodes, rng);
    nodes[place] = Node::Split { feature, threshold, right };
}

/// One random threshold a feature; the split that leaves the least squared error. None where all targets or all
/// features are equal.
fn best_split(data: &Data<'_>, rows: &[usize], rng: &mut ChaCha8Rng) -> Option<(usize, f32)> {
    if rows.iter().all(|row| data.targets[*row] == data.targets[rows[0]]) {
        return None;
    }
    let all = sum(data, rows);
    let mut best: Option<(f64, usize, f32)> = None;
    for (feature, column) in data.columns.iter().enumerate() {
        let (low, high) = rows.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), row| {
            (low.min(column[*row]), high.max(column[*row]))
        });
        if low >= high {
            continue;
        }
        // In [low, high): both sides get at least one row.
        let threshold = low + (high - low) * rng.random::<f32>();
        let threshold = if threshold >= high { low } else { threshold };
        let (mut left, mut count) = ([0.0; 2], 0.0);
        for row in rows.iter().filter(|row| column[**row] <= threshold) {
            let [a, b] = data.targets[*row];
            left = [left[0] + a, left[1] + b];
            count += 1.0;
        }
        let right = [all[0] - left[0], all[1] - left[1]];
        let square = |x: [f64; 2]| x[0] * x[0] + x[1] * x[1];
        let gain = square(left) / count + square(right) / (rows.len() as f64 - count);
        if best.is_none_or(|(most, ..)| gain > most) {
            best = Some((gain, feature, threshold));
        }
    }
    best.map(|(_, feature, threshold)| (feature, threshold))
}

fn sum(data: &Data<'_>, rows: &[usize]) -> [f64; 2] {
    rows.iter().fold([0.0; 2], |sum, row| {
        let [a, b] = data.targets[*row];
        [sum[0] + a, sum[1] + b]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_one_feature_among_noise_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let columns: Vec<Vec<f32>> = (0..8).map(|_| (0..120).map(|_| rng.random()).collect()).collect();
        let truth = |x: f32| if x > 0.5 { 10.0 } else { 2.0 };
        let targets: Vec<[f64; 2]> = columns[3].iter().map(|x| [truth(*x), -truth(*x)]).collect();
        let forest = Forest::grow(&Data { columns: &columns, targets: &targets }, 1);
        for _ in 0..50 {
            let mut features: Vec<f32> = (0..8).map(|_| rng.random()).collect();
            features[3] = if rng.random() { 0.8 } else { 0.2 };
            let [a, b] = forest.answer(&features);
            assert!((a - truth(features[3])).abs() < 1.5 && a == -b, "{a} {b}");
        }
        // A leaf holds one row: training rows are answered exactly.
        let row: Vec<f32> = columns.iter().map(|column| column[7]).collect();
        assert!((forest.answer(&row)[0] - targets[7][0]).abs() < 1e-9);
    }

    #[test]
    fn equal_features_or_targets_give_a_constant() {
        let columns = vec![vec![1.0; 4]];
        let targets = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]];
        assert_eq!(Forest::grow(&Data { columns: &columns, targets: &targets }, 1).answer(&[9.0])[0], 3.0);
    }
}
