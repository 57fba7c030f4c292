//! Sums and special functions that vectorise.

use std::f32::consts::{FRAC_2_SQRT_PI, LOG2_E};

/// Sum with eight running totals: vectorises, and rounds less than one total would.
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut totals = [0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (total, value) in totals.iter_mut().zip(chunk) {
            *total += value;
        }
    }
    totals.iter().sum::<f32>() + rest
}

/// `e^x` for `x <= 88`, to about 1e-7 relative; below -87 it gives the smallest normal numbers rather than 0.
///
/// Two to an integer power times a polynomial on `[-ln2/2, ln2/2]`, without branches, so that loops over it
/// vectorise.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding `1.5 * 2^23` rounds a small number to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first exact in few bits.
    const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let x = x.max(-87.0);
    let shifted = x * LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = (x - power * LN2.0) - power * LN2.1;
    let tail = ((((1.0 / 720.0 * r + 1.0 / 120.0) * r + 1.0 / 24.0) * r + 1.0 / 6.0) * r + 0.5) * r;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (tail * r + r + 1.0) * scale
}

/// The error function, to 4e-7 absolute: a rational function of odd degree on `[-3.83, 3.83]`, beyond
/// which it is 1 in f32 (the coefficients are Eigen's and XLA's).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-3.832_507, 3.832_507);
    let s = x * x;
    let top = 2.290_506_6e-4;
    let top = top * s + 3.408_291e-3;
    let top = top * s + 5.095_569_5e-2;
    let top = top * s + 0.185_208_32;
    let top = top * s + FRAC_2_SQRT_PI;
    let low = -1.179_160_3e-7;
    let low = low * s + 2.354_796_6e-5;
    let low = low * s + 1.017_962_5e-3;
    let low = low * s + 1.407_047e-2;
    let low = low * s + 0.110_985_05;
    let low = low * s + 0.497_469_25;
    let low = low * s + 1.0;
    x * top / low
}

#[cfg(test)]
mod tests {
    use super::super::testing::grid;
    use super::*;

    #[test]
    fn exp_and_erf_agree_with_the_exact_functions() {
        for x in grid(-86.0, 10.0, 20_001) {
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 3e-7, "exp({x})");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        for x in grid(-6.0, 6.0, 20_001) {
            let error = (f64::from(erf(x)) - libm::erf(f64::from(x))).abs();
            assert!(error < 4e-7, "erf({x}) is off by {error:e}");
        }
    }
}
