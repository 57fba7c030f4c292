//! Frames to the operand of the patch embedding.
//!
//! ```text
//! f32          (pixel / 255 - mean) / std, as everywhere
//! bf16, int8   pixel - 128, exact in both; the rest of the normalisation is in the packed weights
//! ```

use shared::image::Rgb;

use super::Scratch;
use super::linear::{Linear, Operand, Weights};
use super::simd::rows::pack_row;
use super::simd::{Format, Isa, Pool, bytes_mut};
use crate::model::Config;

/// Subtracted from pixels where their values are kept: the middle of a byte.
const MIDDLE: f32 = 128.0;

/// How frames become operand rows.
#[derive(Debug, Clone)]
pub(super) struct Input {
    isa: Isa,
    format: Format,
    patch: usize,
    cols: usize,
    width: usize,
    mean: [f32; 3],
    std: [f32; 3],
    /// Value of each byte in each channel.
    table: Vec<[f32; 256]>,
}

impl Input {
    pub(super) fn new(isa: Isa, format: Format, config: &Config) -> Self {
        let (mean, std) = (config.preprocess.mean, config.preprocess.std);
        let value = |channel: usize, byte: usize| match format {
            Format::F32 => (byte as f32 / 255.0 - mean[channel]) / std[channel],
            Format::Bf16 | Format::Int8 => byte as f32 - MIDDLE,
        };
        let table = (0..3).map(|channel| std::array::from_fn(|byte| value(channel, byte))).collect();
        let (_, cols) = config.grid();
        Self { isa, format, patch: config.patch, cols, width: config.width, mean, std, table }
    }

    /// Packs the patch embedding `[out, 3 * patch²]` for these operands: `w · (pixel / 255 - mean) / std` is
    /// `w / (255 std) · (pixel - 128)` and a constant.
    pub(super) fn pack(&self, from: Weights<'_>) -> Linear {
        if self.format == Format::F32 {
            return Linear::pack(self.isa, self.format, from);
        }
        let channel = self.patch * self.patch;
        let mut weight = from.weight.to_vec();
        let mut bias = from.bias.map_or_else(|| vec![0.0; from.out], <[f32]>::to_vec);
        for (row, bias) in weight.chunks_exact_mut(3 * channel).zip(&mut bias) {
            let mut constant = f64::from(*bias);
            for (c, weights) in row.chunks_exact_mut(channel).enumerate() {
                let shift = f64::from(MIDDLE) - 255.0 * f64::from(self.mean[c]);
                for weight in weights {
                    *weight /= 255.0 * self.std[c];
                    constant += f64::from(*weight) * shift;
                }
            }
            *bias = constant as f32;
        }
        Linear::pack(self.isa, self.format, Weights { weight: &weight, bias: Some(&bias), out: from.out })
    }

    /// One frame of the input's size to its rows of `to`.
    pub(super) fn frame(&self, pool: &mut Pool<Scratch>, frame: &Rgb, patches: usize, to: &mut Operand) {
        self.rows(pool, frame, (patches, |row| row), to);
    }

    /// The patches of a frame at these places, a row each.
    pub(super) fn some(&self, pool: &mut Pool<Scratch>, frame: &Rgb, places: &[u32], to: &mut Operand) {
        self.rows(pool, frame, (places.len(), |row| places[row] as usize), to);
    }

    fn rows(
        &self,
        pool: &mut Pool<Scratch>,
        frame: &Rgb,
        (count, place): (usize, impl Fn(usize) -> usize + Sync),
        to: &mut Operand,
    ) {
        let stride = to.stride();
        pool.over(to.rows_mut(count), (4, stride), |scratch, (first, _), mut block| {
            for row in 0..block.rows() {
                self.patch(frame, place(first + row), scratch, block.row(row));
            }
        });
    }

    /// Fills the channels of a patch, each in the order (y, x), with `value(channel, byte)`.
    fn fill<T>(&self, frame: &Rgb, patch: usize, channels: [&mut [T]; 3], value: impl Fn(usize, u8) -> T) {
        let side = self.patch;
        let (top, left) = (patch / self.cols * side, patch % self.cols * side);
        for (number, channel) in channels.into_iter().enumerate() {
            for (y, to) in channel.chunks_exact_mut(side).enumerate() {
                let line = &frame.data[((top + y) * self.width + left) * 3..][..3 * side];
                let (pixels, _) = line.as_chunks::<3>();
                to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = value(number, pixel[number]));
            }
        }
    }

    fn patch(&self, frame: &Rgb, patch: usize, scratch: &mut Scratch, to: &mut [u32]) {
        let channel = self.patch * self.patch;
        if self.format == Format::Int8 {
            // Pixels are bytes already: nothing is rounded.
            let last = to.len() - 2;
            (to[last], to[last + 1]) = (1f32.to_bits(), MIDDLE.to_bits());
            let channels = split(&mut bytes_mut(&mut to[..last])[..3 * channel]);
            return self.fill(frame, patch, channels, |_, byte| byte);
        }
        let row = &mut scratch.row[..3 * channel];
        self.fill(frame, patch, split(row), |channel, byte| self.table[channel][usize::from(byte)]);
        pack_row(self.isa, row, self.format, to);
    }

    /// Normalised patches `[patches, 3 * patch²]` to their rows of `to`.
    pub(super) fn patches(&self, pool: &mut Pool<Scratch>, patches: &[f32], to: &mut Operand) {
        let channel = self.patch * self.patch;
        let count = patches.len() / (3 * channel);
        let stride = to.stride();
        pool.over(to.rows_mut(count), (1, stride), |scratch, (first, _), mut block| {
            let row = &mut scratch.row[..3 * channel];
            row.copy_from_slice(&patches[first * 3 * channel..][..3 * channel]);
            if self.format != Format::F32 {
                for (c, values) in row.chunks_exact_mut(channel).enumerate() {
                    let (by, plus) = (255.0 * self.std[c], 255.0 * self.mean[c] - MIDDLE);
                    values.iter_mut().for_each(|value| *value = *value * by + plus);
                }
            }
            pack_row(self.isa, row, self.format, block.row(0));
        });
    }
}

/// A row in its three channels.
fn split<T>(row: &mut [T]) -> [&mut [T]; 3] {
    let (red, rest) = row.split_at_mut(row.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    [red, green, blue]
}
