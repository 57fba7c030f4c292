//! Nyström attention (Xiong et al., 2021): `k1 · (pinv(k2) · (k3 · v))`, as the processor's own path has it.
//!
//! ```text
//! queries, keys ─► landmark means ql, kl
//! ql to all keys: exact attention                    = k3 · v      [landmarks, width] a head
//! softmax(ql klᵀ) ─► pseudo-inverse ─► · (k3 · v)    = w           f32 in every precision
//! all queries to keys kl with values w: exact attention = the result
//! ```
//! The pseudo-inverse does not sum to one, so values pass through it whole, and lose their centre again after it.

use super::attention::{Attention, Heads, Part};
use super::layers::THREADS;
use super::plan::Constant::{Real, Type, Whole};
use super::plan::{Builder, Count, Element, Grid, Matrix, Memory, Product, Recipe, Side, Step};

const LANDMARKS: &str = include_str!("kernels/landmarks.cu");
const SCORES: &str = include_str!("kernels/scores.cu");
const START: &str = include_str!("kernels/start.cu");
const WEIGHED: &str = include_str!("kernels/weighed.cu");

/// Rows that a block of the landmarks' scores takes.
const SCORE_ROWS: usize = 8;

/// Groups of the rows of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Groups {
    pub(super) starts: Memory,
    pub(super) members: Memory,
    pub(super) count: usize,
}

impl Groups {
    /// From the rows of each group; every group has a row.
    pub(super) fn new(builder: &mut Builder, groups: &[Vec<u32>]) -> Self {
        let mut starts = vec![0u32];
        starts.extend(groups.iter().scan(0, |end, group| {
            *end += group.len() as u32;
            Some(*end)
        }));
        Self {
            starts: builder.indices("starts", &starts),
            members: builder.indices("members", &groups.concat()),
            count: groups.len(),
        }
    }
}

/// Landmarks of a model, and memory for what is made of them; all blocks share it.
#[derive(Debug)]
pub(super) struct Nystrom {
    heads: Heads,
    groups: Groups,
    iterations: usize,
    /// Means of queries, then of keys, `[batch * landmarks, 2 * inner]`: in f32, and as an operand.
    landmarks: Matrix,
    landmark_rows: Matrix,
    /// `k3 · v`, `w`, and `w` as an operand: `[batch * heads, landmarks, width]`.
    values: Memory,
    weighed: Memory,
    weighed_rows: Memory,
    /// `[batch * heads, landmarks, landmarks]` each: the kernel, and what its inverse is made in.
    kernel: Memory,
    inverse: [Memory; 4],
}

impl Nystrom {
    pub(super) fn new(builder: &mut Builder, heads: Heads, groups: Groups, iterations: usize) -> Self {
        let (element, size) = (builder.element, groups.count);
        let matrices = builder.batch * heads.count;
        let mut memory = |label, numbers, element: Element| builder.memory(label, numbers * element.bytes());
        let columns = matrices * size * heads.width;
        let (values, weighed, weighed_rows) = (
            memory("landmark values", columns, Element::F32),
            memory("weighed values", columns, Element::F32),
            memory("weighed rows", columns, element),
        );
        let mut square = |label| memory(label, matrices * size * size, Element::F32);
        let kernel = square("kernel");
        let inverse = [square("inverse"), square("az"), square("second factor"), square("third factor")];
        let landmarks = builder.rows("landmarks", Element::F32, (size, 2 * heads.inner()));
        let landmark_rows = builder.rows("landmark rows", element, (size, 2 * heads.inner()));
        Self {
            heads,
            groups,
            iterations,
            landmarks,
            landmark_rows,
            values,
            weighed,
            weighed_rows,
            kernel,
            inverse,
        }
    }

    /// The steps of an attention of all tokens, in place of the exact one; `qkv` is what its parts lie in.
    pub(super) fn steps(&self, builder: &mut Builder, qkv: &Matrix, exact: &Attention<'_>) -> Vec<Step> {
        let Self { heads, groups, .. } = self;
        let (inner, size) = (heads.inner(), groups.count);
        let landmark = |first| Part::beside(heads, &self.landmark_rows, (first, size));
        let mut steps = vec![
            self.means(builder, qkv, exact),
            builder.attend(
                heads,
                &Attention {
                    queries: landmark(0),
                    out: Part::after(heads, (self.values, Element::F32), size),
                    queries_centred: false,
                    whole_result: true,
                    convolution: None,
                    ..*exact
                },
            ),
            self.scores(builder),
            self.start(builder),
        ];
        let inverse = self.invert(&mut steps);
        steps.push(self.product([inverse, self.values, self.weighed], (self.values, 1.0, 0.0), heads.width));
        steps.push(self.rounded(builder, exact.common));
        let values = Part::after(heads, (self.weighed_rows, builder.element), size);
        steps.push(builder.attend(heads, &Attention { keys: landmark(inner), values, ..*exact }));
        steps
    }

    fn means(&self, builder: &mut Builder, qkv: &Matrix, exact: &Attention<'_>) -> Step {
        let inner = self.heads.inner();
        builder.launch(&Recipe {
            label: "landmarks",
            parts: &[LANDMARKS],
            constants: &[
                ("T", Type(builder.element)),
                ("TOKENS", Whole(exact.queries.rows)),
                ("GROUPS", Whole(self.groups.count)),
                ("INNER", Whole(inner)),
                ("STRIDE", Whole(qkv.stride)),
                ("WHOLE_STRIDE", Whole(exact.common.stride)),
                ("OUTPUT_STRIDE", Whole(self.landmarks.stride)),
            ],
            arguments: &[
                qkv.memory,
                exact.common.memory,
                self.groups.starts,
                self.groups.members,
                self.landmarks.memory,
                self.landmark_rows.memory,
            ],
            grid: Grid { across: (2 * inner).div_ceil(THREADS), down: self.groups.count, each: 1 },
            threads: THREADS,
        })
    }

    /// `softmax(ql · klᵀ / sqrt(width))`.
    fn scores(&self, builder: &mut Builder) -> Step {
        let (heads, size) = (&self.heads, self.groups.count);
        builder.launch(&Recipe {
            label: "scores",
            parts: &[SCORES],
            constants: &[
                ("SIZE", Whole(size)),
                ("HEADS", Whole(heads.count)),
                ("WIDTH", Whole(heads.width)),
                ("STRIDE", Whole(self.landmarks.stride)),
                ("SCALE", Real(heads.scale())),
            ],
            arguments: &[self.landmarks.memory, self.kernel],
            grid: Grid { across: size.div_ceil(SCORE_ROWS), down: heads.count, each: 1 },
            threads: 32 * SCORE_ROWS,
        })
    }

    fn start(&self, builder: &mut Builder) -> Step {
        builder.launch(&Recipe {
            label: "start",
            parts: &[START],
            constants: &[("SIZE", Whole(self.groups.count)), ("THREADS", Whole(THREADS))],
            arguments: &[self.kernel, self.inverse[0]],
            grid: Grid { across: 1, down: 1, each: self.heads.count },
            threads: THREADS,
        })
    }

    /// `z ← z (13 I - az (15 I - az (7 I - az))) / 4` (Razavi et al., 2014); which memory the last one is in. Every factor
    /// is a product with a multiple of one of its sides added: nothing is done between them.
    fn invert(&self, steps: &mut Vec<Step>) -> Memory {
        let size = self.groups.count;
        let [mut z, mut az, second, third] = self.inverse;
        for _ in 0..self.iterations {
            for (operands, added) in [
                ([self.kernel, z, az], (z, 1.0, 0.0)),
                ([az, az, second], (az, -1.0, 7.0)),
                ([az, second, third], (az, -1.0, 15.0)),
                // `az` is free by now.
                ([z, third, az], (z, -0.25, 3.25)),
            ] {
                steps.push(self.product(operands, added, size));
            }
            std::mem::swap(&mut z, &mut az);
        }
        z
    }

    /// `out = alpha · a b + beta · add` of every head: a `[landmarks, landmarks]`, the others `[landmarks, cols]`.
    fn product(&self, [a, b, out]: [Memory; 3], (add, alpha, beta): (Memory, f32, f32), cols: usize) -> Step {
        let size = self.groups.count;
        let side = |memory, cols| Side { memory, element: Element::F32, stride: cols, batch: size * cols };
        Step::Product(Product {
            left: side(a, size),
            right: side(b, cols),
            weights: false,
            add: side(add, cols),
            out: side(out, cols),
            rows: size,
            inner: size,
            cols,
            count: Count::Each(self.heads.count),
            alpha,
            beta,
            bias: None,
        })
    }

    /// `w` without the centre, as an operand.
    fn rounded(&self, builder: &mut Builder, common: &Matrix) -> Step {
        let (heads, size) = (&self.heads, self.groups.count);
        builder.launch(&Recipe {
            label: "weighed",
            parts: &[WEIGHED],
            constants: &[
                ("T", Type(builder.element)),
                ("SIZE", Whole(size)),
                ("HEADS", Whole(heads.count)),
                ("WIDTH", Whole(heads.width)),
                ("WHOLE_STRIDE", Whole(common.stride)),
            ],
            arguments: &[self.weighed, common.memory, self.weighed_rows],
            grid: Grid { across: (size * heads.width).div_ceil(THREADS), down: 1, each: heads.count },
            threads: THREADS,
        })
    }
}
