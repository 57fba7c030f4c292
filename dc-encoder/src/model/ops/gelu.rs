//! Exact GELU, fused in both directions.

use std::f32::consts::FRAC_1_SQRT_2;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::{erf, exp};
use super::{by_rows, by_rows2, numbers};

pub(super) struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let to = by_rows(numbers(storage, layout)?, 1, |from, to| {
            for (to, x) in to.iter_mut().zip(from) {
                *to = 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2));
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        arg.contiguous()?.apply_op2_no_bwd(&grad.contiguous()?, &GeluGrad).map(Some)
    }
}

/// `g * (Phi(x) + x * phi(x))` from the input `x` and the gradient `g` of the result.
struct GeluGrad;

impl CustomOp2 for GeluGrad {
    fn name(&self) -> &'static str {
        "gelu-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        /// `1 / sqrt(2 pi)`
        const DENSITY: f32 = 0.398_942_3;
        let to = by_rows2(numbers(x, x_layout)?, numbers(grad, grad_layout)?, 1, |x, grad, to| {
            for ((to, x), g) in to.iter_mut().zip(x).zip(grad) {
                let below = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
                *to = g * (below + x * DENSITY * exp(-0.5 * x * x));
            }
        });
        Ok((CpuStorage::F32(to), x_layout.shape().clone()))
    }
}
