//! Softmax, GELU and LayerNorm: fused on the processor, differentiable where training needs it.
//!
//! candle's own fused softmax and LayerNorm have no backward pass and its GELU calls a scalar `erf` on one
//! thread. Here softmax and GELU are fused in both directions; LayerNorm is fused for inference and composed
//! from differentiable parts as soon as a gradient is wanted.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor,
};
use rayon::prelude::*;

/// Elements one thread takes at a time: 16 KiB, well inside a core's first cache.
const CHUNK: usize = 4096;

/// Whether the fused kernels below apply.
fn fused(x: &Tensor) -> bool {
    matches!(x.device(), Device::Cpu) && x.dtype() == DType::F32
}

/// Softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op1(Softmax);
    }
    if !x.track_op() && x.dtype() == DType::F32 {
        return candle_nn::ops::softmax_last_dim(&x.contiguous()?);
    }
    // The largest entry only guards against overflow: no gradient flows through it.
    let largest = x.max_keepdim(D::Minus1)?.detach();
    let powers = x.broadcast_sub(&largest)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// Exact GELU, `x/2 * (1 + erf(x / sqrt 2))`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if fused(x) { x.contiguous()?.apply_op1(Gelu) } else { x.gelu_erf() }
}

/// LayerNorm over the last axis with the biased variance: `(x - mean) / sqrt(var + eps) * weight + bias`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let tracked = [x, weight, bias].iter().any(|t| t.track_op());
    if fused(x) && !tracked {
        return x.contiguous()?.apply_op3_no_bwd(weight, bias, &LayerNorm { eps: eps as f32 });
    }
    if x.dtype() == DType::F32 && !tracked {
        return candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32);
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// The contiguous numbers behind a CPU tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "fused kernel" }.bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `kernel` over groups of whole rows of `width` numbers, on all threads.
fn by_rows(from: &[f32], width: usize, kernel: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut to = vec![0f32; from.len()];
    let group = width * (CHUNK / width.max(1)).max(1);
    to.par_chunks_mut(group).zip(from.par_chunks(group)).for_each(|(to, from)| kernel(from, to));
    to
}

/// As [`by_rows`], from two inputs of one shape.
fn by_rows2(
    a: &[f32],
    b: &[f32],
    width: usize,
    kernel: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut to = vec![0f32; a.len()];
    let group = width * (CHUNK / width.max(1)).max(1);
    to.par_chunks_mut(group)
        .zip(a.par_chunks(group).zip(b.par_chunks(group)))
        .for_each(|(to, (a, b))| kernel(a, b, to));
    to
}

struct Softmax;

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

fn softmax_row(from: &[f32], to: &mut [f32]) {
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

struct Gelu;

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

/// LayerNorm in two passes. candle's takes `mean(x²) - mean(x)²`, which cancels where the mean is large.
struct LayerNorm {
    eps: f32,
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
                let mean = sum(from) / width as f32;
                for (to, from) in to.iter_mut().zip(from) {
                    *to = (from - mean) * (from - mean);
                }
                let scale = 1.0 / (sum(to) / width as f32 + self.eps).sqrt();
                for (((to, from), weight), bias) in to.iter_mut().zip(from).zip(weight).zip(bias) {
                    *to = (from - mean) * scale * weight + bias;
                }
            }
        });
        Ok((CpuStorage::F32(to), x_layout.shape().clone()))
    }
}

/// Sum with eight running totals: vectorises, and rounds less than one total would.
fn sum(values: &[f32]) -> f32 {
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
fn exp(x: f32) -> f32 {
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
fn erf(x: f32) -> f32 {
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
    use super::*;
    use candle_core::Var;

    fn grid(low: f32, high: f32, count: usize) -> Vec<f32> {
        (0..count).map(|i| low + (high - low) * i as f32 / (count - 1) as f32).collect()
    }

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

    /// Value and gradient of `f` against the same function composed in f64, which never takes a fused path.
    fn check(f: impl Fn(&Tensor) -> Result<Tensor>) {
        let values = grid(-5.0, 6.0, 3 * 7 * 33);
        let x = Var::from_vec(values.clone(), (3, 7, 33), &Device::Cpu).unwrap();
        let weight = Tensor::from_vec(grid(-1.0, 1.0, values.len()), (3, 7, 33), &Device::Cpu).unwrap();
        let wide = Var::from_tensor(&x.to_dtype(DType::F64).unwrap()).unwrap();
        let wide_weight = weight.to_dtype(DType::F64).unwrap();

        let got = f(x.as_tensor()).unwrap();
        let want = f(wide.as_tensor()).unwrap();
        let error = |a: &Tensor, b: &Tensor| {
            let difference = (a.to_dtype(DType::F64).unwrap() - b).unwrap().abs().unwrap();
            difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
        };
        assert!(error(&got, &want) < 1e-6);

        let grads = (got * &weight).unwrap().sum_all().unwrap().backward().unwrap();
        let wide_grads = (want * &wide_weight).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(error(grads.get(&x).unwrap(), wide_grads.get(&wide).unwrap()) < 1e-6);
    }

    #[test]
    fn softmax_and_its_gradient() {
        check(softmax);
    }

    #[test]
    fn gelu_and_its_gradient() {
        check(gelu);
    }

    #[test]
    fn both_layer_norms_agree_and_the_tracked_one_has_gradients() {
        let x = Tensor::from_vec(grid(-3.0, 9.0, 4 * 24), (4, 24), &Device::Cpu).unwrap();
        let weight = Tensor::from_vec(grid(0.5, 1.5, 24), 24, &Device::Cpu).unwrap();
        let bias = Tensor::from_vec(grid(-0.5, 0.5, 24), 24, &Device::Cpu).unwrap();
        let fused = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
        let var = Var::from_tensor(&weight).unwrap();
        let composed = layer_norm(&x, var.as_tensor(), &bias, 1e-5).unwrap();
        let difference = (&fused - &composed).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 2e-6);
        assert!(composed.sum_all().unwrap().backward().unwrap().get(&var).is_some());
    }
}
