//! Counting what departs from a fixed camera's background, weighted by where it is.

use super::error::LoadError;
use super::limits;
use super::manifest::Grid;
use super::maps::MapShape;
use super::tensors::TensorSet;

/// A checked departures head; see [`super::manifest::Kind::Departures`] for its tensors.
#[derive(Debug)]
pub(super) struct Departures {
    grid: Grid,
    background: Vec<f32>,
    inverse_scale: Vec<f32>,
    thresholds: Vec<f32>,
    /// `[thresholds, rows]`
    row_weights: Vec<f32>,
    bias: f32,
}

impl Departures {
    pub(super) fn take(grid: Grid, tensors: &mut TensorSet<'_>) -> Result<Self, LoadError> {
        let MapShape { maps, rows, cols } = grid.map_shape();
        let background = tensors.values("background", &[maps, rows, cols])?;
        let inverse_scale = tensors.inverse("scale", &[maps])?;
        let count = tensors.rows("threshold", limits::MAX_THRESHOLDS, &[])?;
        let thresholds = tensors.values("threshold", &[count])?;
        let row_weights = tensors.values("row_weight", &[count, rows])?;
        let bias = tensors.values("bias", &[1])?[0];
        Ok(Self { grid, background, inverse_scale, thresholds, row_weights, bias })
    }

    /// Operations of one [`forward`](Self::forward): four for each number of the maps, two for each place and threshold.
    pub(super) fn flops(&self) -> u64 {
        let places = self.background.len() / self.inverse_scale.len();
        (4 * self.background.len() + 2 * places * self.thresholds.len() + 2 * self.row_weights.len()) as u64
    }

    pub(super) fn forward(&self, tokens: &[f32]) -> Vec<f32> {
        let shape = self.grid.map_shape();
        let departures = largest_departures(&self.grid.unfold(tokens), &self.background, &self.inverse_scale);
        let weights = self.row_weights.chunks_exact(shape.rows);
        let mut sum = f64::from(self.bias);
        for (threshold, weights) in self.thresholds.iter().zip(weights) {
            for (count, weight) in fired_by_row(&departures, shape.cols, *threshold).zip(weights) {
                sum += f64::from(*weight) * f64::from(count);
            }
        }
        vec![sum as f32]
    }
}

/// Of each place the largest `|map − background| · inverse scale` over the maps, `[rows, cols]`; the same when
/// training and when serving. `maps` and `background` are `[maps, rows, cols]`, `inverse_scale` is `[maps]`.
pub fn largest_departures(maps: &[f32], background: &[f32], inverse_scale: &[f32]) -> Vec<f32> {
    let places = maps.len() / inverse_scale.len();
    let mut largest = vec![0f32; places];
    let each = maps.chunks_exact(places).zip(background.chunks_exact(places)).zip(inverse_scale);
    for ((map, background), scale) in each {
        for ((x, usual), largest) in map.iter().zip(background).zip(&mut largest) {
            *largest = largest.max((x - usual).abs() * scale);
        }
    }
    largest
}

/// How many places of each row depart by more than `threshold`.
pub fn fired_by_row(departures: &[f32], cols: usize, threshold: f32) -> impl Iterator<Item = u32> + use<'_> {
    departures
        .chunks_exact(cols)
        .map(move |row| row.iter().map(|departure| u32::from(*departure > threshold)).sum())
}
