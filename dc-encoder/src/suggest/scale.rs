//! Embeddings on one scale: every number counts by how much it varies at this camera.

use rayon::prelude::*;

/// Pairs that the usual distance is taken over.
const PAIRS: usize = 1000;

/// Embeddings `[n, dim]`, centred and divided by each number's standard deviation.
#[derive(Debug, Clone)]
pub struct Scaled {
    values: Vec<f32>,
    dim: usize,
    usual: f32,
}

impl Scaled {
    /// Of embeddings `[n, dim]`, row after row. Numbers that do not vary count for nothing.
    pub fn new(values: &[f32], dim: usize) -> Self {
        let dim = dim.max(1);
        let n = (values.len() / dim).max(1) as f64;
        let (mut sum, mut squares) = (vec![0.0_f64; dim], vec![0.0_f64; dim]);
        for row in values.chunks_exact(dim) {
            for (at, value) in row.iter().enumerate() {
                sum[at] += f64::from(*value);
                squares[at] += f64::from(*value).powi(2);
            }
        }
        let mean: Vec<f32> = sum.iter().map(|it| (it / n) as f32).collect();
        let deviation = |at: usize| (squares[at] / n - (sum[at] / n).powi(2)).max(0.0).sqrt();
        let largest = (0..dim).map(deviation).fold(0.0, f64::max);
        // What varies by a millionth of the rest is rounding.
        let factor: Vec<f32> = (0..dim)
            .map(deviation)
            .map(|it| if it > largest * 1e-6 { (1.0 / it) as f32 } else { 0.0 })
            .collect();
        let mut scaled = values[..values.len() / dim * dim].to_vec();
        scaled.par_chunks_exact_mut(dim).for_each(|row| {
            row.iter_mut().enumerate().for_each(|(at, value)| *value = (*value - mean[at]) * factor[at]);
        });
        let mut scaled = Self { values: scaled, dim, usual: 0.0 };
        scaled.usual = scaled.usual_distance();
        scaled
    }

    /// Frames, n.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The scaled embedding of frame `row`, `[dim]`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    /// The median distance between two frames that have nothing to do with each other.
    pub fn usual(&self) -> f32 {
        self.usual
    }

    /// Over pairs spread evenly: the same for the same frames.
    fn usual_distance(&self) -> f32 {
        let n = self.len();
        if n < 2 {
            return 0.0;
        }
        let pairs = PAIRS.min(n);
        // Half the frames and a bit apart: not in step with hours or days.
        let apart = (n / 2 + n / 7).max(1);
        let mut distances: Vec<f32> = (0..pairs)
            .map(|i| i * n / pairs)
            .map(|a| super::squared(self.row(a), self.row((a + apart) % n)).sqrt())
            .collect();
        distances.sort_by(f32::total_cmp);
        distances[pairs / 2]
    }

    /// The mean of these rows, `[dim]`; none of no rows.
    pub(super) fn mean(&self, rows: impl Iterator<Item = usize>) -> Option<Vec<f32>> {
        let (mut sum, mut n) = (vec![0.0_f64; self.dim], 0_usize);
        for row in rows {
            n += 1;
            sum.iter_mut().zip(self.row(row)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        (n > 0).then(|| sum.iter().map(|it| (it / n as f64) as f32).collect())
    }

    /// The row nearest to the mean of these.
    pub(super) fn nearest_to_mean(&self, rows: std::ops::Range<usize>) -> usize {
        let first = rows.start;
        let Some(mean) = self.mean(rows.clone()) else { return first };
        let to = |row: usize| super::squared(self.row(row), &mean);
        rows.min_by(|a, b| to(*a).total_cmp(&to(*b))).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_counts_by_how_much_it_varies() {
        let values: Vec<f32> = (0..10).flat_map(|i| [i as f32, 1000.0 * (9 - i) as f32, 5.0]).collect();
        let scaled = Scaled::new(&values, 3);
        for row in 0..10 {
            let [a, b, c] = scaled.row(row) else { panic!() };
            assert!((a + b).abs() < 1e-4 && *c == 0.0, "{a} {b} {c}");
        }
        assert_eq!(scaled.len(), 10);
        assert!(scaled.usual() > 0.0);
    }
}
