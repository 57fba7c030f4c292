//! The arithmetic of attention. Queries are scaled before everything here.

use candle_core::{D, Result, Tensor};

use super::landmarks::Landmarks;
use super::pinv::pinv;
use crate::model::ops::{softmax, wide};

/// Most numbers of an attention matrix held at once, over all heads and images (64 MiB in f32): 8040 tokens and 10
/// heads would otherwise take 2.6 GB. Small enough to keep memory flat, large enough that products stay efficient.
const MAX_SCORES: usize = 16 << 20;

/// Numbers of the attention matrix held at once for one image.
pub(crate) fn scores_held(heads: usize, queries: usize, keys: usize) -> usize {
    (heads * queries * keys).min(MAX_SCORES.max(heads * keys))
}

/// Exact attention `softmax(q kᵀ) v`: `q`, `k`, `v` `[batch, heads, tokens, dim_head]` to the same.
///
/// Long sequences are taken in runs of queries, so that the whole matrix never exists.
pub fn exact(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    attend(q, k, v, MAX_SCORES)
}

/// `softmax(q kᵀ) v` with at most `max_scores` numbers of the matrix at a time (but at least one row a head).
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, max_scores: usize) -> Result<Tensor> {
    let (batch, heads, queries, _) = q.dims4()?;
    let keys = k.dim(2)?;
    let kt = k.transpose(D::Minus1, D::Minus2)?;
    let run = (max_scores / (batch * heads * keys)).max(1);
    if run >= queries {
        return softmax(&q.matmul(&kt)?)?.matmul(v);
    }
    let mut parts = Vec::with_capacity(queries.div_ceil(run));
    for start in (0..queries).step_by(run) {
        let q = q.narrow(2, start, run.min(queries - start))?.contiguous()?;
        parts.push(softmax(&q.matmul(&kt)?)?.matmul(v)?);
    }
    Tensor::cat(&parts, 2)
}

/// Nyström attention: `softmax(q klᵀ) · (pinv(softmax(ql klᵀ)) · (softmax(ql kᵀ) · v))`, where `ql` and `kl` are the
/// landmark means of `q` and `k`. Shapes as [`exact`].
///
/// The order of the products matters: the pseudo-inverse meets `[landmarks, dim_head]`, never `[tokens, landmarks]`.
/// In bf16 it is still made in f32, as the means are: its iteration squares what rounding leaves.
pub fn nystrom(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    landmarks: &Landmarks,
    iterations: usize,
) -> Result<Tensor> {
    let (dtype, wide) = (q.dtype(), wide(q.dtype()));
    let (ql, kl) = (landmarks.means(&q.to_dtype(wide)?)?, landmarks.means(&k.to_dtype(wide)?)?);
    let klt = kl.transpose(D::Minus1, D::Minus2)?;
    let middle = pinv(&softmax(&ql.matmul(&klt)?)?, iterations)?;
    let values = attend(&ql.to_dtype(dtype)?, k, v, MAX_SCORES)?;
    let values = middle.matmul(&values.to_dtype(wide)?)?.to_dtype(dtype)?;
    attend(q, &kl.to_dtype(dtype)?, &values, MAX_SCORES)
}

/// Depthwise convolution of the values along the tokens: `v [batch, heads, tokens, dim_head]`, `weight
/// [heads, 1, kernel, 1]`, one kernel a head, zero padding. A cross-correlation, as in the usual tensor libraries.
pub fn conv_residual(v: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, heads, tokens, _) = v.dims4()?;
    let kernel = weight.dim(2)?;
    let padded = v.pad_with_zeros(2, kernel / 2, kernel / 2)?;
    let mut total: Option<Tensor> = None;
    for shift in 0..kernel {
        let tap = weight.narrow(2, shift, 1)?.reshape((1, heads, 1, 1))?;
        let part = padded.narrow(2, shift, tokens)?.broadcast_mul(&tap)?;
        total = Some(match total {
            Some(total) => (total + part)?,
            None => part,
        });
    }
    Ok(total.expect("a kernel has at least one tap"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn error(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn runs_of_queries_give_what_the_whole_matrix_gives() {
        let wave = |step: f32| {
            let values: Vec<f32> = (0..2 * 3 * 50 * 8).map(|i| (i as f32 * step).sin()).collect();
            Tensor::from_vec(values, (2, 3, 50, 8), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (wave(0.37), wave(1.91), wave(2.23));
        let whole = exact(&q, &k, &v).unwrap();
        for max_scores in [1, 2 * 3 * 50 * 7, 2 * 3 * 50 * 49] {
            assert!(error(&attend(&q, &k, &v, max_scores).unwrap(), &whole) < 1e-5, "{max_scores}");
        }
    }

    #[test]
    fn the_convolution_is_a_cross_correlation_with_zero_padding() {
        let v = Tensor::new(&[[[[1f32], [10.], [100.]]]], &Device::Cpu).unwrap();
        let weight = Tensor::new(&[2f32, 3., 5.], &Device::Cpu).unwrap().reshape((1, 1, 3, 1)).unwrap();
        let got = conv_residual(&v, &weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [3. + 50., 2. + 30. + 500., 20. + 300.]);
    }
}
