//! Linear layers and norms over rows that go without their frame's centre.
//!
//! ```text
//! x + offset ─► centre (mean of a few normed rows) ─► split over rows ─► product ─► sums
//!            └► norm, less the centre ─► operand ─► product                          │ + bias
//!                                                   ├ added to x; the sums go to offset ◄┤ settle
//!                                                   └ the next operand; its centre ◄─────┘ common
//! ```
//! The tokens of a frame are nearly alike, and rounding what they share would drown what tells two frames apart (see
//! `backend/cpu/linear`). What a layer gives all rows of a frame is one row: it passes beside them with twice the digits,
//! and never through a matrix of all tokens. Biases are part of it.

use super::plan::Constant::{Flag, Real, Type, Whole};
use super::plan::{Builder, Count, Element, Grid, Matrix, Memory, Product, Recipe, Step};
use crate::backend::source::Source;
use crate::model::ModelError;

/// Threads of the kernels that take a column each.
pub(super) const THREADS: usize = 256;
/// Threads of a warp.
const WARP: usize = 32;
/// Rows of a frame that its centre is the mean of, as on the processor.
const SAMPLES: usize = 12;
/// Rows that a thread of the GELU takes.
const GELU_ROWS: usize = 8;

const SETTLE: &str = include_str!("kernels/settle.cu");
const CENTRE: &str = include_str!("kernels/centre.cu");
const NORM: &str = include_str!("kernels/norm.cu");
const COMMON: &str = include_str!("kernels/common.cu");
const GELU: &str = include_str!("kernels/gelu.cu");

/// A linear layer's weights `[out, input]` and bias `[out]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    weight: Matrix,
    pub(super) bias: Memory,
}

impl Layer {
    /// Reads `weight [out, input]` and, if there is one, `bias [out]`.
    pub(super) fn read(
        builder: &mut Builder,
        source: &Source<'_>,
        name: &str,
        (out, element): (usize, Element),
    ) -> Result<Self, ModelError> {
        let weight = source.get(&format!("{name}.weight"))?;
        let bias = source.some(&format!("{name}.bias"))?.unwrap_or_else(|| vec![0.0; out]);
        Ok(Self::new(builder, (&weight, &bias), element))
    }

    /// From numbers.
    pub(super) fn new(builder: &mut Builder, (weight, bias): (&[f32], &[f32]), element: Element) -> Self {
        let weight = builder.matrix("weight", element, (weight, weight.len() / bias.len()));
        Self { weight, bias: builder.numbers("bias", bias) }
    }

    /// Numbers a row of the result has.
    pub(super) fn out(&self) -> usize {
        self.weight.rows
    }

    /// `to = from · weightᵀ`, for `per_frame` rows a frame.
    pub(super) fn product(&self, from: &Matrix, to: &Matrix, per_frame: usize) -> Product {
        Product {
            left: from.side(),
            right: self.weight.side(),
            weights: true,
            add: to.side(),
            out: to.side(),
            rows: per_frame,
            inner: self.weight.cols,
            cols: self.weight.rows,
            count: Count::Rows,
            alpha: 1.0,
            beta: 0.0,
            bias: None,
        }
    }
}

/// A LayerNorm's weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    weight: Memory,
    bias: Memory,
    eps: f32,
}

impl Norm {
    pub(super) fn read(
        builder: &mut Builder,
        source: &Source<'_>,
        name: &str,
        eps: f64,
    ) -> Result<Self, ModelError> {
        let mut get = |part: &str| Ok(builder.numbers("norm", &source.get(&format!("{name}.{part}"))?));
        Ok(Self { weight: get("weight")?, bias: get("bias")?, eps: eps as f32 })
    }
}

/// The residual stream: rows, and what all rows of a frame have besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// `[batch * tokens, dim]`, f32.
    pub(super) x: Matrix,
    /// `[batch, dim]`, f32.
    pub(super) offset: Matrix,
    pub(super) tokens: usize,
}

/// What was taken from the rows of each frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Centre {
    /// `[batch, cols]`, f32.
    numbers: Matrix,
    /// The same split over rows of an operand, `[batch * split, cols]`.
    rows: Matrix,
}

impl Centre {
    pub(super) fn new(builder: &mut Builder, cols: usize) -> Self {
        let element = builder.element;
        Self {
            numbers: builder.rows("centre", Element::F32, (1, cols)),
            rows: builder.rows("centre rows", element, (element.split(), cols)),
        }
    }
}

/// What a layer gives all rows of each frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    /// Of each row of the centre, `[batch * split, out]`, f32.
    sums: Matrix,
    /// Their sum and the bias, `[batch, out]`, f32.
    pub(super) whole: Matrix,
}

impl Common {
    pub(super) fn new(builder: &mut Builder, cols: usize) -> Self {
        let split = builder.element.split();
        Self {
            sums: builder.rows("sums", Element::F32, (split, cols)),
            whole: builder.rows("common", Element::F32, (1, cols)),
        }
    }
}

impl Builder {
    /// `normed = norm(x + offset)` without its centre.
    pub(super) fn norm(
        &mut self,
        norm: &Norm,
        stream: &Stream,
        centre: &Centre,
        normed: &Matrix,
    ) -> [Step; 2] {
        [self.centre(norm, stream, centre), self.norm_rows(norm, stream, Some(centre), normed)]
    }

    /// `hidden = norm(x + offset)` whole.
    pub(super) fn last_norm(&mut self, norm: &Norm, stream: &Stream, hidden: &Matrix) -> Step {
        self.norm_rows(norm, stream, None, hidden)
    }

    fn centre(&mut self, norm: &Norm, stream: &Stream, centre: &Centre) -> Step {
        let Stream { x, offset, tokens } = stream;
        let samples = SAMPLES.min(*tokens);
        self.launch(&Recipe {
            label: "centre",
            parts: &[CENTRE],
            constants: &[
                ("T", Type(self.element)),
                ("SPLIT", Whole(self.element.split())),
                ("SAMPLES", Whole(samples)),
                ("TOKENS", Whole(*tokens)),
                ("COLS", Whole(x.cols)),
                ("STRIDE", Whole(x.stride)),
                ("EPS", Real(norm.eps)),
            ],
            arguments: &[
                x.memory,
                offset.memory,
                norm.weight,
                norm.bias,
                centre.numbers.memory,
                centre.rows.memory,
            ],
            grid: Grid { across: 1, down: 1, each: 1 },
            threads: samples * WARP,
        })
    }

    fn norm_rows(&mut self, norm: &Norm, stream: &Stream, centre: Option<&Centre>, to: &Matrix) -> Step {
        let Stream { x, offset, tokens } = stream;
        // What is not centred reads no centre: any memory stands in.
        let taken = centre.map_or(offset.memory, |centre| centre.numbers.memory);
        self.launch(&Recipe {
            label: "norm",
            parts: &[NORM],
            constants: &[
                ("T", Type(to.element)),
                ("THREADS", Whole(THREADS)),
                ("TOKENS", Whole(*tokens)),
                ("COLS", Whole(x.cols)),
                ("STRIDE", Whole(x.stride)),
                ("CENTRED", Flag(centre.is_some())),
                ("EPS", Real(norm.eps)),
            ],
            arguments: &[x.memory, offset.memory, norm.weight, norm.bias, taken, to.memory],
            grid: Grid { across: tokens.div_ceil(THREADS / WARP), down: 1, each: 1 },
            threads: THREADS,
        })
    }

    /// What `layer` gives all rows of a frame whose operand has this centre.
    pub(super) fn sums(&mut self, layer: &Layer, centre: &Centre, common: &Common) -> Step {
        Step::Product(layer.product(&centre.rows, &common.sums, self.element.split()))
    }

    /// The same whole, and its columns from `first` on, through GELU or not, as the centre of the next operand.
    pub(super) fn common(
        &mut self,
        layer: &Layer,
        common: &Common,
        (next, first, gelu): (&Centre, usize, bool),
    ) -> Step {
        self.launch(&Recipe {
            label: "common",
            parts: &[COMMON],
            constants: &[
                ("T", Type(self.element)),
                ("SPLIT", Whole(self.element.split())),
                ("COLS", Whole(layer.out())),
                ("STRIDE", Whole(common.sums.stride)),
                ("FIRST", Whole(first)),
                ("NEXT_STRIDE", Whole(next.numbers.stride)),
                ("GELU", Flag(gelu)),
            ],
            arguments: &[
                common.sums.memory,
                layer.bias,
                common.whole.memory,
                next.numbers.memory,
                next.rows.memory,
            ],
            grid: Grid { across: layer.out().div_ceil(THREADS), down: 1, each: 1 },
            threads: THREADS,
        })
    }

    /// Adds what `layer` gives all rows of a frame to the stream's offset.
    pub(super) fn settle(&mut self, layer: &Layer, common: &Common, stream: &Stream) -> Step {
        let offset = &stream.offset;
        self.launch(&Recipe {
            label: "settle",
            parts: &[SETTLE],
            constants: &[
                ("SPLIT", Whole(self.element.split())),
                ("COLS", Whole(offset.cols)),
                ("STRIDE", Whole(offset.stride)),
            ],
            arguments: &[common.sums.memory, layer.bias, offset.memory],
            grid: Grid { across: offset.cols.div_ceil(THREADS), down: 1, each: 1 },
            threads: THREADS,
        })
    }

    /// GELU of `hidden`, in place, without what it makes of `common`, which is `centre`.
    pub(super) fn gelu(&mut self, hidden: &Matrix, common: &Common, centre: &Centre, tokens: usize) -> Step {
        let vectors = hidden.stride * hidden.element.bytes() / 16;
        self.launch(&Recipe {
            label: "gelu",
            parts: &[GELU],
            constants: &[
                ("T", Type(hidden.element)),
                ("ROWS", Whole(GELU_ROWS)),
                ("TOKENS", Whole(tokens)),
                ("STRIDE", Whole(hidden.stride)),
            ],
            arguments: &[hidden.memory, common.whole.memory, centre.numbers.memory],
            grid: Grid { across: vectors.div_ceil(THREADS), down: tokens.div_ceil(GELU_ROWS), each: 1 },
            threads: THREADS,
        })
    }
}
