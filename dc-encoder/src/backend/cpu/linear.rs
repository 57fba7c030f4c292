//! Linear layers on packed weights.
//!
//! ```text
//! weight [out, in] ─► panels [out / 32][in words][32]        once, at load
//! operand rows × panel ─► sums ─► finish ─► a block of the result        one task each
//! ```

use super::Scratch;
use super::simd::rows::{Bytes, Finish};
use super::simd::{
    Block, Format, Isa, LINE, Left, MatMut, Panel, Pool, WIDTH, Words, bytes_mut, floats_mut, halves_mut,
    tile,
};

/// Rows of one task: their operand stays in a core's second cache while panels pass (480 KiB at 1024 bf16).
pub(super) const CHUNK: usize = 240;
/// Columns of a panel without AVX-512: the `gemm` crate packs its operands again for every product.
const PORTABLE_WIDTH: usize = 256;
/// Range of a signed byte, the same to both sides.
const BYTE: f32 = 127.0;

/// Rows of numbers in the format of a product's left side.
#[derive(Debug)]
pub(super) struct Operand {
    words: Words,
    format: Format,
    cols: usize,
    stride: usize,
}

impl Operand {
    /// Room for `rows` rows of `cols` numbers.
    pub(super) fn new(format: Format, rows: usize, cols: usize) -> Self {
        let stride = stride(format, cols);
        Self { words: Words::zeroed(rows * stride), format, cols, stride }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Words from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// All words.
    pub(super) fn words(&self) -> &[u32] {
        &self.words
    }

    /// The first `rows` rows, to be multiplied.
    pub(super) fn left(&self, rows: usize) -> Left<'_> {
        Left { words: &self.words, rows, stride: self.stride }
    }

    /// The first `rows` rows, to be written whole (padding and all).
    pub(super) fn rows_mut(&mut self, rows: usize) -> MatMut<'_, u32> {
        MatMut::new(&mut self.words, (rows, self.stride), self.stride)
    }

    /// The numbers of `rows` rows from `first`, to be written in blocks.
    pub(super) fn numbers_mut(&mut self, first: usize, rows: usize) -> MatMut<'_, u32> {
        let cols = self.format.words(self.cols);
        MatMut::new(&mut self.words[first * self.stride..], (rows, cols), self.stride)
    }
}

/// Words of a row: whole lines, an odd number of them (an even one would map rows to the same few sets of the first
/// cache), with room for a byte row's scale and zero.
fn stride(format: Format, cols: usize) -> usize {
    let lines = (format.words(cols) + 2 * usize::from(format == Format::Int8)).div_ceil(LINE);
    (lines | 1) * LINE
}

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    panels: Words,
    width: usize,
    steps: usize,
    out: usize,
    format: Format,
    isa: Isa,
    /// `[panels * width]`, zero beyond `out`.
    bias: Vec<f32>,
    /// Of bytes: scale and sum of each column.
    scale: Vec<f32>,
    sums: Vec<f32>,
}

/// Weights as they are stored: `[out, input]`, and a bias `[out]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: usize,
}

impl Linear {
    /// Packs a layer.
    pub(super) fn pack(isa: Isa, format: Format, from: Weights<'_>) -> Self {
        let input = from.weight.len() / from.out;
        let width = if isa.avx512() { WIDTH } else { PORTABLE_WIDTH.min(from.out.next_multiple_of(WIDTH)) };
        let steps = format.words(input);
        let padded = from.out.next_multiple_of(width);
        let mut layer = Self {
            panels: Words::zeroed(padded * steps),
            width,
            steps,
            out: from.out,
            format,
            isa,
            bias: vec![0.0; padded],
            scale: Vec::new(),
            sums: Vec::new(),
        };
        layer.bias[..from.out].copy_from_slice(from.bias.unwrap_or(&vec![0.0; from.out]));
        if format == Format::Int8 {
            (layer.scale, layer.sums) = (vec![0.0; padded], vec![0.0; padded]);
        }
        let mut words = vec![0u32; steps];
        for (out, row) in from.weight.chunks_exact(input).enumerate() {
            layer.pack_row(out, row, &mut words);
            let at = out / width * width * steps + out % width;
            for (step, word) in words.iter().enumerate() {
                layer.panels[at + step * width] = *word;
            }
        }
        layer
    }

    /// One column of the product: the words that its panel gets.
    fn pack_row(&mut self, out: usize, row: &[f32], words: &mut [u32]) {
        match self.format {
            Format::F32 => floats_mut(words).copy_from_slice(row),
            Format::Bf16 => {
                for (to, value) in halves_mut(words).iter_mut().zip(row) {
                    *to = half::bf16::from_f32(*value).to_bits();
                }
            }
            Format::Int8 => {
                let most = row.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
                let scale = most / BYTE;
                let mut sum = 0i32;
                for (to, value) in bytes_mut(words).iter_mut().zip(row) {
                    let byte = (value / scale).round().clamp(-BYTE, BYTE) as i8;
                    sum += i32::from(byte);
                    *to = byte as u8;
                }
                (self.scale[out], self.sums[out]) = (scale, sum as f32);
            }
        }
    }

    /// Numbers a row of the result has.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// The instructions that it was packed for.
    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// Multiplies `left` by the layer. `finish` turns the sums of one block, `[rows, width]`, into the block at `(row,
    /// column)` of `out`, whose columns hold `per` numbers each.
    pub(super) fn run<T: Send>(
        &self,
        pool: &mut Pool<Scratch>,
        left: Left<'_>,
        (out, per): (MatMut<'_, T>, usize),
        finish: impl Fn(&mut [f32], &Finish<'_>, (usize, usize), &mut Block<'_, T>) + Sync,
    ) {
        let chunk = left.rows.div_ceil(left.rows.div_ceil(CHUNK).max(1)).next_multiple_of(tile_rows());
        pool.over(out, (chunk, self.width / per), |scratch, (row, col), mut block| {
            let words = &left.words[row * left.stride..];
            let rows = Left { words, rows: block.rows(), ..left };
            let first = col * per;
            let panel = &self.panels[first * self.steps..][..self.width * self.steps];
            let sums = &mut scratch.sums.floats_mut()[..block.rows() * self.width];
            let panel = Panel { words: panel, format: self.format, steps: self.steps, width: self.width };
            tile(self.isa, rows, panel, false, sums);
            let bytes = (self.format == Format::Int8).then(|| Bytes {
                rows: words,
                stride: left.stride,
                scale: &self.scale[first..],
                sums: &self.sums[first..],
            });
            let finished = Finish { width: self.width, bias: &self.bias[first..], bytes };
            finish(sums, &finished, (row, first), &mut block);
        });
    }
}

/// Rows that a kernel takes at a time.
fn tile_rows() -> usize {
    12
}

/// Sums of the largest block.
pub(super) fn scratch_words() -> usize {
    (CHUNK + tile_rows()) * PORTABLE_WIDTH
}
