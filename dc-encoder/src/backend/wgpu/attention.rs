//! Exact attention of queries to keys, and the convolution of values.

use wgpu::Buffer;

use super::gpu::Constant::{Real, Whole};
use super::gpu::Matrix;
use super::layers::THREADS;
use super::steps::{Builder, Grid, Recipe, Step};

const ATTENTION: &str = include_str!("shaders/attention.wgsl");
const CONVOLUTION: &str = include_str!("shaders/convolution.wgsl");

/// Queries of one workgroup.
const QUERIES: usize = 16;
/// Tokens that a thread of the convolution takes.
const CONVOLVED: usize = 8;

/// How the heads of a model lie side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) width: usize,
    /// Keys that a workgroup holds at a time.
    held: usize,
}

impl Heads {
    /// Heads of this width, if a workgroup's `memory` (in bytes) is enough for them.
    pub(super) fn new(count: usize, width: usize, memory: u32) -> Option<Self> {
        let numbers = |held: usize| (QUERIES + held) * (width + 1) + QUERIES * held;
        let held = [32, 16, 8, 4].into_iter().find(|held| 4 * numbers(*held) <= memory as usize)?;
        Some(Self { count, width, held })
    }

    /// Scores are multiplied by this.
    pub(super) fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Width of all heads.
    pub(super) fn inner(&self) -> usize {
        self.count * self.width
    }
}

/// Columns of a matrix from `first`, heads side by side, `rows` rows a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) first: usize,
    pub(super) rows: usize,
}

impl Builder<'_> {
    /// `to = softmax(queries · keysᵀ / sqrt(width)) · values` for every head.
    pub(super) fn attend(
        &mut self,
        heads: &Heads,
        [queries, keys, values]: [Part<'_>; 3],
        to: &Matrix,
    ) -> Step {
        self.step(&Recipe {
            label: "attention",
            parts: &[ATTENTION],
            constants: &[
                ("WIDTH", Whole(heads.width)),
                ("KEYS_HELD", Whole(heads.held)),
                ("SCALE", Real(heads.scale())),
                ("QUERIES", Whole(queries.rows)),
                ("QUERIES_STRIDE", Whole(queries.matrix.stride)),
                ("QUERIES_FIRST", Whole(queries.first)),
                ("KEYS", Whole(keys.rows)),
                ("KEYS_STRIDE", Whole(keys.matrix.stride)),
                ("KEYS_FIRST", Whole(keys.first)),
                ("VALUES_STRIDE", Whole(values.matrix.stride)),
                ("VALUES_FIRST", Whole(values.first)),
                ("OUTPUT_STRIDE", Whole(to.stride)),
            ],
            buffers: &[&queries.matrix.buffer, &keys.matrix.buffer, &values.matrix.buffer, &to.buffer],
            grid: Grid::Frames { across: queries.rows.div_ceil(QUERIES), down: heads.count, each: 1 },
        })
    }

    /// Adds the convolution of `values` with `weight [heads, taps]` to `to`.
    pub(super) fn convolve(
        &mut self,
        heads: &Heads,
        values: Part<'_>,
        (weight, taps): (&Buffer, usize),
        to: &Matrix,
    ) -> Step {
        self.step(&Recipe {
            label: "convolution",
            parts: &[CONVOLUTION],
            constants: &[
                ("WIDTH", Whole(heads.width)),
                ("COLS", Whole(heads.inner())),
                ("TAPS", Whole(taps)),
                ("TOKENS", Whole(values.rows)),
                ("VALUES_STRIDE", Whole(values.matrix.stride)),
                ("VALUES_FIRST", Whole(values.first)),
                ("OUTPUT_STRIDE", Whole(to.stride)),
            ],
            buffers: &[&values.matrix.buffer, weight, &to.buffer],
            grid: Grid::Frames {
                across: heads.inner().div_ceil(THREADS),
                down: values.rows.div_ceil(CONVOLVED),
                each: 1,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_hold_as_many_keys_as_a_workgroup_has_memory_for() {
        let held = |width, memory| Heads::new(1, width, memory).map(|heads| heads.held);
        assert_eq!(held(64, 16 << 10), Some(32));
        assert_eq!(held(128, 16 << 10), Some(8));
        assert_eq!(held(400, 32 << 10), Some(4));
        assert_eq!(held(400, 16 << 10), None);
    }
}
