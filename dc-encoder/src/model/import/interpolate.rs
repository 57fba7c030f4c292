//! Resizing a grid of position embeddings to another grid.

/// Keys' cubic convolution kernel with this constant is what PyTorch and transformers use.
const A: f64 = -0.75;

/// Bicubic interpolation of `values [from.0 * from.1, width]` to `[to.0 * to.1, width]`: pixel centres at half
/// integers (`align_corners=False`), no antialiasing, edges repeated. The same numbers as
/// `torch.nn.functional.interpolate(mode="bicubic")`.
pub fn bicubic(values: &[f32], width: usize, from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let rows: Vec<_> = (0..to.0).map(|i| taps(i, from.0, to.0)).collect();
    let cols: Vec<_> = (0..to.1).map(|i| taps(i, from.1, to.1)).collect();
    let mut out = vec![0f32; to.0 * to.1 * width];
    let mut sums = vec![0f64; width];
    for (token, (row, col)) in rows.iter().flat_map(|row| cols.iter().map(move |col| (row, col))).enumerate()
    {
        sums.fill(0.0);
        for (y, y_weight) in row {
            for (x, x_weight) in col {
                let source = &values[(y * from.1 + x) * width..][..width];
                for (sum, value) in sums.iter_mut().zip(source) {
                    *sum += y_weight * x_weight * f64::from(*value);
                }
            }
        }
        for (out, sum) in out[token * width..][..width].iter_mut().zip(&sums) {
            *out = *sum as f32;
        }
    }
    out
}

/// The four source places and weights of place `i` of `to`.
fn taps(i: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = centre.floor();
    let past = centre - first;
    std::array::from_fn(|tap| {
        let place = (first as i64 + tap as i64 - 1).clamp(0, from as i64 - 1);
        (place as usize, kernel((past + 1.0 - tap as f64).abs()))
    })
}

/// Weight at a distance of `x` places.
fn kernel(x: f64) -> f64 {
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sin(i)` on a grid of 3x4 with 2 numbers a place.
    fn waves() -> Vec<f32> {
        (0..24).map(|i| (i as f32).sin()).collect()
    }

    fn assert_close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() < 2e-6, "{i}: {got} {want}");
        }
    }

    /// Computed with PyTorch 2.15, `interpolate(size=…, mode="bicubic", align_corners=False)` in f64.
    #[test]
    #[rustfmt::skip]
    fn enlarging_agrees_with_pytorch() {
        let want = [
            -0.208_461_6, 0.945_395_8, 0.407_103_8, 0.749_860_4, 1.067_754_1, 0.348_816_7, 0.207_359_6,
            -0.643_541_1, -0.840_777_9, -1.053_238_3, -0.642_005_8, -0.020_841_5, -0.363_972_1, 0.831_154,
            0.487_295_6, 0.888_687_5, 0.506_333_7, 0.383_395_6, 0.419_396_2, -0.314_948_3, -0.318_005_8,
            -0.641_699_8, -0.767_486_1, -0.387_457_8, -0.146_089, 0.343_537_5, 0.390_586_4, 0.882_779_4,
            1.141_494_7, 0.552_222_9, 0.466_411_2, -0.156_384_9, -0.456_631_7, -0.984_794_8, -0.827_224_5,
            -0.443_870_6, -0.448_850_1, 0.498_933, 0.470_688_8, 0.659_212_3, 1.142_128_8, 0.673_119_6,
            0.383_505_1, -0.467_418_8, -0.150_527_2, -0.502_695_3, -0.767_742_3, -0.436_312_3, -0.313_050_7,
            0.303_088_7, 0.425_076_3, 0.768_073_8, 0.505_158_7, 0.159_349_1, 0.480_698, -0.369_283_3,
            -0.374_769_2, -1.227_546_4, -0.645_410_1, -0.669_957_8, -0.834_444_5, 0.154_350_5, 0.215_299_3,
            0.870_330_5, 1.070_111_6, 0.798_315_3, 0.401_513_9, -0.315_973_8, -0.219_582_7, -1.175_075,
        ];
        assert_close(&bicubic(&waves(), 2, (3, 4), (5, 7)), &want);
    }

    /// As above; shrinking takes no more than four places either.
    #[test]
    #[rustfmt::skip]
    fn shrinking_agrees_with_pytorch() {
        let want = [0.554_290_6, 0.364_505_2, -0.483_312_5, -0.023_700_1, -0.485_791_1, -0.496_299_7, 0.553_584_9, 0.229_956_6];
        assert_close(&bicubic(&waves(), 2, (3, 4), (2, 2)), &want);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        assert_close(&bicubic(&waves(), 2, (3, 4), (3, 4)), &waves());
    }
}
