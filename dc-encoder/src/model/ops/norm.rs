//! LayerNorm in two passes, with its gradients. candle's takes `mean(x²) - mean(x)²`, which cancels where the mean is
//! large, and has no backward pass.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::math::sum;
use super::{by_rows, group, numbers, sum_of_rows};
use rayon::prelude::*;

pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

/// Mean and one over the deviation of a row; `scratch` is as long as the row.
fn statistics(row: &[f32], eps: f32, scratch: &mut [f32]) -> (f32, f32) {
    let mean = sum(row) / row.len() as f32;
    for (to, from) in scratch.iter_mut().zip(row) {
        *to = (from - mean) * (from - mean);
    }
    (mean, 1.0 / (sum(scratch) / row.len() as f32 + eps).sqrt())
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let (weight, bias) = (numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let width = weight.len();
        let to = by_rows(numbers(x, x_layout)?, width, |from, to| {
            for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
                let (mean, scale) = statistics(from, self.eps, to);
                for (((to, from), weight), bias) in to.iter_mut().zip(from).zip(weight).zip(bias) {
                    *to = (from - mean) * scale * weight + bias;
                }
            }
        });
        Ok((CpuStorage::F32(to), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, grad) = (x.contiguous()?, grad.contiguous()?);
        let into_x = x.apply_op3_no_bwd(weight, &grad, &InputGrad { eps: self.eps })?;
        let both = x.apply_op2_no_bwd(&grad, &ScaleGrad { eps: self.eps })?;
        Ok((Some(into_x), Some(both.get(0)?), Some(both.get(1)?)))
    }
}

/// With `n` the normalised row and `g` the gradient times the weight: `(g - mean(g) - n * mean(g * n)) * scale`.
struct InputGrad {
    eps: f32,
}

impl CustomOp3 for InputGrad {
    fn name(&self) -> &'static str {
        "layer-norm-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let grad = numbers(grad, grad_layout)?;
        let width = weight.len();
        let share = 1.0 / width as f32;
        let row = |x: &[f32], grad: &[f32], to: &mut [f32], product: &mut [f32]| {
            let (mean, scale) = statistics(x, self.eps, to);
            for (((to, product), (x, grad)), weight) in
                to.iter_mut().zip(product.iter_mut()).zip(x.iter().zip(grad)).zip(weight)
            {
                *to = grad * weight;
                *product = *to * (x - mean) * scale;
            }
            let (along, across) = (sum(to) * share, sum(product) * share);
            for (to, x) in to.iter_mut().zip(x) {
                *to = (*to - along - (x - mean) * scale * across) * scale;
            }
        };
        let mut to = vec![0f32; x.len()];
        let group = group(width);
        to.par_chunks_mut(group).zip(x.par_chunks(group).zip(grad.par_chunks(group))).for_each(
            |(to, (x, grad))| {
                let mut product = vec![0f32; width];
                let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                for ((x, grad), to) in rows.zip(to.chunks_exact_mut(width)) {
                    row(x, grad, to, &mut product);
                }
            },
        );
        Ok((CpuStorage::F32(to), x_layout.shape().clone()))
    }
}

/// The gradients of weight and bias, one above the other: `[2, width]`.
struct ScaleGrad {
    eps: f32,
}

impl CustomOp2 for ScaleGrad {
    fn name(&self) -> &'static str {
        "layer-norm-scale-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (numbers(x, x_layout)?, numbers(grad, grad_layout)?);
        let width = x_layout.dims().last().copied().unwrap_or(1);
        let totals = sum_of_rows(x.len() / width, 2 * width, |rows, totals| {
            let (weight, bias) = totals.split_at_mut(width);
            let mut scratch = vec![0f32; width];
            let span = rows.start * width..rows.end * width;
            for (x, grad) in x[span.clone()].chunks_exact(width).zip(grad[span].chunks_exact(width)) {
                let (mean, scale) = statistics(x, self.eps, &mut scratch);
                for (((weight, bias), x), grad) in weight.iter_mut().zip(bias.iter_mut()).zip(x).zip(grad) {
                    *weight += grad * (x - mean) * scale;
                    *bias += grad;
                }
            }
        });
        Ok((CpuStorage::F32(totals), Shape::from((2, width))))
    }
}
