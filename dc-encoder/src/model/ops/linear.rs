//! Linear layers in training: product and bias in one pass, and only the gradients that are wanted.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use candle_nn::Linear;
use rayon::prelude::*;

use super::matmul::{Mat, MatMut, Threads, product};
use super::{CHUNK, numbers, sum_of_rows};

/// `[.., input]` to `[.., out]`.
pub(super) fn forward(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    match layer.bias() {
        Some(bias) => x.apply_op3(layer.weight(), bias, Biased),
        None => x.apply_op2(layer.weight(), Unbiased),
    }
}

/// `x wᵀ`, added to rows that hold the bias already if there is one.
fn multiply(
    x: &[f32],
    x_shape: &Shape,
    weight: &[f32],
    weight_shape: &Shape,
    bias: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (out, input) = weight_shape.dims2()?;
    let rows = x.len() / input;
    let mut to = vec![0f32; rows * out];
    let (a, b) = (Mat::new(x, rows, input), Mat::new(weight, out, input).t());
    if let Some(bias) = bias {
        to.par_chunks_mut(out * (CHUNK / out).max(1))
            .for_each(|rows| rows.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias)));
    }
    let sums = MatMut::new(&mut to, rows, out);
    product(if bias.is_some() { sums.adding() } else { sums }, a, b, 1.0, Threads::All);
    let mut dims = x_shape.dims().to_vec();
    *dims.last_mut().expect("a linear layer's input has an axis") = out;
    Ok((CpuStorage::F32(to), Shape::from(dims)))
}

/// Gradients of input (if it is followed) and weight.
fn gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Tensor)> {
    let (out, input) = weight.dims2()?;
    let (flat, grad) = (x.reshape(((), input))?, grad.reshape(((), out))?);
    let into_x = if x.track_op() { Some(grad.matmul(weight)?.reshape(x.shape())?) } else { None };
    Ok((into_x, grad.t()?.matmul(&flat)?))
}

struct Unbiased;

impl CustomOp2 for Unbiased {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        multiply(x, x_layout.shape(), weight, weight_layout.shape(), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (into_x, into_weight) = gradients(x, weight, &grad.contiguous()?)?;
        Ok((into_x, Some(into_weight)))
    }
}

struct Biased;

impl CustomOp3 for Biased {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        multiply(x, x_layout.shape(), weight, weight_layout.shape(), Some(numbers(bias, bias_layout)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (into_x, into_weight) = gradients(x, weight, &grad)?;
        let width = grad.dim(D::Minus1)?;
        Ok((into_x, Some(into_weight), Some(column_sums(&grad, &[width])?)))
    }
}

/// `x` as rows, each added up into one of shape `to`.
fn column_sums(x: &Tensor, to: &[usize]) -> Result<Tensor> {
    x.apply_op1_no_bwd(&ColumnSums { to: Shape::from(to) })
}

struct ColumnSums {
    to: Shape,
}

impl CustomOp1 for ColumnSums {
    fn name(&self) -> &'static str {
        "column-sums"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = numbers(x, layout)?;
        let width = self.to.elem_count();
        let totals = sum_of_rows(x.len() / width, width, |rows, totals| {
            for row in x[rows.start * width..rows.end * width].chunks_exact(width) {
                totals.iter_mut().zip(row).for_each(|(total, value)| *total += value);
            }
        });
        Ok((CpuStorage::F32(totals), self.to.clone()))
    }
}

/// One row added to every row.
pub(super) struct AddToRows;

impl CustomOp2 for AddToRows {
    fn name(&self) -> &'static str {
        "add-to-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        row: &CpuStorage,
        row_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, row) = (numbers(x, x_layout)?, numbers(row, row_layout)?);
        let mut to = vec![0f32; x.len()];
        to.par_chunks_mut(row.len()).zip(x.par_chunks(row.len())).for_each(|(to, x)| {
            for ((to, x), row) in to.iter_mut().zip(x).zip(row) {
                *to = x + row;
            }
        });
        Ok((CpuStorage::F32(to), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        row: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let into_row = column_sums(&grad, row.dims())?;
        Ok((Some(grad), Some(into_row)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, error, noise};
    use candle_core::Var;
    use candle_nn::Linear;

    #[test]
    fn a_layer_and_its_gradients_with_and_without_bias() {
        let layer = |x: &[candle_core::Tensor]| Linear::new(x[1].clone(), x.get(2).cloned());
        check(&[&[2, 67, 10], &[6, 10], &[6]], |x| super::super::linear(&layer(x), &x[0]));
        check(&[&[2, 67, 10], &[6, 10]], |x| super::super::linear(&layer(x), &x[0]));
    }

    #[test]
    fn an_input_without_a_history_takes_no_gradient() {
        let weight = Var::from_tensor(&noise(&[4, 3], 1)).unwrap();
        let layer = Linear::new(weight.as_tensor().clone(), None);
        let x = noise(&[5, 3], 2);
        let grads = super::super::linear(&layer, &x).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_none());
        let want = x.sum(0).unwrap().broadcast_as((4, 3)).unwrap();
        assert!(error(grads.get(&weight).unwrap(), &want) < 1e-6);
    }
}
