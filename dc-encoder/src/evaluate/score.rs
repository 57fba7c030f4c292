//! Scores over several draws of the labels, with an interval that knows both sources of chance.
//!
//! The test frames are one stretch of time: they are resampled in moving blocks (see [`crate::heads::score`]). The
//! labels were drawn at random: the draws are resampled, too, independently of the frames (the pigeonhole bootstrap,
//! Owen 2007, "The pigeonhole bootstrap"), so that an interval is not too narrow by pretending that the labels were
//! given.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::heads::score::{block_length, mean};

/// Bootstrap samples; the 2.5 % quantile then rests on 50 of them.
const SAMPLES: usize = 2000;

/// What is taken of the errors of one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Their mean.
    Mean,
    /// Their median.
    Median,
}

/// A score with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over the draws.
    pub value: f64,
    /// 95 % bootstrap interval.
    pub ci95: [f64; 2],
    /// The smallest and the largest among the draws.
    pub draws: [f64; 2],
}

impl Statistic {
    /// Takes the statistic; reorders the numbers. At least one number.
    fn of(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Mean => mean(values),
            Self::Median => {
                let middle = values.len() / 2;
                let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
                let upper = *upper;
                match below.iter().copied().max_by(f64::total_cmp) {
                    Some(lower) if values.len().is_multiple_of(2) => (lower + upper) / 2.0,
                    _ => upper,
                }
            }
        }
    }
}

/// The statistic of a series, averaged over draws, with a 95 % interval.
///
/// `series`: `[draws][frames]`, frames in time order and the same in each draw; at least one of both. The same seed
/// gives the same interval.
pub fn estimate(series: &[Vec<f64>], statistic: Statistic, seed: u64) -> Estimate {
    let each: Vec<f64> = series.iter().map(|draw| statistic.of(&mut draw.clone())).collect();
    let value = mean(&each);
    let fold = |pick: fn(f64, f64) -> f64| each.iter().copied().reduce(pick).unwrap_or(value);
    Estimate {
        value,
        ci95: interval(series, statistic, value, seed),
        draws: [fold(f64::min), fold(f64::max)],
    }
}

/// How much smaller the errors `a` are than the errors `b` of the same frames and draws: mean of `b − a`, with its
/// interval. Pairing frame by frame takes out what makes a frame hard for both.
pub fn advantage(a: &[Vec<f64>], b: &[Vec<f64>], seed: u64) -> Estimate {
    let minus = |(a, b): (&Vec<f64>, &Vec<f64>)| b.iter().zip(a).map(|(b, a)| b - a).collect();
    estimate(&a.iter().zip(b).map(minus).collect::<Vec<_>>(), Statistic::Mean, seed)
}

fn interval(series: &[Vec<f64>], statistic: Statistic, value: f64, seed: u64) -> [f64; 2] {
    let (draws, n) = (series.len(), series.first().map_or(0, Vec::len));
    if n == 0 {
        return [value; 2];
    }
    let block = block_length(&over_draws(series)).clamp(1, n);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = Vec::with_capacity(n + block);
    let mut picked = Vec::with_capacity(n);
    let mut values: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            rows.clear();
            while rows.len() < n {
                let start = rng.random_range(0..=n - block);
                rows.extend(start..start + block);
            }
            rows.truncate(n);
            let sum: f64 = (0..draws)
                .map(|_| {
                    let draw = &series[rng.random_range(0..draws)];
                    picked.clear();
                    picked.extend(rows.iter().map(|row| draw[*row]));
                    statistic.of(&mut picked)
                })
                .sum();
            sum / draws as f64
        })
        .collect();
    // Blocks reach the ends of the series less often than its middle, which shifts a mean (Lahiri 2003, §2.7).
    let shift = match statistic {
        Statistic::Mean => value - mean(&values),
        Statistic::Median => 0.0,
    };
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[(q * (SAMPLES - 1) as f64).round() as usize] + shift;
    [at(0.025), at(0.975)]
}

/// Mean over the draws, frame by frame.
pub fn over_draws(series: &[Vec<f64>]) -> Vec<f64> {
    let n = series.first().map_or(0, Vec::len);
    (0..n).map(|row| series.iter().map(|draw| draw[row]).sum::<f64>() / series.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        StandardNormal.sample(rng)
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(Statistic::Median.of(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(Statistic::Median.of(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(Statistic::Median.of(&mut [5.0]), 5.0);
    }

    #[test]
    fn intervals_hold_the_truth_when_frames_and_draws_both_vary() {
        // value[d][t] = frame effect (dependent in time) + draw effect; the true mean is 0.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let hits = (0..60u64).filter(|seed| {
            let mut frame = 0.0;
            let frames: Vec<f64> = (0..150)
                .map(|_| {
                    frame = 0.7 * frame + normal(&mut rng);
                    frame
                })
                .collect();
            let series: Vec<Vec<f64>> = (0..5)
                .map(|_| {
                    let draw = 0.5 * normal(&mut rng);
                    frames.iter().map(|frame| frame + draw).collect()
                })
                .collect();
            let [low, high] = estimate(&series, Statistic::Mean, *seed).ci95;
            low <= 0.0 && 0.0 <= high
        });
        // Nominal 57 of 60; five draws and a finite series fall a little short, as is known.
        assert!((48..=60).contains(&hits.count()));
    }

    #[test]
    fn pairing_sees_a_difference_that_single_intervals_do_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let hard: Vec<f64> = (0..100).map(|_| 5.0 + normal(&mut rng).abs() * 3.0).collect();
        let easier: Vec<f64> = hard.iter().map(|error| error - 0.3 + 0.1 * normal(&mut rng)).collect();
        let [a, b] = [vec![easier], vec![hard]];
        let [a_alone, b_alone] = [&a, &b].map(|errors| estimate(errors, Statistic::Mean, 1));
        assert!(a_alone.ci95[1] > b_alone.ci95[0], "alone, the intervals overlap");
        let paired = advantage(&a, &b, 1);
        assert!(paired.ci95[0] > 0.2 && paired.ci95[1] < 0.4, "{paired:?}");
    }
}
