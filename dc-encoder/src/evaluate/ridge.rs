//! Ridge on plain features, for the baseline: centred and not standardised, its strength chosen by folds that are
//! spread over the labels, as scikit-learn's `RidgeCV` does. Standardised pixels, or strengths chosen on stretches of
//! time, make a weaker peer here: still pixels become loud.

use rayon::prelude::*;

use crate::heads::target::{Encoded, Target};
use crate::heads::tridiagonal::Tridiagonal;

/// Folds that the strength is chosen over; row i is held out in fold i modulo this.
const FOLDS: usize = 10;

/// Strengths, four a decade from 1e-3 to 1e4: thumbnails have numbers from 0 to 1.
fn strengths() -> Vec<f64> {
    (-12..=16).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0)).collect()
}

/// Labelled rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'a> {
    /// `[rows][features]`
    pub(super) rows: &'a [&'a [f32]],
    /// `[rows]`
    pub(super) values: &'a [f64],
    /// What the values mean.
    pub(super) target: Target,
}

/// Answers for `test`, with the strength that does best over the folds.
pub(super) fn answers(data: &Data<'_>, test: &[&[f32]]) -> Vec<f64> {
    let strengths = strengths();
    let folds = FOLDS.min(data.rows.len());
    let errors: Vec<Vec<f64>> = (0..folds)
        .into_par_iter()
        .map(|fold| {
            let (held, train): (Vec<usize>, Vec<usize>) =
                (0..data.rows.len()).partition(|row| row % folds == fold);
            let rows: Vec<&[f32]> = held.iter().map(|row| data.rows[*row]).collect();
            let given = Kernel::new(data, &train).answers(&rows, &strengths);
            let error = |answers: &Vec<f64>| {
                let pairs = held.iter().zip(answers);
                pairs.map(|(row, answer)| data.target.residual(data.values[*row], *answer).abs()).sum()
            };
            given.iter().map(error).collect()
        })
        .collect();
    let total = |at: usize| errors.iter().map(|fold| fold[at]).sum::<f64>();
    let best = (0..strengths.len()).min_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(0);
    let all: Vec<usize> = (0..data.rows.len()).collect();
    Kernel::new(data, &all).answers(test, &strengths[best..=best]).swap_remove(0)
}

/// The dual system `(X Xᵀ + λ) α = y` of centred rows, ready for any λ.
struct Kernel {
    mean: Vec<f64>,
    /// Centred rows.
    rows: Vec<Vec<f64>>,
    system: Tridiagonal,
    /// Right-hand sides rotated, one per output.
    rotated: Vec<Vec<f64>>,
    bias: Encoded,
    target: Target,
}

impl Kernel {
    fn new(data: &Data<'_>, train: &[usize]) -> Self {
        let (n, width) = (train.len(), data.rows.first().map_or(0, |row| row.len()));
        let mut mean = vec![0.0; width];
        for row in train {
            mean.iter_mut().zip(data.rows[*row]).for_each(|(mean, x)| *mean += f64::from(*x) / n as f64);
        }
        let rows: Vec<Vec<f64>> = train.iter().map(|row| centred(data.rows[*row], &mean)).collect();
        let gram = rows.iter().flat_map(|a| rows.iter().map(move |b| dot(a, b))).collect();
        let system = Tridiagonal::new(gram, n);
        let (mut bias, mut rotated) = (Encoded::default(), Vec::new());
        for (output, bias) in bias.iter_mut().enumerate().take(data.target.width()) {
            let y: Vec<f64> = train.iter().map(|row| data.target.encode(data.values[*row])[output]).collect();
            *bias = y.iter().sum::<f64>() / n as f64;
            rotated.push(system.rotate(&y.iter().map(|y| y - *bias).collect::<Vec<_>>()));
        }
        Self { mean, rows, system, rotated, bias, target: data.target }
    }

    /// Answers for these rows, one list per strength.
    fn answers(&self, test: &[&[f32]], strengths: &[f64]) -> Vec<Vec<f64>> {
        let near: Vec<Vec<f64>> = test
            .iter()
            .map(|row| {
                let row = centred(row, &self.mean);
                self.rows.iter().map(|other| dot(&row, other)).collect()
            })
            .collect();
        let one = |lambda: &f64| {
            let alphas: Vec<Vec<f64>> = self.rotated.iter().map(|z| self.system.solve(z, *lambda)).collect();
            let answer = |near: &Vec<f64>| {
                let mut outputs = self.bias;
                outputs.iter_mut().zip(&alphas).for_each(|(out, alpha)| *out += dot(near, alpha));
                self.target.decode(outputs)
            };
            near.iter().map(answer).collect()
        };
        strengths.iter().map(one).collect()
    }
}

fn centred(row: &[f32], mean: &[f64]) -> Vec<f64> {
    row.iter().zip(mean).map(|(x, mean)| f64::from(*x) - mean).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dual_of_one_feature_is_the_textbook_slope() {
        // Centred x = ±1, y = ±3 around 5: slope xy / (xx + λ) = 6 / (2 + λ).
        let rows: [&[f32]; 2] = [&[0.0], &[2.0]];
        let data = Data { rows: &rows, values: &[2.0, 8.0], target: Target::Scalar { min: None } };
        let got = Kernel::new(&data, &[0, 1]).answers(&[&[3.0]], &[1.0, 4.0]);
        assert!((got[0][0] - (5.0 + 2.0 * 2.0)).abs() < 1e-12 && (got[1][0] - 7.0).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn a_line_is_followed_and_noise_is_not() {
        let rows: Vec<[f32; 3]> = (0..40u8)
            .map(|i| {
                [
                    f32::from(i) / 40.0,
                    f32::from(i.wrapping_mul(37)) / 255.0,
                    f32::from(i.wrapping_mul(91)) / 255.0,
                ]
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
        let values: Vec<f64> = (0..40).map(|i| f64::from(i) / 4.0).collect();
        let data = Data { rows: &rows, values: &values, target: Target::Scalar { min: Some(0.0) } };
        let got = answers(&data, &[&[0.5, 0.1, 0.9], &[0.5, 0.9, 0.1]]);
        assert!((got[0] - 5.0).abs() < 0.1 && (got[1] - 5.0).abs() < 0.1, "{got:?}");
    }
}
