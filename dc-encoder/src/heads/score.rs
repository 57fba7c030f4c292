//! Scores with an honest uncertainty.
//!
//! Errors of neighbouring frames are alike, so resampling them one by one would claim a certainty that is not
//! there. The moving-block bootstrap (Künsch 1989) resamples stretches of consecutive errors instead. The length of a
//! stretch follows Politis & White, "Automatic block-length selection for the dependent bootstrap" (2004, corrected by
//! Patton, Politis & White 2009), from the errors' own autocorrelation.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bootstrap samples; the 2.5 % quantile then rests on 50 of them.
const SAMPLES: usize = 2000;

/// A mean absolute error with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mae {
    /// The mean absolute error.
    pub value: f64,
    /// 95 % moving-block bootstrap interval.
    pub ci95: [f64; 2],
    /// Block length that was used, in frames.
    pub block: usize,
}

/// Mean of the absolute residuals, with a 95 % moving-block bootstrap interval.
///
/// `residuals`: in time order, at least one. The same seed gives the same interval.
pub fn mae(residuals: &[f64], seed: u64) -> Mae {
    let errors: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
    let block = block_length(&errors);
    let [low, high] = moving_block_interval(&errors, block, seed);
    // A mean of absolute values is not below zero, whatever the centred quantile says.
    Mae { value: mean(&errors), ci95: [low.max(0.0), high], block }
}

/// Arithmetic mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard error of the mean of independent values.
pub fn standard_error(values: &[f64]) -> f64 {
    let (n, centre) = (values.len() as f64, mean(values));
    let variance = values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (variance / n).sqrt()
}

/// Of errors by fold, `[choices][folds]`, in order of preference: the first whose mean is within `margin` standard
/// errors of its difference to the best.
pub fn first_not_beaten(errors: &[Vec<f64>], margin: f64) -> usize {
    let best = (0..errors.len()).min_by(|a, b| mean(&errors[*a]).total_cmp(&mean(&errors[*b]))).unwrap_or(0);
    let close = |at: &usize| {
        let worse: Vec<f64> = errors[*at].iter().zip(&errors[best]).map(|(a, b)| a - b).collect();
        mean(&worse) <= margin * standard_error(&worse)
    };
    (0..errors.len()).find(close).unwrap_or(best)
}

/// 95 % interval of the mean of a dependent series.
///
/// The bootstrap means are centred on their own average before the quantiles are taken (Lahiri 2003, §2.7):
/// blocks reach the ends of the series less often than its middle, which would shift the interval.
pub fn moving_block_interval(series: &[f64], block: usize, seed: u64) -> [f64; 2] {
    let n = series.len();
    if n == 0 {
        return [0.0, 0.0];
    }
    let block = block.clamp(1, n);
    let mut prefix = vec![0.0; n + 1];
    for (i, value) in series.iter().enumerate() {
        prefix[i + 1] = prefix[i] + value;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let (mut left, mut sum) = (n, 0.0);
            while left > 0 {
                let start = rng.random_range(0..=n - block);
                let length = block.min(left);
                sum += prefix[start + length] - prefix[start];
                left -= length;
            }
            sum / n as f64
        })
        .collect();
    let shift = mean(series) - mean(&means);
    means.sort_by(f64::total_cmp);
    let at = |q: f64| means[(q * (SAMPLES - 1) as f64).round() as usize] + shift;
    [at(0.025), at(0.975)]
}

/// The automatic block length of Politis & White for the moving-block bootstrap, at least 1 and at most
/// `min(3·√n, n / 3)`.
pub fn block_length(series: &[f64]) -> usize {
    let n = series.len();
    let size = n as f64;
    let longest = (3.0 * size.sqrt()).min(size / 3.0).ceil().max(1.0);
    let covariance = autocovariance(series, n.saturating_sub(1));
    if n < 4 || covariance[0] <= 0.0 {
        return 1;
    }
    // The bandwidth: twice the lag after which a whole run of autocorrelations is insignificant.
    let run = 5.max(size.log10().sqrt().ceil() as usize);
    let threshold = 2.0 * (size.log10() / size).sqrt();
    let last = (size.sqrt().ceil() as usize + run).min(n - 1);
    let significant =
        |lag: usize| covariance.get(lag).is_some_and(|c| (c / covariance[0]).abs() >= threshold);
    let lag = (0..last).find(|m| (1..=run).all(|k| !significant(m + k))).unwrap_or(last);
    let bandwidth = (2 * lag).min(last);
    if bandwidth == 0 {
        return 1;
    }
    let (mut spectrum, mut slope) = (covariance[0], 0.0);
    for (k, c) in covariance.iter().enumerate().take(bandwidth + 1).skip(1) {
        // Flat-top window: 1 up to half the bandwidth, then falling to 0.
        let weight = (2.0 * (1.0 - k as f64 / bandwidth as f64)).min(1.0);
        spectrum += 2.0 * weight * c;
        slope += 2.0 * weight * k as f64 * c;
    }
    // A spectrum that comes out at nothing says that the window failed: take the longest block.
    if spectrum.abs() < 1e-12 * covariance[0] {
        return longest as usize;
    }
    let variance = 4.0 / 3.0 * spectrum * spectrum;
    let length = (2.0 * slope * slope / variance).cbrt() * size.cbrt();
    length.clamp(1.0, longest).round() as usize
}

/// Autocovariances at lags `0..=lags`, divided by n.
fn autocovariance(series: &[f64], lags: usize) -> Vec<f64> {
    let centre = mean(series);
    let centred: Vec<f64> = series.iter().map(|x| x - centre).collect();
    (0..=lags)
        .map(|lag| {
            let products = centred.iter().zip(centred.iter().skip(lag)).map(|(a, b)| a * b);
            products.sum::<f64>() / series.len().max(1) as f64
        })
        .collect()
}

/// Offsets `[lower, upper]` that hold a residual with probability `level`, as order statistics with the
/// finite-sample correction of split conformal prediction (Lei et al. 2018); none when the residuals are too few for
/// that level to be stated.
pub fn residual_quantiles(residuals: &[f64], level: f64) -> Option<[f64; 2]> {
    let n = residuals.len();
    let tail = (1.0 - level) / 2.0;
    // Rounded down before the tail is cut: 1-based rank of the lower order statistic. The nudge keeps an exact
    // product, such as 0.05 · 20, from falling below itself.
    let rank = (tail * (n + 1) as f64 + 1e-9).floor() as usize;
    if rank == 0 || rank > n {
        return None;
    }
    let mut sorted = residuals.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some([sorted[rank - 1], sorted[n - rank]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};

    /// AR(1) with zero mean: x ← φx + noise.
    fn ar1(n: usize, phi: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut x: f64 = StandardNormal.sample(rng);
        x /= (1.0 - phi * phi).sqrt();
        (0..n)
            .map(|_| {
                let noise: f64 = StandardNormal.sample(rng);
                x = phi * x + noise;
                x
            })
            .collect()
    }

    /// Share of series whose interval holds the true mean, 0.
    fn coverage(n: usize, phi: f64, block: impl Fn(&[f64]) -> usize) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let hits = (0..300)
            .filter(|seed| {
                let series = ar1(n, phi, &mut rng);
                let [low, high] = moving_block_interval(&series, block(&series), *seed);
                low <= 0.0 && 0.0 <= high
            })
            .count();
        hits as f64 / 300.0
    }

    #[test]
    fn blocks_cover_a_dependent_series_where_single_frames_do_not() {
        let blocks = coverage(400, 0.8, block_length);
        let singles = coverage(400, 0.8, |_| 1);
        // Nominal 0.95; the bootstrap of a finite dependent series falls a little short, as is known.
        assert!((0.86..=0.99).contains(&blocks), "{blocks}");
        assert!(singles < 0.6, "{singles}");
        let independent = coverage(400, 0.0, block_length);
        assert!((0.92..=0.98).contains(&independent), "{independent}");
    }

    #[test]
    fn an_earlier_choice_stays_unless_clearly_beaten() {
        let [a, b] = [vec![1.0, 2.0, 3.0, 2.0, 2.0], vec![0.9, 2.2, 2.7, 2.1, 1.8]];
        assert_eq!(first_not_beaten(&[a.clone(), b.clone()], 1.0), 0);
        assert_eq!(first_not_beaten(&[b, a.clone()], 1.0), 0);
        let clearly: Vec<f64> = a.iter().map(|x| 0.5 * x).collect();
        assert_eq!(first_not_beaten(&[a, clearly], 2.0), 1);
    }

    #[test]
    fn block_length_grows_with_dependence() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let [none, some, strong] = [0.0, 0.5, 0.9].map(|phi| block_length(&ar1(1000, phi, &mut rng)));
        assert!(none <= 3 && none < some && some < strong && strong <= 95, "{none} {some} {strong}");
        assert_eq!(block_length(&[1.0; 50]), 1);
        assert_eq!(block_length(&[]), 1);
        assert!(block_length(&(0..10).map(f64::from).collect::<Vec<_>>()) <= 4);
    }

    #[test]
    fn the_interval_holds_the_score_and_repeats() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let residuals = ar1(200, 0.9, &mut rng);
        let score = mae(&residuals, 1);
        assert!(score.ci95[0] < score.value && score.value < score.ci95[1], "{score:?}");
        assert_eq!(score, mae(&residuals, 1));
        assert_eq!(mae(&[-2.0], 1), Mae { value: 2.0, ci95: [2.0, 2.0], block: 1 });
    }

    #[test]
    fn residual_quantiles_hold_their_level_or_are_not_stated() {
        let residuals: Vec<f64> = (1..=99).map(f64::from).collect();
        assert_eq!(residual_quantiles(&residuals, 0.9), Some([5.0, 95.0]));
        assert_eq!(residual_quantiles(&residuals[..19], 0.9), Some([1.0, 19.0]));
        assert_eq!(residual_quantiles(&residuals[..18], 0.9), None);
        assert_eq!(residual_quantiles(&[], 0.9), None);
    }
}
