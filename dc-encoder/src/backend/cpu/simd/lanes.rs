//! Arithmetic on vectors of sixteen numbers and on runs of them, written once for every kind of vector.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use super::vector::{LANES, Vector};

/// A polynomial, its highest coefficient first.
#[inline(always)]
fn polynomial<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = V::splat(0.0);
    for (number, coefficient) in coefficients.into_iter().enumerate() {
        let coefficient = V::splat(coefficient);
        sum = if number == 0 { coefficient } else { sum.mul_add(x, coefficient) };
    }
    sum
}

/// `e^x` for `x <= 88`, to about 1e-7 relative; below -87 it gives the smallest normal numbers rather than 0.
#[inline(always)]
pub(super) fn exp<V: Vector>(x: V) -> V {
    /// Adding `1.5 * 2^23` rounds a small number to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first exact in few bits.
    const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let x = x.max(V::splat(-87.0));
    let shifted = x.mul_add(V::splat(LOG2_E), V::splat(ROUND));
    let power = shifted.sub(V::splat(ROUND));
    let r = power.mul_add(V::splat(-LN2.1), power.mul_add(V::splat(-LN2.0), x));
    let tail = polynomial(r, [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5]);
    let value = tail.mul(r).mul_add(r, r.add(V::splat(1.0)));
    value.mul(shifted.power_of_two())
}

/// The error function, to 4e-7 absolute; the coefficients are those of `model::ops`.
#[inline(always)]
fn erf<V: Vector>(x: V) -> V {
    const END: f32 = 3.832_507;
    let x = x.max(V::splat(-END)).min(V::splat(END));
    let s = x.mul(x);
    let top = polynomial(s, [2.290_506_6e-4, 3.408_291e-3, 5.095_569_5e-2, 0.185_208_32, FRAC_2_SQRT_PI]);
    let low =
        [-1.179_160_3e-7, 2.354_796_6e-5, 1.017_962_5e-3, 1.407_047e-2, 0.110_985_05, 0.497_469_25, 1.0];
    x.mul(top).div(polynomial(s, low))
}

/// Exact GELU.
#[inline(always)]
pub(super) fn gelu<V: Vector>(x: V) -> V {
    let half = x.mul(V::splat(0.5));
    half.mul_add(erf(x.mul(V::splat(FRAC_1_SQRT_2))), half)
}

/// What is left of a run that fills no vector, and `beyond` after it.
#[inline(always)]
fn padded<V: Vector>(rest: &[f32], beyond: f32) -> V {
    let mut lanes = [beyond; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    V::load(&lanes)
}

/// Vectors that are joined at a time, so that one waits for the result of the fourth before.
const CHAINS: usize = 4;

/// Joins numbers into running totals, from `start`, which must change nothing.
#[inline(always)]
fn fold<V: Vector>(values: &[f32], start: f32, how: impl Fn(V, V) -> V) -> [V; CHAINS] {
    let mut totals = [V::splat(start); CHAINS];
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (runs, last) = vectors.as_chunks::<CHAINS>();
    for run in runs {
        for chain in 0..CHAINS {
            totals[chain] = how(totals[chain], V::load(&run[chain]));
        }
    }
    for vector in last {
        totals[0] = how(totals[0], V::load(vector));
    }
    if !rest.is_empty() {
        totals[1] = how(totals[1], padded(rest, start));
    }
    totals
}

/// Joins running totals.
#[inline(always)]
fn join<V: Vector>([a, b, c, d]: [V; CHAINS], how: impl Fn(V, V) -> V) -> V {
    how(how(a, b), how(c, d))
}

/// Changes numbers: `to = how(to, from)`, for as many as there are of both.
#[inline(always)]
pub(super) fn join_into<V: Vector>(to: &mut [f32], from: &[f32], how: impl Fn(V, V) -> V) {
    let count = to.len().min(from.len());
    let (to, to_rest) = to[..count].as_chunks_mut::<LANES>();
    let (from, from_rest) = from[..count].as_chunks::<LANES>();
    for (to, from) in to.iter_mut().zip(from) {
        how(V::load(to), V::load(from)).store(to);
    }
    if !to_rest.is_empty() {
        let mut lanes = [0.0; LANES];
        how(padded(to_rest, 0.0), padded(from_rest, 0.0)).store(&mut lanes);
        to_rest.copy_from_slice(&lanes[..to_rest.len()]);
    }
}

/// Exact GELU in place.
#[inline(always)]
pub(super) fn gelu_all<V: Vector>(values: &mut [f32]) {
    let (vectors, rest) = values.as_chunks_mut::<LANES>();
    for vector in vectors {
        gelu(V::load(vector)).store(vector);
    }
    let mut lanes = [0.0; LANES];
    gelu::<V>(padded(rest, 0.0)).store(&mut lanes);
    rest.copy_from_slice(&lanes[..rest.len()]);
}

/// LayerNorm of one row: `(x - mean) / sqrt(variance + eps) * weight + bias`.
#[inline(always)]
pub(super) fn norm<V: Vector>(row: &[f32], (weight, bias): (&[f32], &[f32]), eps: f32, to: &mut [f32]) {
    let share = 1.0 / row.len() as f32;
    let mean = join(fold(row, 0.0, V::add), V::add).total() * share;
    join_into(to, row, |_, value: V| value.sub(V::splat(mean)));
    let squares = fold(to, 0.0, |total: V, value| value.mul_add(value, total));
    let scale = 1.0 / (join(squares, V::add).total() * share + eps).sqrt();
    let finish = |value: V, weight, bias| value.mul(V::splat(scale)).mul_add(weight, bias);
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    let (weight, weight_rest) = weight.as_chunks::<LANES>();
    let (bias, bias_rest) = bias.as_chunks::<LANES>();
    for ((to, weight), bias) in to.iter_mut().zip(weight).zip(bias) {
        finish(V::load(to), V::load(weight), V::load(bias)).store(to);
    }
    if !to_rest.is_empty() {
        let mut lanes = [0.0; LANES];
        finish(padded(to_rest, 0.0), padded(weight_rest, 0.0), padded(bias_rest, 0.0)).store(&mut lanes);
        to_rest.copy_from_slice(&lanes[..to_rest.len()]);
    }
}

/// Some numbers as bf16, in order.
#[inline(always)]
pub(super) fn to_halves<V: Vector>(values: &[f32], to: &mut [u16]) {
    let (values, rest) = values.as_chunks::<LANES>();
    let (halves, last) = to.as_chunks_mut::<LANES>();
    for (to, values) in halves.iter_mut().zip(values) {
        V::load(values).to_halves(to);
    }
    if !rest.is_empty() {
        let (mut lanes, to) = ([0; LANES], halves.get_mut(values.len()).map_or(last, |to| to.as_mut_slice()));
        padded::<V>(rest, 0.0).to_halves(&mut lanes);
        to[..rest.len()].copy_from_slice(&lanes[..rest.len()]);
    }
}

/// bf16 to f32, in order.
#[inline(always)]
pub(super) fn from_halves<V: Vector>(halves: &[u16], to: &mut [f32]) {
    let count = halves.len().min(to.len());
    let (halves, rest) = halves[..count].as_chunks::<LANES>();
    let (to, last) = to[..count].as_chunks_mut::<LANES>();
    for (to, halves) in to.iter_mut().zip(halves) {
        V::from_halves(halves).store(to);
    }
    last.iter_mut().zip(rest).for_each(|(to, half)| *to = f32::from_bits(u32::from(*half) << 16));
}

/// A row as unsigned bytes: `value ≈ scale * (byte - zero)`, with the row's own range, which always holds 0.
#[inline(always)]
pub(super) fn to_bytes<V: Vector>(values: &[f32], to: &mut [u8]) -> (f32, f32) {
    /// Adding 2^23 leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 8_388_608.0;
    let low = join(fold(values, 0.0, V::min), V::min).smallest();
    let high = join(fold(values, 0.0, V::max), V::max).largest();
    let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
    let (inverse, zero) = (1.0 / scale, (-low / scale).round());
    let byte = |value: V| {
        let byte = value.mul_add(V::splat(inverse), V::splat(zero));
        byte.max(V::splat(0.0)).min(V::splat(255.0)).add(V::splat(ROUND))
    };
    let (values, rest) = values.as_chunks::<LANES>();
    let (bytes, last) = to.as_chunks_mut::<LANES>();
    for (to, values) in bytes.iter_mut().zip(values) {
        byte(V::load(values)).to_bytes(to);
    }
    if !rest.is_empty() {
        let (mut lanes, to) = ([0; LANES], bytes.get_mut(values.len()).map_or(last, |to| to.as_mut_slice()));
        byte(padded(rest, 0.0)).to_bytes(&mut lanes);
        to[..rest.len()].copy_from_slice(&lanes[..rest.len()]);
    }
    (scale, zero)
}

/// Bytes to the numbers that they stand for: `scale * (byte - zero)`.
#[inline(always)]
pub(super) fn from_bytes<V: Vector>(bytes: &[u8], (scale, zero): (f32, f32), to: &mut [f32]) {
    let count = bytes.len().min(to.len());
    let (bytes, rest) = bytes[..count].as_chunks::<LANES>();
    let (to, last) = to[..count].as_chunks_mut::<LANES>();
    for (to, bytes) in to.iter_mut().zip(bytes) {
        V::from_bytes(bytes).sub(V::splat(zero)).mul(V::splat(scale)).store(to);
    }
    last.iter_mut().zip(rest).for_each(|(to, byte)| *to = scale * (f32::from(*byte) - zero));
}

/// Numbers that are finished or softened at a time.
pub(super) const PIECE: usize = 2 * LANES;

/// A piece in two vectors.
pub(super) type Pair<V> = [V; 2];

/// Joins two pairs.
#[inline(always)]
pub(super) fn both<V: Vector>([a, b]: Pair<V>, [c, d]: Pair<V>, how: impl Fn(V, V) -> V) -> Pair<V> {
    [how(a, c), how(b, d)]
}

/// The first numbers of a run, at least a piece long.
#[inline(always)]
pub(super) fn load<V: Vector>(from: &[f32]) -> Pair<V> {
    let (vectors, _) = from[..PIECE].as_chunks();
    [V::load(&vectors[0]), V::load(&vectors[1])]
}

/// A piece as numbers, all of them or those that there is room for, through `how(what is there, number)`.
#[inline(always)]
pub(super) fn store<V: Vector>(to: &mut [f32], [a, b]: Pair<V>, how: impl Fn(V, V) -> V) {
    if let Some(to) = to.first_chunk_mut::<PIECE>() {
        let (to, _) = to.as_chunks_mut();
        how(V::load(&to[0]), a).store(&mut to[0]);
        how(V::load(&to[1]), b).store(&mut to[1]);
    } else {
        let mut piece = [0f32; PIECE];
        let (vectors, _) = piece.as_chunks_mut();
        a.store(&mut vectors[0]);
        b.store(&mut vectors[1]);
        join_into(to, &piece, how);
    }
}

/// A piece as bf16, all of it or what there is room for.
#[inline(always)]
pub(super) fn store_halves<V: Vector>(to: &mut [u16], [a, b]: Pair<V>) {
    if let Some(to) = to.first_chunk_mut::<PIECE>() {
        let (to, _) = to.as_chunks_mut();
        a.to_halves(&mut to[0]);
        b.to_halves(&mut to[1]);
    } else {
        let mut piece = [0u16; PIECE];
        let (vectors, _) = piece.as_chunks_mut();
        a.to_halves(&mut vectors[0]);
        b.to_halves(&mut vectors[1]);
        to.copy_from_slice(&piece[..to.len()]);
    }
}
