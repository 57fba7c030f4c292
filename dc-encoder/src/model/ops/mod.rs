//! The arithmetic that candle leaves slow, fused on the processor in both directions.
//!
//! ```text
//! softmax   gelu   layer_norm      row by row, on all threads
//! linear                           product and bias at once; no gradient for an input that needs none
//! attention                        queries, keys and values read where the projection left them
//! prediction_loss                  the decoder's last layer and the squared error, without the prediction
//! mixed                            bf16 products between f32 sums, on every device
//! ```
//! candle's own softmax and LayerNorm have no backward pass, its GELU calls a scalar `erf` on one thread, its
//! products always compute both gradients, and sums over rows walk a column at a time. On other devices than the
//! processor everything here falls back to candle's operations.

use candle_core::{CpuStorage, D, DType, Device, Layout, Result, Tensor};
use candle_nn::{Linear, Module as _};
use rayon::prelude::*;

mod attention;
mod gelu;
mod linear;
mod math;
pub(crate) mod matmul;
mod mixed;
mod norm;
mod prediction;
mod softmax;
#[cfg(test)]
mod testing;

pub(crate) use attention::Heads;
pub(crate) use mixed::wide;
pub use prediction::{Target, prediction_loss};

/// Elements one thread takes at a time: 16 KiB, well inside a core's first cache.
const CHUNK: usize = 4096;

/// Whether the fused kernels apply.
fn fused(x: &Tensor) -> bool {
    matches!(x.device(), Device::Cpu) && x.dtype() == DType::F32
}

/// Softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op1(softmax::Softmax);
    }
    if x.dtype() == mixed::NARROW {
        return softmax(&x.to_dtype(wide(x.dtype()))?)?.to_dtype(x.dtype());
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
    if fused(x) { x.contiguous()?.apply_op1(gelu::Gelu) } else { x.gelu_erf() }
}

/// LayerNorm over the last axis with the biased variance: `(x - mean) / sqrt(var + eps) * weight + bias`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op3(weight, bias, norm::LayerNorm { eps: eps as f32 });
    }
    let tracked = [x, weight, bias].iter().any(|t| t.track_op());
    if x.dtype() == DType::F32 && !tracked {
        return candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps as f32);
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// A linear layer: `[.., input]` to `[.., out]`, in the weight's format.
pub(crate) fn linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    if layer.weight().dtype() == mixed::NARROW {
        return mixed::linear(layer, x);
    }
    let tracked = x.track_op() || layer.weight().track_op();
    if tracked && fused(x) { linear::forward(layer, x) } else { layer.forward(x) }
}

/// `row` added to every row of `x`: `[rows, ..]` and `[..]` to `[rows, ..]`.
pub(crate) fn add_to_rows(x: &Tensor, row: &Tensor) -> Result<Tensor> {
    let tracked = x.track_op() || row.track_op();
    if tracked && fused(x) {
        x.contiguous()?.apply_op2(&row.contiguous()?, linear::AddToRows)
    } else {
        x.broadcast_add(row)
    }
}

/// Exact attention of a training pass over projections `[batch, tokens, 3 * heads * dim_head]` (queries, keys, values;
/// inside each, head by head): `[batch, tokens, heads * dim_head]`. `None` where the fused kernel does not apply.
pub(crate) fn attention(qkv: &Tensor, heads: Heads) -> Result<Option<Tensor>> {
    if !fused(qkv) || !qkv.track_op() {
        return Ok(None);
    }
    qkv.contiguous()?.apply_op1(attention::Attention { heads }).map(Some)
}

/// The contiguous numbers behind a CPU tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "fused kernel" }.bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Numbers in groups of whole rows of `width`, about [`CHUNK`] each.
fn group(width: usize) -> usize {
    width * (CHUNK / width.max(1)).max(1)
}

/// Runs `kernel` over groups of whole rows of `width` numbers, on all threads.
fn by_rows(from: &[f32], width: usize, kernel: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut to = vec![0f32; from.len()];
    let group = group(width);
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
    let group = group(width);
    to.par_chunks_mut(group)
        .zip(a.par_chunks(group).zip(b.par_chunks(group)))
        .for_each(|(to, (a, b))| kernel(a, b, to));
    to
}

/// Rows whose sums one thread makes. Fixed, so that sums do not depend on the number of threads.
const ROWS_PER_SUM: usize = 64;

/// Adds up what `kernel` adds to `width` totals for each run of rows; runs are added in order.
fn sum_of_rows(
    rows: usize,
    width: usize,
    kernel: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(ROWS_PER_SUM))
        .into_par_iter()
        .map(|part| {
            let mut totals = vec![0f32; width];
            let start = part * ROWS_PER_SUM;
            kernel(start..rows.min(start + ROWS_PER_SUM), &mut totals);
            totals
        })
        .collect();
    let mut totals = vec![0f32; width];
    for part in parts {
        totals.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::testing::check;

    #[test]
    fn softmax_and_its_gradient() {
        check(&[&[3, 7, 33]], |x| super::softmax(&x[0]));
    }

    #[test]
    fn gelu_and_its_gradient() {
        check(&[&[3, 7, 33]], |x| super::gelu(&x[0]));
    }

    #[test]
    fn layer_norm_and_its_gradients() {
        check(&[&[2, 99, 24], &[24], &[24]], |x| super::layer_norm(&x[0], &x[1], &x[2], 1e-5));
    }

    #[test]
    fn a_row_added_to_every_row_and_its_gradients() {
        check(&[&[70, 3, 5], &[3, 5]], |x| super::add_to_rows(&x[0], &x[1]));
    }
}
