//! Linear layers, norms and means of rows.

use wgpu::Buffer;

use super::gpu::Constant::{Real, Whole};
use super::gpu::{Gpu, Matrix, TILE};
use super::steps::{Builder, Grid, Recipe, Step};
use crate::backend::source::Source;
use crate::model::ModelError;

/// Threads of the kernels that take a column each.
pub(super) const THREADS: usize = 64;
/// Rows of one workgroup of a norm.
const NORM_ROWS: usize = 4;

/// Source of the tile that products share.
pub(super) const TILE_SOURCE: &str = include_str!("shaders/tile.wgsl");
const LINEAR: &str = include_str!("shaders/linear.wgsl");
const NORM: &str = include_str!("shaders/norm.wgsl");
const MEANS: &str = include_str!("shaders/means.wgsl");

/// A linear layer's weights.
#[derive(Debug)]
pub(super) struct Layer {
    weight: Matrix,
    bias: Buffer,
}

impl Layer {
    /// Reads `weight [out, input]` and, if there is one, `bias [out]`.
    pub(super) fn read(gpu: &Gpu, source: &Source<'_>, name: &str, out: usize) -> Result<Self, ModelError> {
        let numbers = source.get(&format!("{name}.weight"))?;
        let bias = source.some(&format!("{name}.bias"))?.unwrap_or_else(|| vec![0.0; out]);
        let weight = Matrix::zeros(gpu, name, out, numbers.len() / out);
        weight.write(gpu, 0, &numbers);
        Ok(Self { weight, bias: gpu.filled(name, &bias) })
    }

    /// Numbers a row of the result has.
    pub(super) fn out(&self) -> usize {
        self.weight.rows
    }
}

/// A LayerNorm's weights.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Buffer,
    bias: Buffer,
    eps: f32,
}

impl Norm {
    pub(super) fn read(gpu: &Gpu, source: &Source<'_>, name: &str, eps: f64) -> Result<Self, ModelError> {
        let get = |part: &str| Ok(gpu.filled(name, &source.get(&format!("{name}.{part}"))?));
        Ok(Self { weight: get("weight")?, bias: get("bias")?, eps: eps as f32 })
    }
}

/// What becomes of a linear layer's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish<'a> {
    Store,
    /// Through an exact GELU.
    Gelu,
    /// Added to what is there.
    Add,
    /// Each patch to its token, with the positions `[patches, out]`.
    Place {
        positions: &'a Buffer,
        patches: usize,
        tokens: usize,
    },
}

impl Finish<'_> {
    fn source(self) -> &'static str {
        match self {
            Self::Store => include_str!("shaders/store.wgsl"),
            Self::Gelu => include_str!("shaders/gelu.wgsl"),
            Self::Add => include_str!("shaders/add.wgsl"),
            Self::Place { .. } => include_str!("shaders/place.wgsl"),
        }
    }
}

/// Groups of the rows of a frame.
#[derive(Debug)]
pub(super) struct Groups {
    starts: Buffer,
    members: Buffer,
    count: usize,
}

impl Groups {
    /// From the rows of each group; every group has a row.
    pub(super) fn new(gpu: &Gpu, groups: &[Vec<u32>]) -> Self {
        let mut starts = vec![0u32];
        starts.extend(groups.iter().scan(0, |end, group| {
            *end += group.len() as u32;
            Some(*end)
        }));
        let members = groups.concat();
        Self {
            starts: gpu.filled("starts", &starts),
            members: gpu.filled("members", &members),
            count: groups.len(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Builder<'_> {
    /// `to = finish(from · weightᵀ + bias)` for `per_frame` rows a frame.
    pub(super) fn linear(
        &mut self,
        layer: &Layer,
        (from, to): (&Matrix, &Matrix),
        finish: Finish<'_>,
        per_frame: usize,
    ) -> Step {
        let Layer { weight, bias } = layer;
        let mut constants = vec![
            ("WORDS", Whole(weight.stride / 4)),
            ("ROWS", Whole(self.batch * per_frame)),
            ("COLS", Whole(weight.rows)),
            ("OUTPUT_STRIDE", Whole(to.stride)),
        ];
        let mut buffers = vec![&from.buffer, &weight.buffer, bias, &to.buffer];
        if let Finish::Place { positions, patches, tokens } = finish {
            constants.extend([("PATCHES", Whole(patches)), ("TOKENS", Whole(tokens))]);
            buffers.push(positions);
        }
        self.step(&Recipe {
            label: "linear",
            parts: &[TILE_SOURCE, LINEAR, finish.source()],
            constants: &constants,
            buffers: &buffers,
            grid: Grid::Rows { across: weight.rows.div_ceil(TILE), per_frame, tile: TILE },
        })
    }

    /// `to = norm(from)`, both of the same shape.
    pub(super) fn norm(&mut self, norm: &Norm, (from, to): (&Matrix, &Matrix), per_frame: usize) -> Step {
        self.step(&Recipe {
            label: "norm",
            parts: &[NORM],
            constants: &[("COLS", Whole(from.cols)), ("STRIDE", Whole(from.stride)), ("EPS", Real(norm.eps))],
            buffers: &[&from.buffer, &norm.weight, &norm.bias, &to.buffer],
            grid: Grid::Rows { across: 1, per_frame, tile: NORM_ROWS },
        })
    }

    /// Means of groups of the `per_frame` rows of each frame, over the columns that `to` has.
    pub(super) fn means(
        &mut self,
        groups: &Groups,
        (from, to): (&Matrix, &Matrix),
        per_frame: usize,
    ) -> Step {
        self.step(&Recipe {
            label: "means",
            parts: &[MEANS],
            constants: &[
                ("TOKENS", Whole(per_frame)),
                ("GROUPS", Whole(groups.count)),
                ("COLS", Whole(to.cols)),
                ("INPUT_STRIDE", Whole(from.stride)),
                ("OUTPUT_STRIDE", Whole(to.stride)),
            ],
            buffers: &[&from.buffer, &groups.starts, &groups.members, &to.buffer],
            grid: Grid::Frames { across: to.cols.div_ceil(THREADS), down: groups.count, each: 1 },
        })
    }
}
