//! The departures head: how much of the picture is not as usual, weighted by perspective.
//!
//! ```text
//! unlabelled frames ─► median of each place, spread of each map ─► departures ─► threshold between noise and things
//! labelled frames ─► places that depart, by row ─► a · Σ w(row) · places + b, a in closed form
//! ```
//! On a fixed camera a thing covers places that look otherwise without it, and one at half the distance covers four
//! times as many: the weight of a row is `1 / (y + 0.05)^p`, `y` the height in the picture from the top. Two numbers
//! are fitted at most, so ten labels suffice. A hard threshold is what keeps the flicker of an empty background out of
//! the sum; it is found without labels, where the logarithm of departures is rarest between noise and things.
//!
//! The other settings are departed from only where the labels say so clearly, because labels of one stretch of time are
//! met by wrong weights, too, as long as people stand where they stood.

use std::collections::BTreeMap;

use half::f16;
use rayon::prelude::*;
use shared::head::{Kind, MapShape, TensorData, fired_by_row, largest_departures};

use super::error::TrainError;
use super::folds;
use super::frames::GridFrames;
use super::learn::{Labelled, Learned, self_test_like};
use super::score::first_not_beaten;

/// Most frames that the background is the median of; more move it less than f16 rounds it.
const BACKGROUND_FRAMES: usize = 301;

/// Most frames that noise and threshold are measured on.
const NOISE_FRAMES: usize = 60;

/// Keeps the top row's weight finite; the horizon of most cameras lies a little above the picture.
const HORIZON: f64 = 0.05;

/// Deviation of a normal distribution per median of its absolute values.
const DEVIATION_PER_MEDIAN: f32 = 1.4826;

/// Powers of the perspective weight: area shrinks with the square of the distance, width with the distance itself.
const POWERS: [i32; 3] = [2, 1, 0];

/// Thresholds tried, as multiples of the one found without labels.
const MULTIPLES: [f32; 3] = [1.0, 0.71, 1.41];

/// A later setting must be better than an earlier one by so many standard errors of their difference between folds:
/// Student's t with four degrees of freedom at 5 %, divided by the seventeen settings that could win by luck.
const CLEARLY: f64 = 6.5;

/// What a camera usually sees, `[maps, rows, cols]`, and how much each map flickers, `[maps]`.
struct Usual {
    background: Vec<f32>,
    spread: Vec<f32>,
}

/// One setting: threshold, power of the perspective, and whether a constant is added.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Setting {
    threshold: f32,
    power: i32,
    constant: bool,
}

/// `slope · feature + constant`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    slope: f64,
    constant: f64,
}

/// Learns a departures head; `data.rows` are latent grids `[tokens, dim]`, the target a scalar.
pub(super) fn learn(data: &Labelled<'_>, frames: &GridFrames<'_>) -> Result<Learned, TrainError> {
    let shape = frames.grid.map_shape();
    let seen = spread_evenly(&frames.unlabelled, BACKGROUND_FRAMES);
    let maps: Vec<Vec<f32>> = seen.par_iter().map(|frame| frames.maps(*frame)).collect();
    let usual = Usual::learn(&maps, shape);
    let inverse: Vec<f32> = usual.spread.iter().map(|spread| 1.0 / spread).collect();
    let departures = |maps: &Vec<f32>| largest_departures(maps, &usual.background, &inverse);
    let sample = spread_evenly(&(0..maps.len()).collect::<Vec<_>>(), NOISE_FRAMES);
    let sample: Vec<f32> = sample.par_iter().flat_map_iter(|at| departures(&maps[*at])).collect();
    let threshold = valley(sample).ok_or(TrainError::NothingDeparts { frames: seen.len() })?;
    let labelled: Vec<Vec<f32>> =
        data.rows.par_iter().map(|tokens| departures(&frames.grid.unfold(tokens))).collect();
    let table = Table { departures: &labelled, shape, data };
    let Chosen { setting, answers } = table.choose(threshold);
    let all: Vec<usize> = (0..data.values.len()).collect();
    let line = Line::fit(&table.features(&setting), data.values, &all, setting.constant);
    Ok(Learned {
        kind: Kind::Departures,
        reads_grid: true,
        tensors: tensors(&usual, shape, &setting, line),
        self_test_input: self_test_like(data.rows, data.seed),
        answers,
        deviations: None,
        choice: setting.words(seen.len()),
    })
}

/// At most `most` of the items, evenly spread.
fn spread_evenly(items: &[usize], most: usize) -> Vec<usize> {
    let count = items.len().min(most);
    (0..count).map(|i| items[i * items.len() / count]).collect()
}

fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

impl Usual {
    fn learn(maps: &[Vec<f32>], shape: MapShape) -> Self {
        let place = |at: usize| {
            let mut values: Vec<f32> = maps.iter().map(|map| map[at]).collect();
            // As the head file keeps it.
            f16::from_f32(median(&mut values)).to_f32()
        };
        let background: Vec<f32> = (0..shape.numbers()).into_par_iter().map(place).collect();
        let places = shape.rows * shape.cols;
        let sample = spread_evenly(&(0..maps.len()).collect::<Vec<_>>(), NOISE_FRAMES);
        let spread = |map: usize| {
            let range = map * places..(map + 1) * places;
            let usual = &background[range.clone()];
            let departures = |at: &usize| {
                let now = maps[*at][range.clone()].iter();
                now.zip(usual).map(|(x, usual)| (x - usual).abs()).collect::<Vec<_>>()
            };
            let mut all: Vec<f32> = sample.iter().flat_map(departures).collect();
            let (low, high) = usual.iter().fold((f32::MAX, f32::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            // A map that hardly ever changes must not make its rounding the loudest departure.
            (DEVIATION_PER_MEDIAN * median(&mut all)).max(1e-3 * (high - low)).max(1e-6)
        };
        let spread = (0..shape.maps).into_par_iter().map(spread).collect();
        Self { background, spread }
    }
}

/// The threshold between noise and things: the largest up to which the share of places above it hardly falls, that
/// is, where departures are rarest on a logarithmic scale. None when nothing departs.
///
/// The share's slope over the threshold, both as logarithms, is least in the valley; its far side is taken, up to
/// `TOLERANCE` above the least slope, because noise that passes costs more than things that do not.
fn valley(mut departures: Vec<f32>) -> Option<f32> {
    const STEPS: usize = 60;
    const TOLERANCE: f64 = 0.2;
    const HALF_WINDOW: f32 = std::f32::consts::SQRT_2;
    departures.retain(|departure| *departure > 0.0);
    departures.sort_unstable_by(f32::total_cmp);
    let count = departures.len();
    let (low, high) = (*departures.get(count / 2)?, *departures.get(count * 999 / 1000)?);
    let above = |threshold: f32| (count - departures.partition_point(|d| *d <= threshold)).max(1) as f64;
    let at = |step: usize| low * (high / low).powf(step as f32 / (STEPS - 1) as f32);
    let slope = |step: usize| {
        let fall = above(at(step) / HALF_WINDOW) / above(at(step) * HALF_WINDOW);
        fall.ln() / f64::from(HALF_WINDOW * HALF_WINDOW).ln()
    };
    let slopes: Vec<f64> = (0..STEPS).map(slope).collect();
    // Past the last departures the share cannot fall any more, which is no valley.
    let reached = |step: usize| at(step) * HALF_WINDOW <= departures[count - 1];
    let least = (0..STEPS).filter(|step| reached(*step)).min_by(|a, b| slopes[*a].total_cmp(&slopes[*b]));
    let least = least.unwrap_or(0);
    let far = (least..STEPS).take_while(|step| reached(*step) && slopes[*step] <= slopes[least] + TOLERANCE);
    Some(at(far.last().unwrap_or(least)))
}

impl Setting {
    /// From the one to prefer to the one that needs the most evidence.
    fn all(threshold: f32) -> Vec<Self> {
        let mut settings = Vec::new();
        for constant in [false, true] {
            for power in POWERS {
                settings.extend(MULTIPLES.map(|multiple| Self {
                    threshold: multiple * threshold,
                    power,
                    constant,
                }));
            }
        }
        settings
    }

    fn words(&self, frames: usize) -> String {
        let Self { threshold, power, constant } = self;
        let constant = if *constant { ", with a constant" } else { "" };
        format!(
            "places {threshold:.1} spreads off the median of {frames} frames, rows weighted by \
             1/(y + {HORIZON})^{power}{constant}"
        )
    }
}

/// Weight of each row.
fn row_weights(rows: usize, power: i32) -> Vec<f64> {
    (0..rows).map(|row| ((row as f64 + 0.5) / rows as f64 + HORIZON).powi(-power)).collect()
}

impl Line {
    /// Least squares over the rows in `among`; the slope is not negative: nothing counts against a thing.
    fn fit(features: &[f64], values: &[f64], among: &[usize], constant: bool) -> Self {
        let centre = |of: &[f64]| match constant {
            true => among.iter().map(|i| of[*i]).sum::<f64>() / among.len() as f64,
            false => 0.0,
        };
        let (x0, y0) = (centre(features), centre(values));
        let (mut xy, mut xx) = (0.0, 0.0);
        for i in among {
            xy += (features[*i] - x0) * (values[*i] - y0);
            xx += (features[*i] - x0).powi(2);
        }
        let slope = if xx > 0.0 { (xy / xx).max(0.0) } else { 0.0 };
        Self { slope, constant: y0 - slope * x0 }
    }
}

/// The labelled rows' departures, `[rows][places]`.
struct Table<'a> {
    departures: &'a [Vec<f32>],
    shape: MapShape,
    data: &'a Labelled<'a>,
}

struct Chosen {
    setting: Setting,
    /// Each row's answer from the fold that did not see it.
    answers: Vec<f64>,
}

impl Table<'_> {
    /// Weighted number of places that depart, of each row.
    fn features(&self, setting: &Setting) -> Vec<f64> {
        let weights = row_weights(self.shape.rows, setting.power);
        let feature = |departures: &Vec<f32>| -> f64 {
            let fired = fired_by_row(departures, self.shape.cols, setting.threshold);
            fired.zip(&weights).map(|(count, weight)| f64::from(count) * weight).sum()
        };
        self.departures.par_iter().map(feature).collect()
    }

    /// The first setting that no other beats clearly in folds contiguous in time.
    fn choose(&self, threshold: f32) -> Chosen {
        let settings = Setting::all(threshold);
        let answers: Vec<Vec<f64>> = settings.iter().map(|setting| self.held_out(setting)).collect();
        let errors: Vec<Vec<f64>> = answers.iter().map(|answers| self.data.fold_errors(answers)).collect();
        let at = first_not_beaten(&errors, CLEARLY);
        Chosen { setting: settings[at], answers: answers.into_iter().nth(at).unwrap_or_default() }
    }

    fn held_out(&self, setting: &Setting) -> Vec<f64> {
        let features = self.features(setting);
        let fold = |fold: folds::Fold| {
            let line = Line::fit(&features, self.data.values, &fold.train, setting.constant);
            let answer =
                |row: usize| self.data.target.decode([line.slope * features[row] + line.constant, 0.0]);
            fold.held.map(answer).collect::<Vec<_>>()
        };
        folds::contiguous(self.data.values.len()).into_iter().flat_map(fold).collect()
    }
}

fn tensors(usual: &Usual, shape: MapShape, setting: &Setting, line: Line) -> BTreeMap<String, TensorData> {
    let MapShape { maps, rows, cols } = shape;
    let weights = row_weights(rows, setting.power);
    let weights: Vec<f32> = weights.iter().map(|weight| (line.slope * weight) as f32).collect();
    BTreeMap::from([
        ("background".to_owned(), TensorData::f16(&[maps, rows, cols], &usual.background)),
        ("scale".to_owned(), TensorData::f32(&[maps], &usual.spread)),
        ("threshold".to_owned(), TensorData::f32(&[1], &[setting.threshold])),
        ("row_weight".to_owned(), TensorData::f32(&[1, rows], &weights)),
        ("bias".to_owned(), TensorData::f32(&[1], &[line.constant as f32])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_lies_between_noise_and_things() {
        // Noise around 1, and one place in fifty around 60: any threshold from 5 to 25 parts them.
        let noise = (0..9800).map(|i| 0.3 * (1.0 + (i % 140) as f32 / 20.0));
        let things = (0..200).map(|i| 30.0 + 0.3 * i as f32);
        let threshold = valley(noise.clone().chain(things).collect()).unwrap();
        assert!((4.0..=30.0).contains(&threshold), "{threshold}");
        assert_eq!(valley(vec![0.0; 100]), None);
        assert!(valley(noise.collect()).unwrap().is_finite());
    }

    #[test]
    fn a_slope_is_never_negative_and_a_line_is_found() {
        let x = [1.0, 2.0, 4.0];
        let all = [0, 1, 2];
        assert_eq!(Line::fit(&x, &[3.0, 5.0, 9.0], &all, true), Line { slope: 2.0, constant: 1.0 });
        assert_eq!(Line::fit(&x, &[2.0, 4.0, 8.0], &all, false), Line { slope: 2.0, constant: 0.0 });
        assert_eq!(Line::fit(&x, &[9.0, 5.0, 1.0], &all, true).slope, 0.0);
    }
}
