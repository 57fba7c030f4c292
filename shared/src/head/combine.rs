//! How the answers of many trees become one: their mean, or their spatial median, the point with the least mean distance to
//! all of them.
//!
//! Weiszfeld's iteration (1937) with a softened distance, so that a point that coincides with the estimate does not
//! divide by zero. Of one number it is the median, of directions on a circle the answer with the least mean distance
//! to them: a mean is pulled by the few trees that are far off, a median is not.

use super::manifest::Combine;

/// Rounds of the iteration; each brings it closer by a constant factor.
const ROUNDS: usize = 64;

/// Distances are softened by this share of the points' root mean square distance from their mean.
const SOFT: f64 = 0.001;

/// The spatial median of `points`, `[points, width]`; their mean when they all agree, zeros of no points.
///
/// The order of the sums is fixed, so the answer has the same bits on every machine.
fn spatial_median(points: &[f32], width: usize) -> Vec<f64> {
    let mut centre = mean(points, width);
    let count = (points.len() / width.max(1)).max(1) as f64;
    let spread = points.chunks_exact(width.max(1)).map(|point| square(point, &centre)).sum::<f64>() / count;
    if spread <= 0.0 {
        return centre;
    }
    let soft = SOFT * SOFT * spread;
    let mut sums = vec![0.0; width];
    for _ in 0..ROUNDS {
        sums.fill(0.0);
        let mut total = 0.0;
        for point in points.chunks_exact(width) {
            let weight = 1.0 / (square(point, &centre) + soft).sqrt();
            total += weight;
            sums.iter_mut().zip(point).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        }
        centre.iter_mut().zip(&sums).for_each(|(centre, sum)| *centre = sum / total);
    }
    centre
}

impl Combine {
    /// Operations of one [`of`](Self::of), at most.
    pub(super) fn flops(self, trees: u64, width: u64) -> u64 {
        match self {
            Self::Mean => trees * width,
            Self::Median => trees * width + trees * (3 * width) + ROUNDS as u64 * trees * (5 * width + 3),
        }
    }

    /// The combination of `answers`, `[trees, width]`.
    pub fn of(self, answers: &[f32], width: usize) -> Vec<f64> {
        match self {
            Self::Mean => mean(answers, width),
            Self::Median => spatial_median(answers, width),
        }
    }
}

/// The mean of `points`, `[points, width]`; zeros of no points.
fn mean(points: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for point in points.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(point).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let count = (points.len() / width.max(1)).max(1) as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// Squared distance.
fn square(point: &[f32], centre: &[f64]) -> f64 {
    point.iter().zip(centre).map(|(x, c)| (f64::from(*x) - c).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_points_far_off_do_not_move_it() {
        let median = spatial_median(&[1.0, 1.1, 0.9, 1.0, 40.0], 1)[0];
        assert!((median - 1.0).abs() < 0.05, "{median}");
        let near: Vec<f32> = (0..9).flat_map(|i| [1.0, 0.01 * (i as f32 - 4.0)]).collect();
        let far = [-1.0, 0.0, -1.0, 0.1];
        let median = spatial_median(&[near, far.to_vec()].concat(), 2);
        assert!((median[0] - 1.0).abs() < 0.05 && median[1].abs() < 0.02, "{median:?}");
    }

    #[test]
    fn it_has_the_least_mean_distance() {
        let points: Vec<f32> = (0..40).map(|i| ((i * 7919) % 101) as f32 / 50.0).collect();
        let distance = |centre: &[f64]| points.chunks_exact(2).map(|p| square(p, centre).sqrt()).sum::<f64>();
        let median = spatial_median(&points, 2);
        for (dx, dy) in [(0.05, 0.0), (-0.05, 0.0), (0.0, 0.05), (0.0, -0.05)] {
            assert!(distance(&median) < distance(&[median[0] + dx, median[1] + dy]));
        }
    }

    #[test]
    fn points_that_agree_and_no_points_have_an_answer() {
        assert_eq!(spatial_median(&[2.5, 1.0, 2.5, 1.0], 2), [2.5, 1.0]);
        assert_eq!(spatial_median(&[], 2), [0.0, 0.0]);
    }
}
