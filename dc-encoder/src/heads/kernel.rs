//! The kernel head: kernel ridge regression, which is also a Gaussian process (Rasmussen & Williams 2006, ch. 2).
//!
//! ```text
//! standardised embeddings ─► likeness to the labelled frames ─► (K + noise) w = y ─► weights, and how sure they are
//! ```
//! Likeness, its width and the noise are chosen by cross-validation in folds contiguous in time. The process also says
//! how far a frame is from all it knows; the interval around an answer is that deviation, scaled so that held-out
//! labels fall into it as often as stated.

use std::collections::BTreeMap;

use half::f16;
use rayon::prelude::*;
use shared::head::{Kind, Likeness, TensorData};

use super::error::TrainError;
use super::folds::{self, Fold};
use super::learn::{Labelled, Learned, narrow, norm_tensors, self_test_like};
use super::ridge::standardise;
use super::score::mean;
use super::target::Encoded;
use super::tridiagonal::Tridiagonal;

/// Most labelled frames that are kept, evenly spread; an answer then costs half a million products.
const MAX_SUPPORT: usize = 512;

/// Widths tried, in medians of the distance between labelled frames.
const WIDTHS: [f64; 4] = [0.35, 0.7, 1.4, 2.8];

/// Variances of the labels' noise tried, in variances of what is learned.
const NOISES: [f64; 6] = [1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0];

/// How two frames are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    likeness: Likeness,
    width: f64,
}

/// The labelled frames that are kept.
struct Kept<'a> {
    data: Labelled<'a>,
    /// Standardised embeddings, `[n][dim]`, as the head file stores them.
    rows: Vec<Vec<f32>>,
}

/// What cross-validation says about one noise level.
struct Tried {
    noise: f64,
    answers: Vec<f64>,
    error: f64,
}

/// Learns a kernel head on embeddings.
pub(super) fn learn(data: &Labelled<'_>) -> Result<Learned, TrainError> {
    let all: Vec<usize> = (0..data.rows.len()).collect();
    let (mean, std) = standardise(data.rows, &all);
    // f32, as the head will compute it; then f16, as the file will keep it.
    let standard = |row: &&[f32]| -> Vec<f32> {
        let norm = mean.iter().zip(&std);
        let terms = row.iter().zip(norm).map(|(x, (m, s))| (x - *m as f32) * (1.0 / *s as f32));
        terms.map(|x| f16::from_f32(x).to_f32()).collect()
    };
    let kept = Kept { data: *data, rows: data.rows.iter().map(standard).collect() };
    let (shape, tried) = kept.choose();
    let support = kept.support(&all);
    let solution = kept.solve(&kept.gram(shape, &support), &support, tried.noise);
    let (width, dim) = (data.target.width(), mean.len());
    let count = support.len();
    let mut tensors = norm_tensors(&mean, &std);
    let rows: Vec<f32> = support.iter().flat_map(|row| kept.rows[*row].iter().copied()).collect();
    tensors.extend(BTreeMap::from([
        ("support".to_owned(), TensorData::f16(&[count, dim], &rows)),
        ("width".to_owned(), TensorData::f32(&[1], &[shape.width as f32])),
        ("weight".to_owned(), TensorData::f32(&[width, count], &narrow(&solution.weights.concat()))),
        ("bias".to_owned(), TensorData::f32(&[width], &narrow(&solution.bias))),
        ("precision".to_owned(), TensorData::f32(&[count, count], &narrow(&solution.precision()))),
        ("noise".to_owned(), TensorData::f32(&[1], &[tried.noise as f32])),
    ]));
    Ok(Learned {
        kind: Kind::Kernel(shape.likeness),
        reads_grid: false,
        tensors,
        self_test_input: self_test_like(data.rows, data.seed),
        deviations: Some(kept.deviations(shape, tried.noise)),
        answers: tried.answers,
        choice: format!(
            "{} likeness to {count} frames, width {:.3}, noise {:.0e}",
            match shape.likeness {
                Likeness::Gaussian => "Gaussian",
                Likeness::Laplace => "Laplace",
            },
            shape.width,
            tried.noise
        ),
    })
}

/// A solved system for some rows: weights for each output, and what the deviations need.
struct Solution {
    system: Tridiagonal,
    noise: f64,
    count: usize,
    /// `[width][count]`
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

impl Solution {
    /// `(K + noise)⁻¹`, `[count, count]`.
    fn precision(&self) -> Vec<f64> {
        let column = |at: usize| {
            let mut unit = vec![0.0; self.count];
            unit[at] = 1.0;
            self.system.solve(&self.system.rotate(&unit), self.noise)
        };
        (0..self.count).into_par_iter().flat_map_iter(column).collect()
    }
}

impl Kept<'_> {
    /// At most [`MAX_SUPPORT`] of these rows, evenly spread.
    fn support(&self, rows: &[usize]) -> Vec<usize> {
        let count = rows.len().min(MAX_SUPPORT);
        (0..count).map(|i| rows[i * rows.len() / count]).collect()
    }

    fn likeness(&self, shape: Shape, a: usize, b: usize) -> f64 {
        shape.likeness.of(&self.rows[a], &self.rows[b], shape.width)
    }

    /// Likeness of each pair, `[rows, rows]`.
    fn gram(&self, shape: Shape, rows: &[usize]) -> Vec<f64> {
        rows.par_iter().flat_map_iter(|a| rows.iter().map(|b| self.likeness(shape, *a, *b))).collect()
    }

    fn solve(&self, gram: &[f64], rows: &[usize], noise: f64) -> Solution {
        self.solve_all(gram, rows, &[noise]).swap_remove(0)
    }

    /// One solution for every noise level, from one reduction of the matrix.
    fn solve_all(&self, gram: &[f64], rows: &[usize], noises: &[f64]) -> Vec<Solution> {
        let count = rows.len();
        let system = Tridiagonal::new(gram.to_vec(), count);
        let target = self.data.target;
        let outputs: Vec<(f64, Vec<f64>)> = (0..target.width())
            .map(|output| {
                let y: Vec<f64> =
                    rows.iter().map(|row| target.encode(self.data.values[*row])[output]).collect();
                let bias = mean(&y);
                (bias, system.rotate(&y.iter().map(|y| y - bias).collect::<Vec<_>>()))
            })
            .collect();
        let solution = |noise: &f64| Solution {
            system: system.clone(),
            noise: *noise,
            count,
            weights: outputs.iter().map(|(_, rotated)| system.solve(rotated, *noise)).collect(),
            bias: outputs.iter().map(|(bias, _)| *bias).collect(),
        };
        noises.iter().map(solution).collect()
    }

    /// Median distance between labelled frames, the natural size of a width.
    fn median_distance(&self, likeness: Likeness) -> f64 {
        let n = self.rows.len();
        let step = (n / 100).max(1);
        let mut distances: Vec<f64> = (0..n)
            .step_by(step)
            .flat_map(|a| (a + 1..n).step_by(step).map(move |b| (a, b)))
            .map(|(a, b)| likeness.distance(&self.rows[a], &self.rows[b]))
            .collect();
        distances.sort_by(f64::total_cmp);
        // Frames that are all the same have no distance; any width serves them.
        distances.get(distances.len() / 2).copied().filter(|median| *median > 0.0).unwrap_or(1.0)
    }

    /// The shape and noise with the least held-out error.
    fn choose(&self) -> (Shape, Tried) {
        let folds = folds::contiguous(self.rows.len());
        let likenesses = [Likeness::Gaussian, Likeness::Laplace];
        let shapes = likenesses.into_iter().flat_map(|likeness| {
            let median = self.median_distance(likeness);
            WIDTHS.map(|width| Shape { likeness, width: width * median })
        });
        let shapes: Vec<Shape> = shapes.collect();
        let tried = shapes.par_iter().map(|shape| (*shape, self.try_shape(*shape, &folds)));
        let tried: Vec<(Shape, Tried)> = tried.collect();
        let best = tried.into_iter().min_by(|a, b| a.1.error.total_cmp(&b.1.error));
        best.expect("the list of shapes is not empty")
    }

    /// The best noise level of one shape.
    fn try_shape(&self, shape: Shape, folds: &[Fold]) -> Tried {
        let mut answers = NOISES.map(|_| Vec::with_capacity(self.rows.len()));
        for fold in folds {
            let support = self.support(&fold.train);
            let solutions = self.solve_all(&self.gram(shape, &support), &support, &NOISES);
            for row in fold.held.clone() {
                let likeness: Vec<f64> =
                    support.iter().map(|other| self.likeness(shape, row, *other)).collect();
                for (answers, solution) in answers.iter_mut().zip(&solutions) {
                    answers.push(self.answer(solution, &likeness));
                }
            }
        }
        let tried = NOISES.into_iter().zip(answers).map(|(noise, answers)| {
            let error = mean(&self.data.errors(&answers));
            Tried { noise, answers, error }
        });
        tried.min_by(|a, b| a.error.total_cmp(&b.error)).expect("the list of noises is not empty")
    }

    fn answer(&self, solution: &Solution, likeness: &[f64]) -> f64 {
        let mut outputs = Encoded::default();
        for ((output, weights), bias) in outputs.iter_mut().zip(&solution.weights).zip(&solution.bias) {
            *output = bias + dot(weights, likeness);
        }
        self.data.target.decode(outputs)
    }

    /// Each row's deviation as the fold that did not see it states it.
    fn deviations(&self, shape: Shape, noise: f64) -> Vec<f64> {
        let fold = |fold: &Fold| {
            let support = self.support(&fold.train);
            let precision = self.solve(&self.gram(shape, &support), &support, noise).precision();
            let deviation = |row: usize| {
                let likeness: Vec<f64> =
                    support.iter().map(|other| self.likeness(shape, row, *other)).collect();
                let rows = precision.chunks_exact(support.len());
                let known: f64 = rows.zip(&likeness).map(|(row, k)| k * dot(row, &likeness)).sum();
                ((1.0 - known).max(0.0) + noise).sqrt()
            };
            fold.held.clone().map(deviation).collect::<Vec<_>>()
        };
        folds::contiguous(self.rows.len()).par_iter().flat_map_iter(fold).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
