//! Mixed precision: products of bf16 numbers, whatever adds up many of them in f32.
//!
//! Composed of candle's operations, so that every device runs the same. A layer whose weight is bf16 answers in bf16;
//! position embeddings, LayerNorm and the residual stream stay f32 and take such an answer in.

use candle_core::{DType, Result, Tensor};
use candle_nn::Linear;

/// The narrow format.
pub(super) const NARROW: DType = DType::BF16;

/// The format in which sums over numbers of a format are made.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == NARROW { DType::F32 } else { dtype }
}

/// `[.., input]` of any float format through a layer with a bf16 weight: `[.., out]` in bf16.
pub(super) fn linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let (out, input) = layer.weight().dims2()?;
    let rows = x.to_dtype(NARROW)?.reshape(((), input))?;
    let mut y = rows.matmul(&layer.weight().t()?)?;
    if let Some(bias) = layer.bias() {
        y = add_to_rows(&y, bias)?;
    }
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    y.reshape(dims)
}

/// `row [width]` added to `x [rows, width]`.
///
/// Rows of it are made by a product with ones, whose gradient is a product too and adds up in f32. The gradient of a
/// broadcast is a sum in bf16, which stands still once it is 256 times as large as what comes.
fn add_to_rows(x: &Tensor, row: &Tensor) -> Result<Tensor> {
    let ones = Tensor::ones((x.dim(0)?, 1), NARROW, x.device())?;
    x + ones.matmul(&row.to_dtype(NARROW)?.reshape((1, ()))?)?
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, noise};
    use super::*;
    use candle_core::Var;

    /// Rounding of one bf16 number, as a share.
    const ROUNDING: f64 = 1.0 / 256.0;

    #[test]
    fn a_layer_and_its_gradients_are_off_by_a_rounding() {
        // Far more rows than a sum in bf16 could count.
        let shapes: [&[usize]; 3] = [&[20, 67, 10], &[6, 10], &[6]];
        let vars: Vec<Var> =
            shapes.iter().enumerate().map(|(i, s)| Var::from_tensor(&noise(s, i)).unwrap()).collect();
        let [x, weight, bias] = [0, 1, 2].map(|i| vars[i].as_tensor().clone());
        let layer = |dtype| Linear::new(weight.to_dtype(dtype).unwrap(), Some(bias.clone()));
        let run = |dtype| {
            let y = super::super::linear(&layer(dtype), &x).unwrap().to_dtype(DType::F32).unwrap();
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            // Here every row pulls a bias by 1, and nothing cancels.
            let counted = y.sum_all().unwrap().backward().unwrap();
            let all: Vec<Tensor> = vars.iter().map(|var| grads.get(var).unwrap().clone()).collect();
            (y, all, counted.get(&vars[2]).unwrap().clone())
        };
        let ((got, grads, counted), (want, wanted, rows)) = (run(NARROW), run(DType::F32));
        assert!(error(&got, &want) < 2.0 * ROUNDING);
        for (i, (got, want)) in grads.iter().zip(&wanted).enumerate() {
            assert_eq!(got.dtype(), DType::F32, "master weights take gradients in f32");
            assert!(error(got, want) < 4.0 * ROUNDING, "gradient {i} is off by {:e}", error(got, want));
        }
        assert!(error(&counted, &rows) < ROUNDING, "a bias is counted once for every row");
    }

    #[test]
    fn softmax_is_made_in_f32() {
        let x = (noise(&[4, 300], 1) * 5.0).unwrap();
        let narrow = x.to_dtype(NARROW).unwrap();
        let got = super::super::softmax(&narrow).unwrap();
        assert_eq!(got.dtype(), NARROW);
        let want = super::super::softmax(&narrow.to_dtype(DType::F32).unwrap()).unwrap();
        assert!(error(&got, &want) < ROUNDING);
    }
}
