//! The trees head: extremely randomised trees on differences of neighbouring numbers.
//!
//! ```text
//! labelled frames ─► numbers (maps at three scales) ─► candidates ─► grow, tree by tree ─► head file's nodes
//! ```
//! Trees answer with averages of labels they have seen and look at single numbers, so a frame unlike the training
//! frames gets the answer of the ones it resembles in most respects, where a line would run away. The answer is the
//! median over the trees: errors count by their size, and some trees are always far off.

mod candidates;
pub(crate) mod grow;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use shared::head::{Combine, Grid, Kind, MapShape, NO_SECOND, TensorData, Trees, pyramid, scales};

use super::error::TrainError;
use super::folds;
use super::learn::{Labelled, Learned, self_test_like};
use super::score::mean;
use super::target::Target;
use candidates::{Feature, Table};
use grow::{Lesson, Tree};

/// Trees of a head. The error still falls a little up to here.
const TREES: usize = 200;

/// Trees of a fold of the cross-validation, which has only to tell settings apart.
const FOLD_TREES: usize = 60;

/// Features drawn at a node.
const DRAWS: usize = 200;

/// Scales of the maps; coarse places are steadier, fine ones tell more.
const SCALES: usize = 3;

/// Fewest rows of a node that is split, to choose from; 2 grows every tree to the end.
const MIN_ROWS: [usize; 3] = [2, 5, 10];

/// A forest and the features its trees mean.
struct Forest {
    features: Vec<Feature>,
    trees: Vec<Tree>,
    columns: grow::Columns,
}

/// Grows a forest on the embeddings of the labelled rows, or on their latent grids `[tokens, dim]` when there is a
/// grid.
pub(super) fn learn(data: &Labelled<'_>, grid: Option<Grid>) -> Result<Learned, TrainError> {
    let scales = grid.map_or_else(Vec::new, |grid| scales(grid.map_shape(), SCALES));
    let numbers: Vec<Vec<f32>> = match grid {
        Some(grid) => data.rows.par_iter().map(|row| pyramid(grid.unfold(row), &scales)).collect(),
        None => data.rows.iter().map(|row| row.to_vec()).collect(),
    };
    let width = data.target.width();
    let encode = |value: &f64| data.target.encode(*value).into_iter().take(width).map(|y| y as f32);
    let targets: Vec<f32> = data.values.iter().flat_map(encode).collect();
    let table = Table { numbers: &numbers, targets: &targets, width };
    let features = match grid {
        Some(_) => candidates::differences(&scales, &mut ChaCha8Rng::seed_from_u64(data.seed)),
        None => candidates::raw(numbers.first().map_or(0, Vec::len)),
    };
    let planter = Planter { table, features: &features, seed: data.seed };
    let (min_rows, answers) = planter.choose(data.values, data.target);
    let all: Vec<usize> = (0..data.rows.len()).collect();
    let trees = data.size.unwrap_or(TREES);
    let forest = planter.plant(&all, trees);
    Ok(Learned {
        kind: Kind::Trees(Trees { scales: scales.len().max(1) as u32, combine: combine(data.target) }),
        reads_grid: grid.is_some(),
        tensors: forest.tensors(min_rows, width),
        self_test_input: self_test_like(data.rows, data.seed),
        answers,
        deviations: None,
        choice: format!("{trees} trees, nodes of {min_rows} frames and more are split, {}", words(&scales)),
    })
}

/// The median, except of classes, of which the share of trees is a probability.
fn combine(target: Target) -> Combine {
    match target {
        Target::Scalar { .. } | Target::Circular { .. } => Combine::Median,
        Target::Class { .. } => Combine::Mean,
    }
}

fn words(scales: &[MapShape]) -> String {
    match scales {
        [] => "on the embedding's numbers".to_owned(),
        [finest, ..] => {
            let MapShape { maps, rows, cols } = finest;
            format!("on neighbours' differences in {maps} maps of {rows}×{cols} at {} scales", scales.len())
        }
    }
}

/// Grows forests on some of the labelled rows.
struct Planter<'a> {
    table: Table<'a>,
    features: &'a [Feature],
    seed: u64,
}

impl Planter<'_> {
    /// A forest of `trees` on the rows in `train`; every tree has its own random stream, so that the forest does not
    /// depend on how many threads grow it.
    fn plant(&self, train: &[usize], trees: usize) -> Forest {
        let features = self.table.choose(self.features, train);
        let columns = self.table.columns(&features);
        let Table { targets, width, .. } = self.table;
        let lesson = Lesson { columns: &columns, targets, width, draws: DRAWS.min(features.len()) };
        let grow = |tree: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(1 + tree as u64);
            Tree::grow(&lesson, train, &mut rng)
        };
        let trees = (0..trees).into_par_iter().map(grow).collect();
        Forest { features, trees, columns }
    }

    /// The minimal node size with the least mean absolute error over folds contiguous in time, and its held-out
    /// answers. One forest a fold serves all sizes.
    fn choose(&self, values: &[f64], target: Target) -> (usize, Vec<f64>) {
        let mut answers = MIN_ROWS.map(|_| Vec::with_capacity(values.len()));
        for fold in folds::contiguous(values.len()) {
            let forest = self.plant(&fold.train, FOLD_TREES);
            for (answers, min_rows) in answers.iter_mut().zip(MIN_ROWS) {
                answers.extend(fold.held.clone().map(|row| forest.answer(row, min_rows, target)));
            }
        }
        let error = |answers: &[f64]| {
            let errors = values.iter().zip(answers).map(|(v, a)| target.residual(*v, *a).abs());
            mean(&errors.collect::<Vec<_>>())
        };
        let best = (0..MIN_ROWS.len()).min_by(|a, b| error(&answers[*a]).total_cmp(&error(&answers[*b])));
        let best = best.expect("the list of sizes is not empty");
        (MIN_ROWS[best], std::mem::take(&mut answers[best]))
    }
}

impl Forest {
    /// The answer for a labelled row.
    fn answer(&self, row: usize, min_rows: usize, target: Target) -> f64 {
        target.decode(grow::answer(&self.trees, &self.columns, row, min_rows, combine(target)))
    }

    /// The head file's tensors; nodes of fewer than `min_rows` rows become leaves.
    fn tensors(&self, min_rows: usize, width: usize) -> BTreeMap<String, TensorData> {
        let (mut roots, mut nodes, mut thresholds, mut leaves) = (vec![], vec![], vec![], vec![]);
        for tree in &self.trees {
            roots.push(nodes.len() as u32);
            let mut waiting = vec![(0, nodes.len())];
            nodes.push([0; 3]);
            thresholds.push(0.0);
            while let Some((from, to)) = waiting.pop() {
                let node = &tree.nodes[from];
                if node.child == 0 || (node.rows as usize) < min_rows {
                    nodes[to] = [(leaves.len() / width) as u32, NO_SECOND, 0];
                    leaves.extend_from_slice(&tree.means[from * width..(from + 1) * width]);
                    continue;
                }
                let Feature { first, second } = self.features[node.feature as usize];
                let (old, new) = (node.child as usize, nodes.len());
                nodes[to] = [first, second, new as u32];
                thresholds[to] = node.threshold;
                nodes.extend([[0; 3]; 2]);
                thresholds.extend([0.0; 2]);
                waiting.extend([(old + 1, new + 1), (old, new)]);
            }
        }
        BTreeMap::from([
            ("tree.root".to_owned(), TensorData::u32(&[roots.len()], &roots)),
            ("tree.node".to_owned(), TensorData::u32(&[nodes.len(), 3], nodes.as_flattened())),
            ("tree.threshold".to_owned(), TensorData::f32(&[thresholds.len()], &thresholds)),
            ("tree.leaf".to_owned(), TensorData::f32(&[leaves.len() / width, width], &leaves)),
        ])
    }
}
