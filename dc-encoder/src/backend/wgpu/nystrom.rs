//! Nyström attention (Xiong et al., 2021): `k1 · (pinv(k2) · (k3 · v))`, as the processor's own path has it.
//!
//! ```text
//! queries, keys ─► landmark means ql, kl
//! ql to all keys: exact attention                    = k3 · v      [landmarks, heads * width]
//! softmax(ql klᵀ) ─► pseudo-inverse ─► · (k3 · v)    = w
//! all queries to keys kl with values w: exact attention = the result
//! ```

use wgpu::Buffer;

use super::attention::{Heads, Part};
use super::gpu::Constant::{Real, Whole};
use super::gpu::{Matrix, TILE};
use super::layers::{Groups, TILE_SOURCE};
use super::steps::{Builder, Grid, Recipe, Step};

const KERNEL: &str = include_str!("shaders/kernel.wgsl");
const START: &str = include_str!("shaders/start.wgsl");
const PRODUCT: &str = include_str!("shaders/product.wgsl");

/// Landmarks of a model, and memory for what is made of them; all blocks share it.
#[derive(Debug)]
pub(super) struct Nystrom {
    groups: Groups,
    iterations: usize,
    /// Means of queries, then of keys: `[batch * landmarks, 2 * inner]`.
    landmarks: Matrix,
    /// `k3 · v` and `w`: `[batch * landmarks, inner]`.
    values: Matrix,
    weighed: Matrix,
    /// `[batch * heads, landmarks, landmarks]` each: the kernel, and what its inverse is made in.
    kernel: Buffer,
    inverse: [Buffer; 4],
}

/// The right side of a product becomes `shift * I + sign * b`, the result is multiplied by `gain`.
#[derive(Debug, Clone, Copy)]
struct Change {
    shift: f32,
    sign: f32,
    gain: f32,
}

const PLAIN: Change = Change { shift: 0.0, sign: 1.0, gain: 1.0 };

/// `gain * (by * I - b)`.
fn less(by: f32, gain: f32) -> Change {
    Change { shift: by, sign: -1.0, gain }
}

/// Where the matrices of a product lie: from frame to frame, from head to head, from row to row.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    buffer: &'a Buffer,
    frame: usize,
    head: usize,
    stride: usize,
}

impl Nystrom {
    pub(super) fn new(builder: &Builder<'_>, heads: &Heads, groups: Groups, iterations: usize) -> Self {
        let (gpu, rows, inner) = (builder.gpu, builder.batch * groups.count(), heads.inner());
        let square = |label| gpu.memory(label, rows * heads.count * groups.count());
        Self {
            iterations,
            landmarks: Matrix::zeros(gpu, "landmarks", rows, 2 * inner),
            values: Matrix::zeros(gpu, "landmark values", rows, inner),
            weighed: Matrix::zeros(gpu, "weighed values", rows, inner),
            kernel: square("kernel"),
            inverse: [square("inverse"), square("az"), square("second factor"), square("third factor")],
            groups,
        }
    }

    /// The steps from `qkv` (queries, keys and values of `tokens` tokens a frame) to `to`.
    pub(super) fn steps(
        &self,
        builder: &mut Builder<'_>,
        heads: &Heads,
        [queries, keys, values]: [Part<'_>; 3],
        to: &Matrix,
    ) -> Vec<Step> {
        let count = self.groups.count();
        let part = |matrix, first| Part { matrix, first, rows: count };
        let landmarks = [part(&self.landmarks, 0), part(&self.landmarks, heads.inner())];
        let mut steps = vec![
            builder.means(&self.groups, (queries.matrix, &self.landmarks), queries.rows),
            builder.attend(heads, [landmarks[0], keys, values], &self.values),
            self.kernel(builder, heads),
            self.start(builder, heads),
        ];
        let inverse = self.invert(builder, heads, &mut steps);
        let operands = [
            self.square(heads, inverse),
            self.beside(heads, &self.values),
            self.beside(heads, &self.weighed),
        ];
        steps.push(self.product(builder, heads, operands, (heads.width, PLAIN)));
        steps.push(builder.attend(heads, [queries, landmarks[1], part(&self.weighed, 0)], to));
        steps
    }

    /// `softmax(ql · klᵀ / sqrt(width))`.
    fn kernel(&self, builder: &mut Builder<'_>, heads: &Heads) -> Step {
        let size = self.groups.count();
        builder.step(&Recipe {
            label: "landmark kernel",
            parts: &[KERNEL],
            constants: &[
                ("SIZE", Whole(size)),
                ("HEADS", Whole(heads.count)),
                ("WIDTH", Whole(heads.width)),
                ("SCALE", Real(heads.scale())),
                ("STRIDE", Whole(self.landmarks.stride)),
                ("KEYS_FIRST", Whole(heads.inner())),
            ],
            buffers: &[&self.landmarks.buffer, &self.kernel],
            grid: Grid::Frames { across: size, down: heads.count, each: 1 },
        })
    }

    fn start(&self, builder: &mut Builder<'_>, heads: &Heads) -> Step {
        builder.step(&Recipe {
            label: "start of the inverse",
            parts: &[START],
            constants: &[("SIZE", Whole(self.groups.count()))],
            buffers: &[&self.kernel, &self.inverse[0]],
            grid: Grid::Frames { across: 1, down: 1, each: heads.count },
        })
    }

    /// `z ← z (13 I - az (15 I - az (7 I - az))) / 4` (Razavi et al., 2014); which buffer the last one is in.
    fn invert<'s>(&'s self, builder: &mut Builder<'_>, heads: &Heads, steps: &mut Vec<Step>) -> &'s Buffer {
        let size = self.groups.count();
        let [mut z, mut az, second, third] = self.inverse.each_ref();
        for _ in 0..self.iterations {
            for (operands, change) in [
                ([&self.kernel, z, az], PLAIN),
                ([az, az, second], less(7.0, 1.0)),
                ([az, second, third], less(15.0, 1.0)),
                // `az` is free by now.
                ([z, third, az], less(13.0, 0.25)),
            ] {
                let operands = operands.map(|buffer| self.square(heads, buffer));
                steps.push(self.product(builder, heads, operands, (size, change)));
            }
            std::mem::swap(&mut z, &mut az);
        }
        z
    }

    /// One matrix a head.
    fn square<'s>(&self, heads: &Heads, buffer: &'s Buffer) -> Place<'s> {
        let size = self.groups.count();
        Place { buffer, frame: heads.count * size * size, head: size * size, stride: size }
    }

    /// Heads side by side in the rows of a matrix.
    fn beside<'s>(&self, heads: &Heads, matrix: &'s Matrix) -> Place<'s> {
        let Matrix { buffer, stride, .. } = matrix;
        Place { buffer, frame: self.groups.count() * stride, head: heads.width, stride: *stride }
    }

    /// `output = gain * a · (shift * I + sign * b)`: a `[landmarks, landmarks]`, b `[landmarks, cols]`.
    fn product(
        &self,
        builder: &mut Builder<'_>,
        heads: &Heads,
        [a, b, output]: [Place<'_>; 3],
        (cols, change): (usize, Change),
    ) -> Step {
        let size = self.groups.count();
        builder.step(&Recipe {
            label: "product",
            parts: &[TILE_SOURCE, PRODUCT],
            constants: &[
                ("HEADS", Whole(heads.count)),
                ("ROWS", Whole(size)),
                ("INNER", Whole(size)),
                ("COLS", Whole(cols)),
                ("A_FRAME", Whole(a.frame)),
                ("A_HEAD", Whole(a.head)),
                ("A_STRIDE", Whole(a.stride)),
                ("B_FRAME", Whole(b.frame)),
                ("B_HEAD", Whole(b.head)),
                ("B_STRIDE", Whole(b.stride)),
                ("OUTPUT_FRAME", Whole(output.frame)),
                ("OUTPUT_HEAD", Whole(output.head)),
                ("OUTPUT_STRIDE", Whole(output.stride)),
                ("SHIFT", Real(change.shift)),
                ("SIGN", Real(change.sign)),
                ("GAIN", Real(change.gain)),
            ],
            buffers: &[a.buffer, b.buffer, output.buffer],
            grid: Grid::Frames { across: cols.div_ceil(TILE), down: size.div_ceil(TILE), each: heads.count },
        })
    }
}
