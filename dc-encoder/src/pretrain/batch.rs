//! From frames to what one training step takes: visible patches, places, and targets made when they are needed.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use shared::image::Rgb;

use super::draw::{Mask, signed_unit};
use crate::model::Config;
use crate::model::config::TargetKind;
use crate::model::ops;

/// Added to a patch's variance before the square root, as in the masked-autoencoder code.
const TARGET_EPS: f64 = 1e-6;
/// Added to a patch's variance where it divides the error: a flat patch weighs at most ten times a usual one.
const MIXED_FLOOR: f64 = 0.05;

/// How a frame is changed before it is used: light and a small shift, nothing that moves what a fixed camera sees.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The encoder's input for each value of each channel.
    table: [[f32; 256]; 3],
    /// Pixels by which the picture moves, right and down; its border is repeated.
    shift: (i32, i32),
}

/// Largest change of contrast and gain, as a share.
const LIGHT: f32 = 0.1;
/// Largest change of brightness, as a share of the range.
const BRIGHTNESS: f32 = 0.05;
/// Largest shift, as a share of the input's width.
const SHIFT: f32 = 0.006;

impl Change {
    /// The frame as it is.
    pub(super) fn none(config: &Config) -> Self {
        Self::new(config, |value| value, (0, 0))
    }

    /// A random mild change.
    pub(super) fn draw(config: &Config, random: &mut ChaCha8Rng) -> Self {
        let mut about = |most: f32| most * signed_unit(random);
        let (contrast, gain, brightness) = (1.0 + about(LIGHT), 1.0 + about(LIGHT), about(BRIGHTNESS));
        let light = |value: f32| (((value - 0.5) * contrast + 0.5) * gain + brightness).clamp(0.0, 1.0);
        let pixels = SHIFT * config.width as f32;
        Self::new(config, light, (about(pixels).round() as i32, about(pixels).round() as i32))
    }

    /// `light` maps colours from 0 to 1.
    fn new(config: &Config, light: impl Fn(f32) -> f32, shift: (i32, i32)) -> Self {
        let preprocess = &config.preprocess;
        let table = [0, 1, 2].map(|channel| {
            std::array::from_fn(|value| {
                (light(value as f32 / 255.0) - preprocess.mean[channel]) / preprocess.std[channel]
            })
        });
        Self { table, shift }
    }
}

/// One frame of a batch.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) image: Arc<Rgb>,
    pub(super) change: Change,
    pub(super) mask: Mask,
}

impl Item {
    /// Where the row `y` of a patch begins in the picture, and the column of its first pixel.
    fn row(&self, config: &Config, place: u32, y: usize) -> (usize, i32) {
        let cols = config.width / config.patch;
        let (top, left) = (place as usize / cols * config.patch, place as usize % cols * config.patch);
        let line = ((top + y) as i32 - self.change.shift.1).clamp(0, config.height as i32 - 1);
        (line as usize * config.width, left as i32 - self.change.shift.0)
    }

    /// The pixel in column `x` of the row that [`Item::row`] gave.
    fn pixel(&self, config: &Config, (line, left): (usize, i32), x: usize) -> &[u8] {
        let column = (left + x as i32).clamp(0, config.width as i32 - 1);
        &self.image.data[3 * (line + column as usize)..][..3]
    }

    /// One patch as the encoder takes it: `[3 * patch * patch]`, (channel, y, x).
    fn fill_input(&self, config: &Config, place: u32, to: &mut [f32]) {
        let area = config.patch * config.patch;
        for y in 0..config.patch {
            let row = self.row(config, place, y);
            for x in 0..config.patch {
                let pixel = self.pixel(config, row, x);
                for (channel, value) in pixel.iter().enumerate() {
                    to[channel * area + y * config.patch + x] =
                        self.change.table[channel][usize::from(*value)];
                }
            }
        }
    }

    /// One patch in the order of predictions: `[patch * patch * 3]`, (y, x, channel).
    fn fill_pixels(&self, config: &Config, place: u32, to: &mut [f32]) {
        for (y, line) in to.chunks_exact_mut(3 * config.patch).enumerate() {
            let row = self.row(config, place, y);
            for (x, to) in line.chunks_exact_mut(3).enumerate() {
                let pixel = self.pixel(config, row, x);
                for (channel, (to, value)) in to.iter_mut().zip(pixel).enumerate() {
                    *to = self.change.table[channel][usize::from(*value)];
                }
            }
        }
    }
}

/// The frames of one forward pass, all with as many visible patches.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    config: &'a Config,
    kind: TargetKind,
    items: Vec<Item>,
}

impl<'a> Batch<'a> {
    /// At least one frame; every mask hides as many patches.
    pub(super) fn new(config: &'a Config, kind: TargetKind, items: Vec<Item>) -> Self {
        Self { config, kind, items }
    }

    /// Frames in it.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Visible patches, `[batch, visible, 3 * patch * patch]`.
    pub(super) fn patches(&self, device: &Device) -> Result<Tensor> {
        let (visible, width) = (self.items[0].mask.visible.len(), self.config.patch_dim());
        let mut values = vec![0f32; self.len() * visible * width];
        values.par_chunks_exact_mut(width).enumerate().for_each(|(row, to)| {
            let item = &self.items[row / visible];
            item.fill_input(self.config, item.mask.visible[row % visible], to);
        });
        Tensor::from_vec(values, (self.len(), visible, width), &Device::Cpu)?.to_device(device)
    }

    /// Places of the visible patches, `[batch, visible]`.
    pub(super) fn visible(&self, device: &Device) -> Result<Tensor> {
        self.places(device, |mask| &mask.visible)
    }

    /// Places of the hidden patches, `[batch, hidden]`.
    pub(super) fn hidden(&self, device: &Device) -> Result<Tensor> {
        self.places(device, |mask| &mask.hidden)
    }

    fn places(&self, device: &Device, of: impl Fn(&Mask) -> &Vec<u32>) -> Result<Tensor> {
        let places: Vec<u32> = self.items.iter().flat_map(|item| of(&item.mask)).copied().collect();
        let count = places.len() / self.len();
        Tensor::from_vec(places, (self.len(), count), device)
    }

    /// The loss of an answer that knows the mean colour of every hidden patch and nothing else.
    pub(super) fn loss_of_means(&self) -> f64 {
        let rows = self.len() * self.items[0].mask.hidden.len();
        let losses: Vec<f64> = (0..rows)
            .into_par_iter()
            .map_init(
                || vec![0f32; self.config.patch_dim()],
                |row, number| {
                    let weight = ops::Target::fill(self, number, row);
                    f64::from(weight) * statistics(row).1
                },
            )
            .collect();
        losses.iter().sum::<f64>() / rows as f64
    }
}

impl ops::Target for Batch<'_> {
    fn fill(&self, row: usize, to: &mut [f32]) -> f32 {
        let hidden = self.items[0].mask.hidden.len();
        let item = &self.items[row / hidden];
        item.fill_pixels(self.config, item.mask.hidden[row % hidden], to);
        finish(self.kind, to)
    }
}

/// Turns pixels into the target of their kind; returns the weight of its error.
fn finish(kind: TargetKind, patch: &mut [f32]) -> f32 {
    match kind {
        TargetKind::Raw => 1.0,
        TargetKind::Normalised => {
            let (mean, scale) = normalisation(patch);
            patch.iter_mut().for_each(|value| *value = (*value - mean) / scale);
            1.0
        }
        TargetKind::Mixed => (0.5 + 0.5 / (statistics(patch).1 + MIXED_FLOOR)) as f32,
    }
}

/// Mean and deviation (the unbiased one) by which a patch is normalised.
pub(super) fn normalisation(patch: &[f32]) -> (f32, f32) {
    let (mean, variance) = statistics(patch);
    let count = patch.len() as f64;
    (mean as f32, (variance * count / (count - 1.0) + TARGET_EPS).sqrt() as f32)
}

/// Mean and variance (the biased one).
fn statistics(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let square = |value: &f32| (f64::from(*value) - mean) * (f64::from(*value) - mean);
    (mean, values.iter().map(square).sum::<f64>() / count)
}
