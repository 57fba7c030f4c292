//! Softmax over the last axis, fused in both directions.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::{exp, sum};
use super::{by_rows, by_rows2, numbers};

pub(super) struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = numbers(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let to = by_rows(from, width, |from, to| {
            for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
                softmax_row(from, to);
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        result.contiguous()?.apply_op2_no_bwd(&grad.contiguous()?, &SoftmaxGrad).map(Some)
    }
}

/// Softmax of one row, `from` and `to` of one length.
pub(super) fn softmax_row(from: &[f32], to: &mut [f32]) {
    let largest = from.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (to, from) in to.iter_mut().zip(from) {
        *to = exp(from - largest);
    }
    let scale = 1.0 / sum(to);
    for to in to {
        *to *= scale;
    }
}

/// `y * (g - sum(g * y))` from the softmax `y` and the gradient `g` of its result.
struct SoftmaxGrad;

impl CustomOp2 for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax-grad"
    }

    fn cpu_fwd(
        &self,
        result: &CpuStorage,
        result_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (result, grad) = (numbers(result, result_layout)?, numbers(grad, grad_layout)?);
        let width = result_layout.dims().last().copied().unwrap_or(1);
        let to = by_rows2(result, grad, width, |result, grad, to| {
            let rows =
                result.chunks_exact(width).zip(grad.chunks_exact(width)).zip(to.chunks_exact_mut(width));
            for ((result, grad), to) in rows {
                for ((to, y), g) in to.iter_mut().zip(result).zip(grad) {
                    *to = y * g;
                }
                let total = sum(to);
                for (to, y) in to.iter_mut().zip(result) {
                    *to -= y * total;
                }
            }
        });
        Ok((CpuStorage::F32(to), result_layout.shape().clone()))
    }
}
