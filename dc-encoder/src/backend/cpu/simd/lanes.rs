//! Arithmetic on runs of numbers, written once: compiled for AVX-512 where the processor has it, and plainly.
//!
//! The loops have no branches and keep sixteen running totals, so that the compiler turns them into vector
//! instructions; `FUSED` says whether a multiply-add is one instruction (it is a library call where it is not).

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// Lanes of one AVX-512 register.
const LANES: usize = 16;

#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for `x <= 88`, to about 1e-7 relative; below -87 it gives the smallest normal numbers rather than 0.
#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    /// Adding `1.5 * 2^23` rounds a small number to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first exact in few bits.
    const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let x = x.max(-87.0);
    let shifted = fma::<FUSED>(x, LOG2_E, ROUND);
    let power = shifted - ROUND;
    let r = fma::<FUSED>(-power, LN2.1, fma::<FUSED>(-power, LN2.0, x));
    let tail = fma::<FUSED>(1.0 / 720.0, r, 1.0 / 120.0);
    let tail = fma::<FUSED>(tail, r, 1.0 / 24.0);
    let tail = fma::<FUSED>(tail, r, 1.0 / 6.0);
    let tail = fma::<FUSED>(tail, r, 0.5);
    let value = fma::<FUSED>(tail * r, r, r + 1.0);
    value * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// The error function, to 4e-7 absolute; the coefficients are those of `model::ops`.
#[inline(always)]
fn erf<const FUSED: bool>(x: f32) -> f32 {
    let x = x.clamp(-3.832_507, 3.832_507);
    let s = x * x;
    let top = fma::<FUSED>(2.290_506_6e-4, s, 3.408_291e-3);
    let top = fma::<FUSED>(top, s, 5.095_569_5e-2);
    let top = fma::<FUSED>(top, s, 0.185_208_32);
    let top = fma::<FUSED>(top, s, FRAC_2_SQRT_PI);
    let low = fma::<FUSED>(-1.179_160_3e-7, s, 2.354_796_6e-5);
    let low = fma::<FUSED>(low, s, 1.017_962_5e-3);
    let low = fma::<FUSED>(low, s, 1.407_047e-2);
    let low = fma::<FUSED>(low, s, 0.110_985_05);
    let low = fma::<FUSED>(low, s, 0.497_469_25);
    let low = fma::<FUSED>(low, s, 1.0);
    x * top / low
}

/// Exact GELU in place.
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(values: &mut [f32]) {
    for x in values {
        let half = 0.5 * *x;
        *x = fma::<FUSED>(half, erf::<FUSED>(*x * FRAC_1_SQRT_2), half);
    }
}

/// Folds a run of numbers into one with sixteen running totals.
#[inline(always)]
fn fold(values: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut totals = [start; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (total, value) in totals.iter_mut().zip(chunk) {
            *total = join(*total, *value);
        }
    }
    for (total, value) in totals.iter_mut().zip(rest) {
        *total = join(*total, *value);
    }
    totals.into_iter().fold(start, join)
}

/// The largest of some numbers, `NEG_INFINITY` of none.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
}

/// The smallest of some numbers, `INFINITY` of none.
#[inline(always)]
fn smallest(values: &[f32]) -> f32 {
    fold(values, f32::INFINITY, |a, b| if a < b { a } else { b })
}

/// The sum of some numbers.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    fold(values, 0.0, |a, b| a + b)
}

/// LayerNorm of one row: `(x - mean) / sqrt(variance + eps) * weight + bias`.
#[inline(always)]
pub(super) fn norm<const FUSED: bool>(
    row: &[f32],
    (weight, bias): (&[f32], &[f32]),
    eps: f32,
    to: &mut [f32],
) {
    let share = 1.0 / row.len() as f32;
    let mean = sum(row) * share;
    for (to, value) in to.iter_mut().zip(row) {
        *to = value - mean;
    }
    let scale = 1.0 / (squares::<FUSED>(to) * share + eps).sqrt();
    for ((to, weight), bias) in to.iter_mut().zip(weight).zip(bias) {
        *to = fma::<FUSED>(*to * scale, *weight, *bias);
    }
}

/// The sum of squares.
#[inline(always)]
fn squares<const FUSED: bool>(values: &[f32]) -> f32 {
    let mut totals = [0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (total, value) in totals.iter_mut().zip(chunk) {
            *total = fma::<FUSED>(*value, *value, *total);
        }
    }
    totals.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

/// f32 to the nearest bf16, ties to even.
#[inline(always)]
fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Some numbers as bf16, in order.
#[inline(always)]
pub(super) fn to_halves(values: &[f32], to: &mut [u16]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to = to_half(*value);
    }
}

/// bf16 to f32, in order.
#[inline(always)]
pub(super) fn from_halves(halves: &[[u16; 2]], to: &mut [f32]) {
    for (to, half) in to.iter_mut().zip(halves.as_flattened()) {
        *to = f32::from_bits(u32::from(*half) << 16);
    }
}

/// A row as unsigned bytes: `value ≈ scale * (byte - zero)`, with the row's own range, which always holds 0.
#[inline(always)]
pub(super) fn to_bytes(values: &[f32], to: &mut [u8]) -> (f32, f32) {
    let (low, high) = (smallest(values).min(0.0), largest(values).max(0.0));
    let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
    let (inverse, zero) = (1.0 / scale, (-low / scale).round());
    for (to, value) in to.iter_mut().zip(values) {
        // Adding 2^23 leaves the nearest integer in the lowest bits.
        let shifted = (value * inverse + zero).clamp(0.0, 255.0) + 8_388_608.0;
        *to = shifted.to_bits() as u8;
    }
    (scale, zero)
}

/// One row of scores of one run of keys becomes powers `e^(scale * (score - largest))`, and their sum.
#[inline(always)]
pub(super) fn powers<const FUSED: bool>(scores: &mut [f32], scale: f32, largest: f32) -> f32 {
    let shift = -scale * largest;
    let mut totals = [0f32; LANES];
    for chunk in scores.chunks_mut(LANES) {
        for (total, score) in totals.iter_mut().zip(chunk) {
            *score = exp::<FUSED>(fma::<FUSED>(*score, scale, shift));
            *total += *score;
        }
    }
    totals.iter().sum()
}
