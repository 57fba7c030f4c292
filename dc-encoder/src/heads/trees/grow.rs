//! Growing one extremely randomised tree (Geurts, Ernst & Wehenkel, "Extremely randomized trees", 2006).
//!
//! A node draws features at random and for each one threshold between the feature's least and greatest value among the
//! node's rows; the split that lowers the variance most, summed over outputs, is taken. Every node keeps the mean of
//! its rows, so that one grown tree can be read at any minimal node size.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use shared::head::Combine;

/// Numbers summed side by side: the compiler turns them into vector instructions, and the order of the sum is the
/// same on every machine.
const LANES: usize = 8;

/// The features of all rows, `[features][rows]`: a node reads one feature of many rows at a time.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// Feature after feature.
    pub values: Vec<f32>,
    /// Rows of each.
    pub rows: usize,
}

impl Columns {
    /// One feature of all rows.
    fn column(&self, feature: usize) -> &[f32] {
        &self.values[feature * self.rows..(feature + 1) * self.rows]
    }

    /// How many features there are.
    pub(crate) fn features(&self) -> usize {
        self.values.len() / self.rows.max(1)
    }
}

/// What is learned: the features, and the encoded labels `[rows, width]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lesson<'a> {
    /// Features of all rows.
    pub columns: &'a Columns,
    /// Encoded labels of all rows.
    pub targets: &'a [f32],
    /// Numbers in an encoded label.
    pub width: usize,
    /// Features drawn at a node.
    pub draws: usize,
}

/// One node; rows whose feature is at most `threshold` go to node `child`, the others to `child + 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// The feature that is looked at.
    pub feature: u32,
    /// Where the rows part.
    pub threshold: f32,
    /// The left child; 0 for a leaf, as no child comes before its parent.
    pub child: u32,
    /// Training rows in the node.
    pub rows: u32,
}

/// A grown tree. Children stand after their parents.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    /// The root first.
    pub nodes: Vec<Node>,
    /// Mean encoded label of each node's rows, `[nodes, width]`.
    pub means: Vec<f32>,
}

impl Tree {
    /// Grows a tree on these rows until a node's rows agree or no drawn feature parts them.
    pub(crate) fn grow(lesson: &Lesson<'_>, rows: &[usize], rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let mut tree = Self::default();
        let mut scratch = Scratch::default();
        tree.push(lesson, &order);
        let mut waiting = vec![(0, 0..order.len())];
        while let Some((node, range)) = waiting.pop() {
            let rows = &mut order[range.clone()];
            let mean = &tree.means[node * lesson.width..(node + 1) * lesson.width];
            let Some(split) = scratch.best_split(lesson, rows, mean, rng) else { continue };
            let column = lesson.columns.column(split.feature);
            let middle = partition(rows, |row| column[row as usize] <= split.threshold);
            let child = tree.nodes.len();
            tree.push(lesson, &rows[..middle]);
            tree.push(lesson, &rows[middle..]);
            let parent = &mut tree.nodes[node];
            parent.feature = split.feature as u32;
            parent.threshold = split.threshold;
            parent.child = child as u32;
            waiting.push((child + 1, range.start + middle..range.end));
            waiting.push((child, range.start..range.start + middle));
        }
        tree
    }

    fn push(&mut self, lesson: &Lesson<'_>, rows: &[u32]) {
        self.nodes.push(Node { feature: 0, threshold: 0.0, child: 0, rows: rows.len() as u32 });
        for output in 0..lesson.width {
            let at = |row: &u32| f64::from(lesson.targets[*row as usize * lesson.width + output]);
            self.means.push((rows.iter().map(at).sum::<f64>() / rows.len() as f64) as f32);
        }
    }

    /// The node that answers for a row when nodes of fewer than `min_rows` rows are not split.
    fn find(&self, columns: &Columns, row: usize, min_rows: usize) -> usize {
        let mut at = 0;
        loop {
            let node = &self.nodes[at];
            if node.child == 0 || (node.rows as usize) < min_rows {
                return at;
            }
            let value = columns.column(node.feature as usize)[row];
            at = node.child as usize + usize::from(value > node.threshold);
        }
    }
}

/// What `trees` answer for a row, when nodes of fewer than `min_rows` rows are not split: their leaves combined,
/// `[width]`.
pub(crate) fn answer(
    trees: &[Tree],
    columns: &Columns,
    row: usize,
    min_rows: usize,
    combine: Combine,
) -> Vec<f64> {
    let width = trees.first().map_or(1, |tree| tree.means.len() / tree.nodes.len());
    let mut answers = Vec::with_capacity(trees.len() * width);
    for tree in trees {
        let node = tree.find(columns, row, min_rows);
        answers.extend_from_slice(&tree.means[node * width..(node + 1) * width]);
    }
    combine.of(&answers, width)
}

/// Moves the rows that go left to the front; gives how many.
fn partition(rows: &mut [u32], left: impl Fn(u32) -> bool) -> usize {
    let mut middle = 0;
    for at in 0..rows.len() {
        if left(rows[at]) {
            rows.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

#[derive(Debug, Clone, Copy)]
struct Split {
    feature: usize,
    threshold: f32,
    gain: f32,
}

/// Room that is used again at every node.
#[derive(Debug, Default)]
struct Scratch {
    /// A feature of the node's rows.
    values: Vec<f32>,
    /// The node's labels without their mean, `[width][rows]`.
    residuals: Vec<f32>,
}

impl Scratch {
    /// The best of the drawn splits; none when the labels agree or no drawn feature differs.
    fn best_split(
        &mut self,
        lesson: &Lesson<'_>,
        rows: &[u32],
        mean: &[f32],
        rng: &mut ChaCha8Rng,
    ) -> Option<Split> {
        self.residuals.clear();
        for (output, mean) in mean.iter().enumerate() {
            let residual = |row: &u32| lesson.targets[*row as usize * lesson.width + output] - mean;
            self.residuals.extend(rows.iter().map(residual));
        }
        if rows.len() < 2 || self.residuals.iter().all(|r| r.abs() < 1e-6) {
            return None;
        }
        let mut best: Option<Split> = None;
        for _ in 0..lesson.draws {
            let feature = rng.random_range(0..lesson.columns.features());
            let column = lesson.columns.column(feature);
            self.values.clear();
            self.values.extend(rows.iter().map(|row| column[*row as usize]));
            let (low, high) = extent(&self.values);
            // Drawn even where it is not used, so that one feature more does not shift all that follows.
            let share: f32 = rng.random();
            if low >= high {
                continue;
            }
            let threshold = low + share * (high - low);
            // Rounding may reach the top, which would leave nothing on the right.
            let threshold = if threshold < high { threshold } else { low };
            let gain = self.gain(threshold);
            if best.is_none_or(|best| gain > best.gain) {
                best = Some(Split { feature, threshold, gain });
            }
        }
        best
    }

    /// Rows times the variance that a split takes away: with labels that sum to zero, `|S|² (1/left + 1/right)`.
    fn gain(&self, threshold: f32) -> f32 {
        let n = self.values.len();
        let left = masked_sum(&self.values, threshold, None);
        let square: f32 = self
            .residuals
            .chunks_exact(n)
            .map(|residuals| masked_sum(&self.values, threshold, Some(residuals)))
            .map(|sum| sum * sum)
            .sum();
        square * (1.0 / left + 1.0 / (n as f32 - left))
    }
}

/// Sum of `terms` (or of ones) where the value is at most `threshold`.
fn masked_sum(values: &[f32], threshold: f32, terms: Option<&[f32]>) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut tail = 0.0;
    if let Some(terms) = terms {
        let (term_chunks, term_rest) = terms.as_chunks::<LANES>();
        for (chunk, terms) in chunks.iter().zip(term_chunks) {
            for lane in 0..LANES {
                lanes[lane] += if chunk[lane] <= threshold { terms[lane] } else { 0.0 };
            }
        }
        tail += rest.iter().zip(term_rest).filter(|(v, _)| **v <= threshold).map(|(_, t)| t).sum::<f32>();
    } else {
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += f32::from(u8::from(chunk[lane] <= threshold));
            }
        }
        tail += rest.iter().filter(|v| **v <= threshold).count() as f32;
    }
    lanes.iter().sum::<f32>() + tail
}

/// Least and greatest value.
fn extent(values: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    let all = |lanes: [f32; LANES]| lanes.into_iter().chain(rest.iter().copied());
    (all(low).fold(f32::INFINITY, f32::min), all(high).fold(f32::NEG_INFINITY, f32::max))
}
