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
