//! From hidden tokens to numbers that leave the device (see [`crate::model::Pool`]).
//!
//! ```text
//! hidden ─┬─► means of regions ─► embed ─► embedding      mean, regions
//!         └─► embed ─► latent tokens ─► means and texture of regions ─► embedding      cells
//! ```
//! In f32 in every precision: it is small, and its rounding would go straight into the embedding.

use super::layers::{Layer, THREADS};
use super::nystrom::Groups;
use super::plan::Constant::{Real, Whole};
use super::plan::{Builder, Element, Grid, Matrix, Product, Recipe, Step};
use crate::backend::source::Source;
use crate::model::cells::REGION_NUMBERS;
use crate::model::config::Pooling;
use crate::model::{Config, ModelError, region_tokens};

const MEANS: &str = include_str!("kernels/means.cu");
const CELLS: &str = include_str!("kernels/cells.cu");

/// Added to a region's variance before the square root, as in the model.
const VARIANCE_EPS: f32 = 1e-6;

/// Steps, and the matrix that they leave for the processor.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) steps: Vec<Step>,
    pub(super) result: Matrix,
    /// Rows of a frame.
    pub(super) per_frame: usize,
    /// Rows of a frame that are not part of the answer: the class token's.
    pub(super) skip: usize,
}

impl Output {
    /// Bytes of the result of so many frames.
    pub(super) fn bytes(&self, frames: usize) -> usize {
        self.result.bytes(frames * self.per_frame)
    }

    /// The numbers of each frame, from the result as it lies in memory.
    pub(super) fn gather(&self, words: &[f32], frames: usize) -> Vec<Vec<f32>> {
        let Self { result, per_frame, skip, .. } = self;
        let frame = |words: &[f32]| {
            words
                .chunks_exact(result.stride)
                .skip(*skip)
                .flat_map(|row| row[..result.cols].to_vec())
                .collect()
        };
        words.chunks_exact(per_frame * result.stride).take(frames).map(frame).collect()
    }
}

/// From hidden tokens to the embedding and the latent tokens.
#[derive(Debug)]
pub(super) struct Readout {
    pub(super) embedding: Output,
    pub(super) latent: Output,
    /// Whether the embedding is made from the latent tokens.
    pub(super) from_latent: bool,
}

impl Readout {
    /// For `hidden [batch * tokens, dim]`.
    pub(super) fn new(
        builder: &mut Builder,
        source: &Source<'_>,
        config: &Config,
        hidden: &Matrix,
    ) -> Result<Self, ModelError> {
        let layer = Layer::read(builder, source, "embed", (config.latent_dim(), Element::F32))?;
        let latent = builder.read_out(&layer, hidden, (Vec::new(), config.tokens()));
        let latent = Output { skip: usize::from(config.class_token), ..latent };
        let from_latent = matches!(config.pooling, Pooling::Cells { .. });
        let embedding = if from_latent {
            builder.cells(config, &latent.result)
        } else {
            builder.regions(config, &layer, hidden)
        };
        Ok(Self { embedding, latent, from_latent })
    }
}

impl Builder {
    /// `per_frame` rows through the last layer, after `steps`.
    fn read_out(
        &mut self,
        layer: &Layer,
        from: &Matrix,
        (mut steps, per_frame): (Vec<Step>, usize),
    ) -> Output {
        let result = self.rows("readout", Element::F32, (per_frame, layer.out()));
        let product = Product { bias: Some(layer.bias), ..layer.product(from, &result, per_frame) };
        steps.push(Step::Product(product));
        Output { steps, result, per_frame, skip: 0 }
    }

    /// Means of the regions, read out.
    fn regions(&mut self, config: &Config, layer: &Layer, hidden: &Matrix) -> Output {
        let groups = Groups::new(self, &region_tokens(config));
        let means = self.rows("regions", Element::F32, (groups.count, config.dim));
        let average = self.launch(&Recipe {
            label: "means",
            parts: &[MEANS],
            constants: &[
                ("TOKENS", Whole(config.tokens())),
                ("GROUPS", Whole(groups.count)),
                ("COLS", Whole(config.dim)),
                ("INPUT_STRIDE", Whole(hidden.stride)),
                ("OUTPUT_STRIDE", Whole(means.stride)),
            ],
            arguments: &[hidden.memory, groups.starts, groups.members, means.memory],
            grid: Grid { across: config.dim.div_ceil(THREADS), down: groups.count, each: 1 },
            threads: THREADS,
        });
        self.read_out(layer, &means, (vec![average], groups.count))
    }

    /// Means and texture of the regions of the maps that latent tokens are.
    fn cells(&mut self, config: &Config, latent: &Matrix) -> Output {
        let (grid, (rows, cols)) = (config.grid(), config.pooling.regions());
        let numbers = rows * cols * REGION_NUMBERS;
        let memory = self.memory("embedding", self.batch * numbers * Element::F32.bytes());
        let result =
            Matrix { memory, element: Element::F32, rows: self.batch, cols: numbers, stride: numbers };
        let step = self.launch(&Recipe {
            label: "cells",
            parts: &[CELLS],
            constants: &[
                ("THREADS", Whole(THREADS)),
                ("TOKENS", Whole(config.tokens())),
                ("STRIDE", Whole(latent.stride)),
                ("FIRST", Whole(usize::from(config.class_token))),
                ("GRID_ROWS", Whole(grid.0)),
                ("GRID_COLS", Whole(grid.1)),
                ("CELLS", Whole(config.cells())),
                ("REGION_ROWS", Whole(rows)),
                ("REGION_COLS", Whole(cols)),
                ("VARIANCE_EPS", Real(VARIANCE_EPS)),
            ],
            arguments: &[latent.memory, memory],
            grid: Grid { across: rows * cols, down: 1, each: 1 },
            threads: THREADS,
        });
        Output { steps: vec![step], result, per_frame: 1, skip: 0 }
    }
}
