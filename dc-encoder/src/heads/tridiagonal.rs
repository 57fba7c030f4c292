//! Solving `(A + λI) x = b` for many λ: one Householder reduction to tridiagonal form, then each λ costs one pass.
//!
//! `A = Q T Qᵀ` takes `4/3·m³` operations (Golub & Van Loan, "Matrix Computations", §8.3.1). After that
//! `(A + λI) x = b` is `(T + λI) z = Qᵀb`, a tridiagonal system, and `x = Qz` (Eldén 1977, for ridge problems): no
//! eigenvectors are needed.

/// A symmetric matrix in tridiagonal form with the reflections that led there.
#[derive(Debug, Clone)]
pub(crate) struct Tridiagonal {
    diagonal: Vec<f64>,
    /// `below[k]` couples rows k and k + 1.
    below: Vec<f64>,
    /// Unit Householder vector k acts on rows k + 1 and following; empty where nothing was to be done.
    reflections: Vec<Vec<f64>>,
}

impl Tridiagonal {
    /// Reduces a symmetric `[m, m]` row-major matrix; only its lower triangle is read.
    pub(crate) fn new(mut a: Vec<f64>, m: usize) -> Self {
        let mut below = Vec::with_capacity(m);
        let mut reflections = Vec::with_capacity(m);
        for k in 0..m.saturating_sub(1) {
            let column: Vec<f64> = (k + 1..m).map(|i| a[i * m + k]).collect();
            let (v, alpha) = reflection(column);
            below.push(alpha);
            if !v.is_empty() {
                update(&mut a, m, k + 1, &v);
            }
            reflections.push(v);
        }
        let diagonal = (0..m).map(|i| a[i * m + i]).collect();
        Self { diagonal, below, reflections }
    }

    /// `Qᵀ b`, done once per right-hand side.
    pub(crate) fn rotate(&self, b: &[f64]) -> Vec<f64> {
        let mut z = b.to_vec();
        for (k, v) in self.reflections.iter().enumerate() {
            reflect(&mut z[k + 1..], v);
        }
        z
    }

    /// `x = Q (T + λI)⁻¹ z` for a rotated right-hand side. `A + λI` must be positive definite.
    pub(crate) fn solve(&self, rotated: &[f64], lambda: f64) -> Vec<f64> {
        let m = rotated.len();
        // Elimination without pivoting is stable for a positive definite tridiagonal matrix.
        let mut pivots = vec![0.0; m];
        let mut x = rotated.to_vec();
        for i in 0..m {
            let mut pivot = self.diagonal[i] + lambda;
            if i > 0 {
                let factor = self.below[i - 1] / pivots[i - 1];
                pivot -= factor * self.below[i - 1];
                x[i] -= factor * x[i - 1];
            }
            // Rounding may push a pivot of a singular matrix below λ, which bounds it in exact arithmetic.
            pivots[i] = pivot.max(lambda);
        }
        for i in (0..m).rev() {
            if i + 1 < m {
                x[i] -= self.below[i] * x[i + 1];
            }
            x[i] /= pivots[i];
        }
        for (k, v) in self.reflections.iter().enumerate().rev() {
            reflect(&mut x[k + 1..], v);
        }
        x
    }
}

/// The unit vector `v` with `(I − 2vvᵀ) column = alpha·e₁`, and `alpha`; `v` is empty when the column has that
/// form already.
fn reflection(mut column: Vec<f64>) -> (Vec<f64>, f64) {
    let first = column[0];
    let rest: f64 = column[1..].iter().map(|x| x * x).sum();
    if rest == 0.0 {
        return (Vec::new(), first);
    }
    let norm = (first * first + rest).sqrt();
    let alpha = if first > 0.0 { -norm } else { norm };
    column[0] -= alpha;
    let length = (column[0] * column[0] + rest).sqrt();
    column.iter_mut().for_each(|x| *x /= length);
    (column, alpha)
}

fn reflect(x: &mut [f64], v: &[f64]) {
    let dot: f64 = x.iter().zip(v).map(|(a, b)| a * b).sum();
    x.iter_mut().zip(v).for_each(|(a, b)| *a -= 2.0 * dot * b);
}

/// `A ← (I − 2vvᵀ) A (I − 2vvᵀ)` on the trailing block from `start`, lower triangle only.
fn update(a: &mut [f64], m: usize, start: usize, v: &[f64]) {
    let size = m - start;
    let row = |i: usize| (start + i) * m + start;
    let mut p = vec![0.0; size];
    for i in 0..size {
        let line = &a[row(i)..row(i) + i + 1];
        let mut sum = line[i] * v[i];
        for ((x, vj), pj) in line[..i].iter().zip(v).zip(&mut p) {
            sum += x * vj;
            *pj += x * v[i];
        }
        p[i] += sum;
    }
    // w = 2p − 2(p·v)v; A −= v wᵀ + w vᵀ.
    let dot: f64 = p.iter().zip(v).map(|(a, b)| a * b).sum();
    let w: Vec<f64> = p.iter().zip(v).map(|(p, v)| 2.0 * (p - dot * v)).collect();
    for i in 0..size {
        let line = &mut a[row(i)..row(i) + i + 1];
        for ((x, vj), wj) in line.iter_mut().zip(v).zip(&w) {
            *x -= v[i] * wj + w[i] * vj;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn solves_shifted_systems() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for m in [1, 2, 3, 7, 40] {
            let factor: Vec<f64> = (0..m * m).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut a = vec![0.0; m * m];
            for i in 0..m {
                for j in 0..m {
                    a[i * m + j] = (0..m).map(|k| factor[i * m + k] * factor[j * m + k]).sum();
                }
            }
            let b: Vec<f64> = (0..m).map(|_| rng.random_range(-1.0..1.0)).collect();
            let form = Tridiagonal::new(a.clone(), m);
            let rotated = form.rotate(&b);
            for lambda in [1e-3, 1.0, 50.0] {
                let x = form.solve(&rotated, lambda);
                for i in 0..m {
                    let got = lambda * x[i] + (0..m).map(|j| a[i * m + j] * x[j]).sum::<f64>();
                    assert!((got - b[i]).abs() < 1e-9, "m {m} λ {lambda}: {got} {}", b[i]);
                }
            }
        }
    }

    #[test]
    fn a_singular_matrix_with_a_small_shift_stays_finite() {
        // Rank one, like the Gram matrix of identical frames.
        let x = Tridiagonal::new(vec![1.0; 100], 10);
        let rotated = x.rotate(&[1.0; 10]);
        let got = x.solve(&rotated, 1e-6);
        assert!(got.iter().all(|v| (v - 1.0 / 10.000_001).abs() < 1e-6), "{got:?}");
    }
}
