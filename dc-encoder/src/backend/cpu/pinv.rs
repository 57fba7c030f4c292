//! The iterative pseudo-inverse, applied to a few columns, in one thread's memory.
//!
//! A matrix lies in slabs of 32 columns, `[slab][row][32]`: a slab is at once a panel of the right side of a product, 32
//! steps of its left side, and what a product of one panel writes. Nothing is packed between two products.
//!
//! The last iteration is not computed as a matrix: `z ← z (13 I - az (15 I - az (7 I - az))) / 4` times `[landmarks,
//! width]` numbers needs products with those alone, a quarter of the work at 64 of 256 columns.

use super::simd::rows::{Scores, Softmax, soften};
use super::simd::{Format, Isa, Left, Panel, WIDTH, Words, floats, tile, words_of};

/// Working memory for matrices of one size.
#[derive(Debug)]
pub(super) struct Solver {
    isa: Isa,
    size: usize,
    /// The matrix, its inverse so far, their product, and two more.
    a: Words,
    z: Words,
    az: Words,
    inner: Words,
    next: Words,
    /// Columns `[slabs of width][size][32]`: the right side, and two more.
    columns: [Words; 3],
    /// Keys of the kernel as panels, and its powers row by row.
    keys: Words,
    powers: Words,
    state: [Vec<f32>; 2],
}

impl Solver {
    /// For matrices `[size, size]` and at most `width` columns.
    pub(super) fn new(isa: Isa, size: usize, width: usize) -> Self {
        let matrix = || Words::zeroed(size * size.next_multiple_of(WIDTH));
        let columns = || Words::zeroed(size * width.next_multiple_of(WIDTH));
        Self {
            isa,
            size,
            a: matrix(),
            z: matrix(),
            az: matrix(),
            inner: matrix(),
            next: matrix(),
            columns: [columns(), columns(), columns()],
            keys: Words::zeroed(width * size.next_multiple_of(WIDTH)),
            powers: Words::zeroed((size * size.next_multiple_of(WIDTH)).max(width)),
            state: [vec![0.0; size], vec![0.0; size]],
        }
    }

    /// `softmax(queries keysᵀ / sqrt(width))`, both `[size, width]`, becomes the matrix.
    pub(super) fn kernel(&mut self, queries: &[f32], keys: &[f32], width: usize) {
        let (size, padded) = (self.size, self.size.next_multiple_of(WIDTH));
        let panels = self.keys.floats_mut();
        for (key, row) in keys.chunks_exact(width).enumerate() {
            let at = key / WIDTH * WIDTH * width + key % WIDTH;
            row.iter().enumerate().for_each(|(step, value)| panels[at + step * WIDTH] = *value);
        }
        let scores = self.next.floats_mut();
        for panel in 0..padded / WIDTH {
            let left = Left { words: words_of(queries), rows: size, stride: width };
            let panel_words = &self.keys[panel * WIDTH * width..][..WIDTH * width];
            let panel_of = Panel { words: panel_words, format: Format::F32, steps: width, width: WIDTH };
            tile(self.isa, left, panel_of, false, &mut scores[panel * size * WIDTH..]);
        }
        let [largest, total] = &mut self.state;
        largest.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        let scale = (width as f32).powf(-0.5);
        let scores = Scores { scores, rows: size, keys: size, scale };
        let state = Softmax { largest, total };
        soften(self.isa, scores, state, &mut [], (Format::F32, &mut self.powers, padded));
        // Rows of powers to slabs of panels, divided by their totals.
        let (from, to) = (floats(&self.powers), self.a.floats_mut());
        for (row, (from, total)) in from.chunks_exact(padded).zip(&self.state[1]).enumerate() {
            for (from, to) in from.chunks_exact(WIDTH).zip(to[row * WIDTH..].chunks_mut(size * WIDTH)) {
                to.iter_mut().zip(from).for_each(|(to, power)| *to = power / total);
            }
        }
        self.clear_padding();
    }

    /// Columns beyond the matrix are zero.
    fn clear_padding(&mut self) {
        let (size, beyond) = (self.size, self.size.next_multiple_of(WIDTH) - self.size);
        let last = (size - 1) / WIDTH * size * WIDTH;
        for row in self.a.floats_mut()[last..last + size * WIDTH].chunks_exact_mut(WIDTH) {
            row[WIDTH - beyond..].fill(0.0);
        }
    }

    /// The pseudo-inverse of the matrix times columns `first..first + width` of rows `[size, stride]`.
    pub(super) fn solve(
        &mut self,
        iterations: usize,
        (values, stride, first): (&[f32], usize, usize),
        width: usize,
    ) {
        let size = self.size;
        let right = self.columns[0].floats_mut();
        right.fill(0.0);
        for (row, values) in values.chunks_exact(stride).take(size).enumerate() {
            for (col, value) in values[first..first + width].iter().enumerate() {
                right[(col / WIDTH * size + row) * WIDTH + col % WIDTH] = *value;
            }
        }
        self.start();
        for _ in 1..iterations {
            self.improve();
        }
        if iterations == 0 {
            let Self { isa, z, columns: [right, out, _], .. } = self;
            product((*isa, size), z, right, out);
            return;
        }
        self.last(width);
    }

    /// `z = aᵀ / (largest row sum * largest column sum)`; the numbers of a kernel are not negative.
    fn start(&mut self) {
        let size = self.size;
        let at = |row: usize, col: usize| (col / WIDTH * size + row) * WIDTH + col % WIDTH;
        let a = self.a.floats();
        let (rows, mut cols) = (&mut self.state[0], [0f32; WIDTH]);
        let mut most = 0f32;
        rows.fill(0.0);
        for slab in a.chunks_exact(size * WIDTH) {
            cols.fill(0.0);
            for (row, values) in slab.chunks_exact(WIDTH).enumerate() {
                cols.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.abs());
                rows[row] += values.iter().map(|value| value.abs()).sum::<f32>();
            }
            most = cols.iter().copied().fold(most, f32::max);
        }
        let share = 1.0 / (rows.iter().copied().fold(0.0, f32::max) * most);
        let z = self.z.floats_mut();
        z.fill(0.0);
        for row in 0..size {
            for col in 0..size {
                z[at(row, col)] = a[at(col, row)] * share;
            }
        }
    }

    /// One iteration.
    fn improve(&mut self) {
        let Self { isa, size, a, z, az, inner, next, .. } = self;
        let (how, size) = ((*isa, *size), *size);
        product(how, a, z, az);
        inner.copy_from_slice(az);
        negate_plus(inner.floats_mut(), size, 7.0);
        product(how, az, inner, next);
        negate_plus(next.floats_mut(), size, 15.0);
        product(how, az, next, inner);
        negate_plus(inner.floats_mut(), size, 13.0);
        product(how, z, inner, next);
        next.floats_mut().iter_mut().for_each(|value| *value *= 0.25);
        std::mem::swap(z, next);
    }

    /// The last iteration, on the columns alone; the result is in `columns[1]`.
    fn last(&mut self, width: usize) {
        let Self { isa, size, a, z, columns, .. } = self;
        let how = (*isa, *size);
        let used = width.next_multiple_of(WIDTH) * *size;
        let [right, sum, part] = columns;
        sum.copy_from_slice(right);
        for by in [7.0, 15.0, 13.0] {
            // sum ← by * right - a (z sum)
            product(how, z, sum, part);
            product(how, a, part, sum);
            for (sum, right) in sum.floats_mut()[..used].iter_mut().zip(right.floats()) {
                *sum = by * right - *sum;
            }
        }
        product(how, z, sum, part);
        part.floats_mut().iter_mut().for_each(|value| *value *= 0.25);
        std::mem::swap(sum, part);
    }

    /// One row of the result, gathered into the powers' memory.
    pub(super) fn result(&mut self, row: usize, width: usize) -> &[f32] {
        let size = self.size;
        let from = self.columns[1].floats();
        let to = &mut self.powers.floats_mut()[..width];
        for (number, to) in to.chunks_mut(WIDTH).enumerate() {
            to.copy_from_slice(&from[(number * size + row) * WIDTH..][..to.len()]);
        }
        to
    }
}

/// `matrix = by * I - matrix` in slabs.
fn negate_plus(matrix: &mut [f32], size: usize, by: f32) {
    matrix.iter_mut().for_each(|value| *value = -*value);
    for at in 0..size {
        matrix[(at / WIDTH * size + at) * WIDTH + at % WIDTH] += by;
    }
}

/// `out = a b`: `a` is `[size, size]`, `b` and `out` have as many slabs as they have words for.
fn product((isa, size): (Isa, usize), a: &Words, b: &Words, out: &mut Words) {
    let slab = size * WIDTH;
    for (b, out) in b.chunks_exact(slab).zip(out.floats_mut().chunks_exact_mut(slab)) {
        for (number, a) in a.chunks_exact(slab).enumerate() {
            let first = number * WIDTH;
            let steps = WIDTH.min(size - first);
            let left = Left { words: a, rows: size, stride: WIDTH };
            let panel = Panel {
                words: &b[first * WIDTH..][..steps * WIDTH],
                format: Format::F32,
                steps,
                width: WIDTH,
            };
            tile(isa, left, panel, number > 0, out);
        }
    }
}
