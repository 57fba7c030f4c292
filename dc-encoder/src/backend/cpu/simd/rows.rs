//! What happens to rows between products, each in one pass over memory that is in a near cache.
//!
//! ```text
//! norm      f32 row ─► LayerNorm ─► operand row
//! finish    sums of a product ─► scales of bytes ─► bias ─► GELU | residual | position ─► row
//! soften    scores of a run of keys ─► powers of e (operand rows), running largest and total
//! ```

use super::blocks::Block;
use super::isa::{Format, Isa};
use super::lanes;
use super::words::{bytes_mut, floats, floats_mut, halves, halves_mut};

/// Defines `name(isa, …)`, which runs `body` compiled for AVX-512 where the processor has it.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            if isa.avx512() {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    $body::<true>($($arg),*)
                }
                // SAFETY: the processor has AVX-512 F, BW, DQ and VL (`Isa`), and with it FMA.
                return unsafe { wide($($arg),*) };
            }
            let _ = isa;
            $body::<false>($($arg),*)
        }
    };
}

/// A LayerNorm's parameters, `[dim]` each.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Scale.
    pub weight: &'a [f32],
    /// Shift.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

compiled! {
    /// LayerNorm of one row into f32.
    norm = norm_row(row: &[f32], norm: Norm<'_>, to: &mut [f32])
}

#[inline(always)]
fn norm_row<const FUSED: bool>(row: &[f32], norm: Norm<'_>, to: &mut [f32]) {
    lanes::norm::<FUSED>(row, (norm.weight, norm.bias), norm.eps, to);
}

compiled! {
    /// A row of numbers as a row of an operand; bytes leave their scale and zero in the row's last two words.
    pack_row = pack_row_body(values: &[f32], format: Format, to: &mut [u32])
}

#[inline(always)]
fn pack_row_body<const FUSED: bool>(values: &[f32], format: Format, to: &mut [u32]) {
    match format {
        Format::F32 => floats_mut(to)[..values.len()].copy_from_slice(values),
        Format::Bf16 => lanes::to_halves(values, halves_mut(to)),
        Format::Int8 => {
            let last = to.len() - 2;
            let (scale, zero) = lanes::to_bytes(values, bytes_mut(&mut to[..last]));
            (to[last], to[last + 1]) = (scale.to_bits(), zero.to_bits());
        }
    }
}

compiled! {
    /// A row of f32 or bf16 words as numbers.
    unpack_row = unpack_row_body(words: &[u32], format: Format, to: &mut [f32])
}

#[inline(always)]
fn unpack_row_body<const FUSED: bool>(words: &[u32], format: Format, to: &mut [f32]) {
    match format {
        Format::F32 => to.copy_from_slice(&floats(words)[..to.len()]),
        Format::Bf16 | Format::Int8 => lanes::from_halves(halves(words), to),
    }
}

/// What the sums of a product become. Columns are those of one panel.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// Sums from one row to the next.
    pub width: usize,
    /// Added to each column.
    pub bias: &'a [f32],
    /// Where the product is of bytes: how to read it.
    pub bytes: Option<Bytes<'a>>,
}

/// How sums of bytes are read: `row scale * column scale * (sum - row zero * column sum)`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    /// Scale and zero of the rows: the last two words of each row of the left side.
    pub rows: &'a [u32],
    /// Words from one row of the left side to the next.
    pub stride: usize,
    /// Scale of each column.
    pub scale: &'a [f32],
    /// Sum of each column's weights.
    pub sums: &'a [f32],
}

impl Finish<'_> {
    /// The finished numbers of one row, in place.
    #[inline(always)]
    fn row<'t, const FUSED: bool>(&self, sums: &'t mut [f32], row: usize, cols: usize) -> &'t mut [f32] {
        let sums = &mut sums[row * self.width..][..cols];
        let bias = &self.bias[..cols];
        if let Some(bytes) = &self.bytes {
            let end = (row + 1) * bytes.stride;
            let (scale, zero) = (f32::from_bits(bytes.rows[end - 2]), f32::from_bits(bytes.rows[end - 1]));
            for (sum, (by, column)) in
                sums.iter_mut().zip(bytes.scale[..cols].iter().zip(&bytes.sums[..cols]))
            {
                *sum = (*sum - zero * column) * (scale * by);
            }
        }
        for (sum, bias) in sums.iter_mut().zip(bias) {
            *sum += bias;
        }
        sums
    }
}

compiled! {
    /// Finishes sums `[rows, width]` into words of f32 or bf16, through GELU or as they are.
    finish_words = finish_words_body(sums: &mut [f32], finish: &Finish<'_>, how: Words, to: &mut Block<'_, u32>)
}

/// How finished numbers are stored.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// F32, or bf16.
    pub format: Format,
    /// Whether they pass through GELU.
    pub gelu: bool,
}

#[inline(always)]
fn finish_words_body<const FUSED: bool>(
    sums: &mut [f32],
    finish: &Finish<'_>,
    how: Words,
    to: &mut Block<'_, u32>,
) {
    let cols = to.cols() * how.format.per_word();
    for row in 0..to.rows() {
        let values = finish.row::<FUSED>(sums, row, cols);
        if how.gelu {
            lanes::gelu::<FUSED>(values);
        }
        match how.format {
            Format::F32 => floats_mut(to.row(row)).copy_from_slice(values),
            Format::Bf16 | Format::Int8 => lanes::to_halves(values, halves_mut(to.row(row))),
        }
    }
}

compiled! {
    /// Finishes sums `[rows, width]` and adds them to a block of the residual stream.
    finish_adding = finish_adding_body(sums: &mut [f32], finish: &Finish<'_>, to: &mut Block<'_, f32>)
}

#[inline(always)]
fn finish_adding_body<const FUSED: bool>(sums: &mut [f32], finish: &Finish<'_>, to: &mut Block<'_, f32>) {
    for row in 0..to.rows() {
        let values = finish.row::<FUSED>(sums, row, to.cols());
        for (to, value) in to.row(row).iter_mut().zip(values) {
            *to += *value;
        }
    }
}

compiled! {
    /// Finishes sums `[rows, width]` over whatever the block holds; with `add` (rows of `stride` numbers, beginning at
    /// the block's first), adds that to them.
    finish_storing = finish_storing_body(
        sums: &mut [f32], finish: &Finish<'_>, add: Option<(&[f32], usize)>, to: &mut Block<'_, f32>
    )
}

#[inline(always)]
fn finish_storing_body<const FUSED: bool>(
    sums: &mut [f32],
    finish: &Finish<'_>,
    add: Option<(&[f32], usize)>,
    to: &mut Block<'_, f32>,
) {
    for row in 0..to.rows() {
        let values = finish.row::<FUSED>(sums, row, to.cols());
        if let Some((add, stride)) = add {
            for (value, add) in values.iter_mut().zip(&add[row * stride..]) {
                *value += *add;
            }
        }
        to.row(row).copy_from_slice(values);
    }
}

/// Running state of the softmax of a few queries over runs of keys (Milakov and Gimelshein, 2018).
#[derive(Debug)]
pub struct Softmax<'a> {
    /// Largest score of each query so far.
    pub largest: &'a mut [f32],
    /// Sum of the powers of each query so far.
    pub total: &'a mut [f32],
}

/// Scores of one run of keys, panel after panel: `[panels, queries, width]`.
#[derive(Debug)]
pub struct Scores<'a> {
    /// The scores; powers afterwards.
    pub scores: &'a mut [f32],
    /// Queries.
    pub rows: usize,
    /// Keys a panel.
    pub width: usize,
    /// Keys in the run; what a panel holds beyond them counts nothing.
    pub keys: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

compiled! {
    /// Turns scores into powers `e^(scale * (score - largest))`, written as operand rows `[queries, stride]` of
    /// `format`; sums so far `[panels, queries, width]` are scaled down where a larger score came up.
    soften = soften_body(
        scores: Scores<'_>, state: Softmax<'_>, sums: &mut [f32], to: (Format, &mut [u32], usize)
    )
}

#[inline(always)]
fn soften_body<const FUSED: bool>(
    scores: Scores<'_>,
    state: Softmax<'_>,
    sums: &mut [f32],
    (format, to, stride): (Format, &mut [u32], usize),
) {
    let Scores { scores, rows, width, keys, scale } = scores;
    let panel = rows * width;
    let panels = keys.div_ceil(width);
    for row in 0..rows {
        let beyond = panels * width - keys;
        scores[(panels - 1) * panel + row * width..][width - beyond..width].fill(f32::NEG_INFINITY);
        let mut largest = state.largest[row];
        for scores in scores.chunks(panel).take(panels) {
            largest = lanes::largest(&scores[row * width..][..width]).max(largest);
        }
        let fade = lanes::exp::<FUSED>(scale * (state.largest[row] - largest));
        if largest > state.largest[row] {
            for sums in sums.chunks_mut(panel) {
                sums[row * width..][..width].iter_mut().for_each(|sum| *sum *= fade);
            }
        }
        let mut total = state.total[row] * fade;
        let words = width / format.per_word();
        for (number, scores) in scores.chunks_mut(panel).take(panels).enumerate() {
            let scores = &mut scores[row * width..][..width];
            total += lanes::powers::<FUSED>(scores, scale, largest);
            let to = &mut to[row * stride + number * words..][..words];
            match format {
                Format::F32 => floats_mut(to).copy_from_slice(scores),
                Format::Bf16 | Format::Int8 => lanes::to_halves(scores, halves_mut(to)),
            }
        }
        (state.largest[row], state.total[row]) = (largest, total);
    }
}

compiled! {
    /// `to += by * from`, number by number.
    add_scaled = add_scaled_body(from: &[f32], by: f32, to: &mut [f32])
}

#[inline(always)]
fn add_scaled_body<const FUSED: bool>(from: &[f32], by: f32, to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += by * from;
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
