//! Linear layers on packed weights.
//!
//! ```text
//! weight [out, in] ─► panels [out / 32][in words][32]        once, at load
//! operand rows × panel ─► sums ─► finish ─► a block of the result        one task each
//! centre of a frame's rows × panel ─► what the sums of all its rows have in common
//! ```
//! The tokens of a frame are nearly alike: most of a row is what all rows share, and rounding it would drown what tells
//! two frames apart. So rows in bf16 or bytes hold what is left when their frame's centre is taken away, and the centre
//! passes through the product beside them, split over two rows that together hold twice the digits.

use super::Scratch;
use super::simd::finish::{Bytes, Finish, finish_centre};
use super::simd::rows::{add_scaled, pack_row, unpack_row};
use super::simd::{
    Bands, Block, Format, Isa, LINE, Left, MatMut, Panel, Pool, WIDTH, Words, bytes_mut, floats_mut,
    halves_mut, tile,
};

/// Rows of one task: their operand stays in a core's second cache while panels pass (480 KiB at 1024 bf16).
pub(super) const CHUNK: usize = 240;
/// Columns of a panel without AVX-512: the `gemm` crate packs its operands again for every product.
const PORTABLE_WIDTH: usize = 256;
/// Columns of the widest panel.
pub(super) const WIDEST: usize = PORTABLE_WIDTH;
/// Range of a signed byte, the same to both sides.
const BYTE: f32 = 127.0;

/// Rows that a centre is split over.
const SPLIT: usize = 2;

/// Rows of numbers in the format of a product's left side.
#[derive(Debug)]
pub(super) struct Operand {
    words: Words,
    format: Format,
    cols: usize,
    stride: usize,
    /// Rows of a frame.
    band: usize,
    /// Of each frame, `[frames, SPLIT, stride]`; none where rows are whole.
    centres: Words,
}

/// The left side of a layer's product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    rows: Left<'a>,
    band: usize,
    centres: &'a [u32],
}

impl Side<'_> {
    pub(super) fn rows(&self) -> usize {
        self.rows.rows
    }

    /// How a result of so many columns is cut into tasks.
    fn bands(&self, cols: usize) -> Bands {
        Bands { rows: self.band, block: (chunk(self.band), cols) }
    }

    /// The centre of the frame that `row` is in.
    fn centre(&self, row: usize) -> Option<Left<'_>> {
        let each = SPLIT * self.rows.stride;
        let words = self.centres.get(row / self.band * each..)?.get(..each)?;
        Some(Left { words, rows: SPLIT, stride: self.rows.stride })
    }
}

/// Rows of one task of a product whose left side has frames of `band` rows.
fn chunk(band: usize) -> usize {
    band.div_ceil(band.div_ceil(CHUNK).max(1)).next_multiple_of(tile_rows())
}

/// Tasks that the rows of a frame make.
pub(super) fn chunks(band: usize) -> usize {
    band.div_ceil(chunk(band))
}

impl Operand {
    /// Room for `rows` rows of `cols` numbers.
    pub(super) fn new(format: Format, rows: usize, cols: usize) -> Self {
        let stride = stride(format, cols);
        let centres = Words::default();
        Self { words: Words::zeroed(rows * stride), format, cols, stride, band: rows, centres }
    }

    /// Room for `frames` frames of `band` rows without their centre; f32 keeps its rows whole.
    pub(super) fn centred(format: Format, (frames, band): (usize, usize), cols: usize) -> Self {
        let mut operand = Self { band, ..Self::new(format, frames * band, cols) };
        if format != Format::F32 {
            operand.centres = Words::zeroed(frames * SPLIT * operand.stride);
        }
        operand
    }

    /// Frames have so many rows from now on, at most as many as there is room for.
    pub(super) fn set_band(&mut self, band: usize) {
        self.band = band;
    }

    /// Whether rows go without their frame's centre.
    pub(super) fn is_centred(&self) -> bool {
        !self.centres.is_empty()
    }

    /// Keeps what was taken from the rows of a frame, `[cols]`; `spare` has room for as much.
    pub(super) fn set_centre(&mut self, isa: Isa, frame: usize, centre: &[f32], spare: &mut Spare) {
        let Spare { rest, part } = spare;
        let (rest, part) = (&mut rest[..centre.len()], &mut part[..centre.len()]);
        rest.copy_from_slice(centre);
        let each = SPLIT * self.stride;
        for row in self.centres[frame * each..][..each].chunks_exact_mut(self.stride) {
            pack_row(isa, rest, self.format, row);
            unpack_row(isa, row, self.format, part);
            add_scaled(isa, part, -1.0, rest);
        }
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

    /// The first `rows` rows, to be multiplied: whole frames where there are centres.
    pub(super) fn left(&self, rows: usize) -> Side<'_> {
        let band = if self.is_centred() { self.band } else { self.band.min(rows) };
        Side { rows: Left { words: &self.words, rows, stride: self.stride }, band, centres: &self.centres }
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
    /// column)` of `to`. The bias that it is given is what the rows of their frame have in common.
    pub(super) fn run<T: Send>(
        &self,
        pool: &mut Pool<Scratch>,
        left: Side<'_>,
        to: Target<'_, T>,
        finish: impl Fn(&[f32], &Finish<'_>, Place<'_>, &mut Block<'_, T>) + Sync,
    ) {
        let Target { out, per, common } = to;
        let bands = left.bands(self.width / per);
        let beside = common.map(|common| (common, self.width));
        pool.over_bands(out, bands, beside, |scratch, (row, col), mut block, mut beside| {
            block.fetch();
            let first = col * per;
            let words = &left.rows.words[row * left.rows.stride..];
            let rows = Left { words, rows: block.rows(), ..left.rows };
            let (sums, rest) = scratch.sums.floats_mut().split_at_mut(rows.rows * self.width);
            let (split, common) = rest.split_at_mut(SPLIT * self.width);
            let common = &mut common[..self.width];
            match left.centre(row) {
                None => common.copy_from_slice(&self.bias[first..][..self.width]),
                Some(centre) => {
                    tile(self.isa, centre, self.panel(first), false, split);
                    finish_centre(self.isa, split, &self.finish(centre, first, &self.bias[first..]), common);
                }
            }
            tile(self.isa, rows, self.panel(first), false, sums);
            let place = Place { row, col: first, common: beside.as_mut().map(|beside| beside.row(0)) };
            finish(sums, &self.finish(rows, first, common), place, &mut block);
        });
    }

    /// The panel of columns from `first` on.
    fn panel(&self, first: usize) -> Panel<'_> {
        let words = &self.panels[first * self.steps..][..self.width * self.steps];
        Panel { words, format: self.format, steps: self.steps, width: self.width }
    }

    /// How sums of these rows with that panel are finished.
    fn finish<'a>(&'a self, rows: Left<'a>, first: usize, bias: &'a [f32]) -> Finish<'a> {
        let bytes = (self.format == Format::Int8).then(|| Bytes {
            rows: rows.words,
            stride: rows.stride,
            scale: &self.scale[first..],
            sums: &self.sums[first..],
        });
        Finish { width: self.width, bias, bytes }
    }
}

/// Where a product goes.
pub(super) struct Target<'a, T> {
    pub(super) out: MatMut<'a, T>,
    /// Numbers in one column of `out`.
    pub(super) per: usize,
    /// Room for what the next layer should know of what rows have in common, `[frames * chunks, out]`.
    pub(super) common: Option<MatMut<'a, f32>>,
}

/// Where a block of a result lies.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) row: usize,
    /// In numbers.
    pub(super) col: usize,
    /// Room for what the block's columns have in common.
    pub(super) common: Option<&'a mut [f32]>,
}

/// Room to split a centre in.
#[derive(Debug)]
pub(super) struct Spare {
    rest: Vec<f32>,
    part: Vec<f32>,
}

impl Spare {
    /// For centres of at most `cols` numbers.
    pub(super) fn new(cols: usize) -> Self {
        Self { rest: vec![0.0; cols], part: vec![0.0; cols] }
    }

    /// A row of `cols` numbers, for anything until a centre is split.
    pub(super) fn row(&mut self, cols: usize) -> &mut [f32] {
        &mut self.part[..cols]
    }
}

/// Rows that a kernel takes at a time.
fn tile_rows() -> usize {
    12
}

/// Sums of the largest block, of a centre, and what the block has in common.
pub(super) fn scratch_words() -> usize {
    (CHUNK + tile_rows() + SPLIT + 1) * PORTABLE_WIDTH
}
