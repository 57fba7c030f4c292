//! The linear head: ridge regression in closed form, its strength chosen by cross-validation.
//!
//! Features are standardised over the training rows, the intercept is not penalised:
//! `min ‖Y − Ȳ − Z W‖² + λ‖W‖²`, with `Z [n, d]` the standardised features. The smaller of the two equivalent
//! systems is solved, `ZᵀZ + λ` (`[d, d]`) or `ZZᵀ + λ` (`[n, n]`), for all strengths at once
//! (see `tridiagonal`).
//!
//! Strength is stated free of sizes: `λ = strength · n · d`. The largest eigenvalue of `ZZᵀ` is at most `n · d`, so at
//! strength 10 next to nothing but the mean is left.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::error::TrainError;
use super::folds::{self, Fold};
use super::score::{mean, standard_error};
use super::target::{Encoded, Target};
use super::tridiagonal::Tridiagonal;

/// A feature whose deviation is below this share of its mean's magnitude is constant up to f32 rounding.
const CONSTANT: f64 = 1e-6;

/// Strengths that cross-validation chooses from: four a decade from 1e-6 to 10.
pub fn strengths() -> Vec<f64> {
    (-24..=4).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0)).collect()
}

/// Labelled rows in time order.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// One embedding a row, `[n][dim]`.
    pub rows: &'a [&'a [f32]],
    /// The labels, `[n]`.
    pub values: &'a [f64],
    /// What the labels mean.
    pub target: Target,
}

/// A fitted linear head: `weight · (x − mean) / std + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Mean of each feature, `[dim]`.
    pub mean: Vec<f64>,
    /// Deviation of each feature, `[dim]`; 1 for a constant one.
    pub std: Vec<f64>,
    /// `[width][dim]`.
    pub weight: Vec<Vec<f64>>,
    /// `[width]`.
    pub bias: Vec<f64>,
}

/// What cross-validation chose, and how it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The chosen strength.
    pub strength: f64,
    /// Each row's answer from the fold that did not see it, `[n]`.
    pub answers: Vec<f64>,
}

/// Standardised features reduced once, ready for any strength.
struct Reduced {
    mean: Vec<f64>,
    std: Vec<f64>,
    /// Standardised features, `[n, d]` row-major.
    z: Vec<f64>,
    n: usize,
    system: Tridiagonal,
    dual: bool,
    /// Right-hand sides rotated, one per output.
    rotated: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

impl Reduced {
    fn new(data: &Data<'_>, train: &[usize]) -> Result<Self, TrainError> {
        let (n, d) = (train.len(), data.rows.first().map_or(0, |row| row.len()));
        let (mean, std) = standardise(data.rows, train);
        let mut z = Vec::with_capacity(n * d);
        for row in train {
            z.extend(data.rows[*row].iter().enumerate().map(|(j, x)| (f64::from(*x) - mean[j]) / std[j]));
        }
        let dual = n < d;
        let matrix = Tensor::from_slice(&z, (n, d), &Device::Cpu)?;
        let gram = if dual { matrix.matmul(&matrix.t()?)? } else { matrix.t()?.matmul(&matrix)? };
        let system = Tridiagonal::new(gram.flatten_all()?.to_vec1()?, n.min(d));
        let (mut bias, mut rotated) = (Vec::new(), Vec::new());
        for output in 0..data.target.width() {
            let y: Vec<f64> = train.iter().map(|i| data.target.encode(data.values[*i])[output]).collect();
            let centre = super::score::mean(&y);
            let y: Vec<f64> = y.iter().map(|y| y - centre).collect();
            rotated.push(system.rotate(&if dual { y } else { transposed_product(&z, &y, d) }));
            bias.push(centre);
        }
        Ok(Self { mean, std, z, n, system, dual, rotated, bias })
    }

    fn solve(&self, strength: f64) -> Linear {
        let d = self.mean.len();
        let lambda = strength * (self.n * d) as f64;
        let weight = self.rotated.iter().map(|rotated| {
            let x = self.system.solve(rotated, lambda);
            if self.dual { transposed_product(&self.z, &x, d) } else { x }
        });
        Linear {
            weight: weight.collect(),
            mean: self.mean.clone(),
            std: self.std.clone(),
            bias: self.bias.clone(),
        }
    }
}

impl Linear {
    /// The network's numbers for one embedding, and zeros.
    pub fn outputs(&self, row: &[f32]) -> Encoded {
        let mut outputs = Encoded::default();
        for ((out, weight), bias) in outputs.iter_mut().zip(&self.weight).zip(&self.bias) {
            let terms = row.iter().zip(weight).zip(self.mean.iter().zip(&self.std));
            *out = bias + terms.map(|((x, w), (mean, std))| w * (f64::from(*x) - mean) / std).sum::<f64>();
        }
        outputs
    }
}

/// Fits all rows at one strength.
///
/// # Errors
/// [`TrainError::Compute`] from the matrix product.
pub fn fit(data: &Data<'_>, strength: f64) -> Result<Linear, TrainError> {
    let all: Vec<usize> = (0..data.rows.len()).collect();
    Ok(Reduced::new(data, &all)?.solve(strength))
}

/// Chooses the strength by the mean absolute error over folds contiguous in time: the best one, or with
/// `one_standard_error` the largest whose error is within one standard error (over folds) of the best, which
/// gives up accuracy on frames like these for steadiness on frames unlike them.
///
/// # Errors
/// [`TrainError::Compute`] from the matrix product.
pub fn choose(data: &Data<'_>, one_standard_error: bool) -> Result<Choice, TrainError> {
    let strengths = strengths();
    let folds = folds::contiguous(data.rows.len());
    let per_fold: Vec<Vec<Vec<f64>>> =
        folds.par_iter().map(|fold| fold_answers(data, fold, &strengths)).collect::<Result<_, _>>()?;
    let fold_error = |fold: usize, at: usize| {
        let truths = &data.values[folds[fold].held.clone()];
        let errors = truths.iter().zip(&per_fold[fold][at]).map(|(t, a)| data.target.residual(*t, *a).abs());
        mean(&errors.collect::<Vec<_>>())
    };
    let errors: Vec<Vec<f64>> =
        (0..strengths.len()).map(|at| (0..folds.len()).map(|fold| fold_error(fold, at)).collect()).collect();
    let best = (0..strengths.len()).min_by(|a, b| mean(&errors[*a]).total_cmp(&mean(&errors[*b])));
    let mut chosen = best.expect("the list of strengths is not empty");
    if one_standard_error {
        let limit = mean(&errors[chosen]) + standard_error(&errors[chosen]);
        chosen = (0..strengths.len()).rfind(|at| mean(&errors[*at]) <= limit).unwrap_or(chosen);
    }
    let answers = per_fold.iter().flat_map(|fold| fold[chosen].iter().copied()).collect();
    Ok(Choice { strength: strengths[chosen], answers })
}

/// Answers on a fold's held-out rows, one list per strength.
fn fold_answers(data: &Data<'_>, fold: &Fold, strengths: &[f64]) -> Result<Vec<Vec<f64>>, TrainError> {
    let reduced = Reduced::new(data, &fold.train)?;
    let answers = |strength: &f64| {
        let linear = reduced.solve(*strength);
        data.rows[fold.held.clone()].iter().map(|row| data.target.decode(linear.outputs(row))).collect()
    };
    Ok(strengths.iter().map(answers).collect())
}

/// Mean and population deviation of each feature over the given rows; 1 for a constant feature.
pub fn standardise(rows: &[&[f32]], among: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let d = rows.first().map_or(0, |row| row.len());
    let n = among.len().max(1) as f64;
    let mut means = vec![0.0; d];
    for row in among {
        rows[*row].iter().zip(&mut means).for_each(|(x, mean)| *mean += f64::from(*x) / n);
    }
    let mut stds = vec![0.0; d];
    for row in among {
        for ((x, mean), std) in rows[*row].iter().zip(&means).zip(&mut stds) {
            *std += (f64::from(*x) - mean).powi(2) / n;
        }
    }
    for (std, mean) in stds.iter_mut().zip(&means) {
        *std = std.sqrt();
        if *std <= CONSTANT * mean.abs() || *std < f64::from(f32::MIN_POSITIVE) {
            *std = 1.0;
        }
    }
    (means, stds)
}

/// `Zᵀ x` for `Z [n, d]` row-major.
fn transposed_product(z: &[f64], x: &[f64], d: usize) -> Vec<f64> {
    let mut product = vec![0.0; d];
    for (row, x) in z.chunks_exact(d.max(1)).zip(x) {
        row.iter().zip(&mut product).for_each(|(z, p)| *p += z * x);
    }
    product
}
