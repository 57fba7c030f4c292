//! What happens to rows between products, each in one pass over memory that is in a near cache.
//!
//! ```text
//! norm      f32 row ─► LayerNorm ─► operand row
//! soften    scores of a run of keys ─► powers of e (operand rows), running largest and total
//! ```

use super::isa::{Format, Isa};
use super::lanes::{self, both, load, store, store_halves};
use super::tile::WIDTH;
use super::vector::{Vector, compiled};
use super::words::{bytes, bytes_mut, floats, floats_mut, halves, halves_mut};

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
fn norm_row<V: Vector>(row: &[f32], norm: Norm<'_>, to: &mut [f32]) {
    lanes::norm::<V>(row, (norm.weight, norm.bias), norm.eps, to);
}

compiled! {
    /// A row of numbers as a row of an operand; bytes leave their scale and zero in the row's last two words.
    pack_row = pack_row_body(values: &[f32], format: Format, to: &mut [u32])
}

#[inline(always)]
fn pack_row_body<V: Vector>(values: &[f32], format: Format, to: &mut [u32]) {
    match format {
        Format::F32 => floats_mut(to)[..values.len()].copy_from_slice(values),
        Format::Bf16 => lanes::to_halves::<V>(values, halves_mut(to)),
        Format::Int8 => {
            let last = to.len() - 2;
            let (scale, zero) = lanes::to_bytes::<V>(values, bytes_mut(&mut to[..last]));
            (to[last], to[last + 1]) = (scale.to_bits(), zero.to_bits());
        }
    }
}

compiled! {
    /// A row of words as numbers; bytes have their scale and zero in the row's last two words.
    unpack_row = unpack_row_body(words: &[u32], format: Format, to: &mut [f32])
}

#[inline(always)]
fn unpack_row_body<V: Vector>(words: &[u32], format: Format, to: &mut [f32]) {
    match format {
        Format::F32 => to.copy_from_slice(&floats(words)[..to.len()]),
        Format::Bf16 => lanes::from_halves::<V>(halves(words).as_flattened(), to),
        Format::Int8 => {
            let last = words.len() - 2;
            let (scale, zero) = (f32::from_bits(words[last]), f32::from_bits(words[last + 1]));
            lanes::from_bytes::<V>(bytes(&words[..last]), (scale, zero), to);
        }
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

/// Scores of one run of keys, panel after panel: `[panels, queries, WIDTH]`.
#[derive(Debug)]
pub struct Scores<'a> {
    /// The scores; what lies beyond the keys is overwritten.
    pub scores: &'a mut [f32],
    /// Queries.
    pub rows: usize,
    /// Keys in the run; what a panel holds beyond them counts nothing.
    pub keys: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

compiled! {
    /// Turns scores into powers `e^(scale * (score - largest))`, written as operand rows `[queries, stride]` of
    /// `format`; sums so far `[panels, queries, WIDTH]` are scaled down where a larger score came up.
    soften = soften_body(
        scores: Scores<'_>, state: Softmax<'_>, sums: &mut [f32], to: (Format, &mut [u32], usize)
    )
}

#[inline(always)]
fn soften_body<V: Vector>(
    scores: Scores<'_>,
    state: Softmax<'_>,
    sums: &mut [f32],
    (format, to, stride): (Format, &mut [u32], usize),
) {
    let Scores { scores, rows, keys, scale } = scores;
    let panels = keys.div_ceil(WIDTH);
    let words = WIDTH / format.per_word();
    let (scores, _) = scores.as_chunks_mut::<WIDTH>();
    let (sums, _) = sums.as_chunks_mut::<WIDTH>();
    for row in 0..rows {
        scores[(panels - 1) * rows + row][WIDTH - (panels * WIDTH - keys)..].fill(f32::NEG_INFINITY);
        let mut most = [V::splat(state.largest[row]); 2];
        for panel in 0..panels {
            most = both(most, load(&scores[panel * rows + row]), V::max);
        }
        let largest = most[0].max(most[1]).largest();
        let fade = lanes::exp(V::splat(scale * (state.largest[row] - largest))).largest();
        if largest > state.largest[row] {
            for sums in sums.iter_mut().skip(row).step_by(rows) {
                store(sums, [V::splat(fade); 2], V::mul);
            }
        }
        let (by, plus) = (V::splat(scale), V::splat(-scale * largest));
        let mut totals = [V::splat(0.0); 2];
        for (panel, to) in to[row * stride..].chunks_exact_mut(words).take(panels).enumerate() {
            let [low, high] = load::<V>(&scores[panel * rows + row]);
            let powers = [lanes::exp(low.mul_add(by, plus)), lanes::exp(high.mul_add(by, plus))];
            totals = both(totals, powers, V::add);
            match format {
                Format::F32 => store(floats_mut(to), powers, |_, power| power),
                Format::Bf16 | Format::Int8 => store_halves(halves_mut(to), powers),
            }
        }
        state.total[row] = state.total[row] * fade + totals[0].add(totals[1]).total();
        state.largest[row] = largest;
    }
}

compiled! {
    /// Exact GELU in place.
    gelu = gelu_body(values: &mut [f32])
}

#[inline(always)]
fn gelu_body<V: Vector>(values: &mut [f32]) {
    lanes::gelu_all::<V>(values);
}

compiled! {
    /// `to += by * from`, number by number.
    add_scaled = add_scaled_body(from: &[f32], by: f32, to: &mut [f32])
}

#[inline(always)]
fn add_scaled_body<V: Vector>(from: &[f32], by: f32, to: &mut [f32]) {
    lanes::join_into(to, from, |to: V, from| from.mul_add(V::splat(by), to));
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
