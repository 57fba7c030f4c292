//! Exact attention of a training pass, fused in both directions.
//!
//! Queries, keys and values are read where the projection left them, `[batch, tokens, 3 * heads * dim_head]`, and the
//! result lies as the output projection wants it: no copy turns one into the other. One thread takes one image; the
//! attention matrix exists for one head and one run of queries at a time, and is made again in the backward pass
//! (Dao et al., 2022), which costs less than keeping it.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{exp, sum};
use super::matmul::{Mat, MatMut, Threads, product};
use super::numbers;

/// Queries whose scores exist at once: at 8040 tokens they take 8 MiB a thread.
const RUN: usize = 256;

/// Heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// How many.
    pub(crate) count: usize,
    /// Width of one.
    pub(crate) width: usize,
}

impl Heads {
    /// Width of queries, keys or values over all heads.
    fn inner(self) -> usize {
        self.count * self.width
    }

    fn scale(self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Where query, key and value of a head begin in a row of the projection.
    fn starts(self, head: usize) -> [usize; 3] {
        [0, 1, 2].map(|part| part * self.inner() + head * self.width)
    }
}

/// One image's projection: `[tokens, 3 * inner]`.
#[derive(Clone, Copy)]
struct Image<'a> {
    qkv: &'a [f32],
    tokens: usize,
    heads: Heads,
}

impl<'a> Image<'a> {
    /// Part 0 (queries), 1 (keys) or 2 (values) of one head, from token `first`.
    fn part(&self, part: usize, head: usize, first: usize, count: usize) -> Mat<'a> {
        let row = 3 * self.heads.inner();
        Mat::strided(&self.qkv[first * row + self.heads.starts(head)[part]..], count, self.heads.width, row)
    }

    /// Runs of queries: the first token and how many.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let tokens = self.tokens;
        (0..tokens).step_by(RUN).map(move |first| (first, RUN.min(tokens - first)))
    }

    /// Attention of a run of queries of one head: `[count, tokens]`.
    fn probabilities(&self, head: usize, first: usize, count: usize, to: &mut [f32]) {
        let (q, k) = (self.part(0, head, first, count), self.part(1, head, 0, self.tokens));
        let scores = MatMut::new(to, count, self.tokens);
        product(scores, q, k.t(), self.heads.scale(), Threads::One);
        to.chunks_exact_mut(self.tokens).for_each(softmax_in_place);
    }
}

fn softmax_in_place(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    let scale = 1.0 / sum(row);
    row.iter_mut().for_each(|value| *value *= scale);
}

pub(super) struct Attention {
    pub(super) heads: Heads,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, tokens, row) = layout.shape().dims3()?;
        let inner = self.heads.inner();
        let mut to = vec![0f32; batch * tokens * inner];
        let images = numbers(qkv, layout)?.par_chunks(tokens * row);
        to.par_chunks_mut(tokens * inner).zip(images).for_each(|(to, qkv)| {
            let image = Image { qkv, tokens, heads: self.heads };
            let mut scores = vec![0f32; RUN.min(tokens) * tokens];
            for head in 0..self.heads.count {
                let values = image.part(2, head, 0, tokens);
                for (first, count) in image.runs() {
                    let scores = &mut scores[..count * tokens];
                    image.probabilities(head, first, count, scores);
                    let out = &mut to[first * inner + head * self.heads.width..];
                    let out = MatMut::strided(out, count, self.heads.width, inner);
                    product(out, Mat::new(scores, count, tokens), values, 1.0, Threads::One);
                }
            }
        });
        Ok((CpuStorage::F32(to), Shape::from((batch, tokens, inner))))
    }

    fn bwd(&self, qkv: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = AttentionGrad { heads: self.heads };
        qkv.contiguous()?.apply_op2_no_bwd(&grad.contiguous()?, &op).map(Some)
    }
}

struct AttentionGrad {
    heads: Heads,
}

impl CustomOp2 for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention-grad"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, tokens, row) = layout.shape().dims3()?;
        let (qkv, grad) = (numbers(qkv, layout)?, numbers(grad, grad_layout)?);
        let mut to = vec![0f32; qkv.len()];
        let inputs = qkv.par_chunks(tokens * row).zip(grad.par_chunks(tokens * self.heads.inner()));
        to.par_chunks_mut(tokens * row).zip(inputs).for_each(|(to, (qkv, grad))| {
            let image = Image { qkv, tokens, heads: self.heads };
            let scratch = vec![0f32; 2 * RUN.min(tokens) * tokens];
            let mut work = ImageGrad { image, grad, to, scratch };
            for head in 0..self.heads.count {
                image.runs().for_each(|run| work.add(head, run));
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}

/// The backward pass of one image.
struct ImageGrad<'a> {
    image: Image<'a>,
    /// Gradient of the result, `[tokens, inner]`.
    grad: &'a [f32],
    /// Gradient of the projection, `[tokens, 3 * inner]`.
    to: &'a mut [f32],
    /// Two score matrices.
    scratch: Vec<f32>,
}

impl ImageGrad<'_> {
    /// Adds what one run of queries of one head gives: with `p` the attention and `g` the result's gradient,
    /// `dv += pᵀ g`, `ds = p (g vᵀ - sum(p g vᵀ))`, `dq = ds k scale`, `dk += dsᵀ q scale`.
    fn add(&mut self, head: usize, (first, count): (usize, usize)) {
        let Self { image, grad, to, scratch } = self;
        let (tokens, width, inner) = (image.tokens, image.heads.width, image.heads.inner());
        let scale = image.heads.scale();
        let [q, k, v] = image.heads.starts(head);
        let (p, ds) = scratch[..2 * count * tokens].split_at_mut(count * tokens);
        image.probabilities(head, first, count, p);
        let g = Mat::strided(&grad[first * inner + head * width..], count, width, inner);
        let mut add = |start: usize, a: Mat<'_>, b: Mat<'_>, scale: f32| {
            let out = MatMut::strided(&mut to[start..], a.rows(), width, 3 * inner);
            product(out.adding(), a, b, scale, Threads::One);
        };
        add(v, Mat::new(p, count, tokens).t(), g, 1.0);
        let values = image.part(2, head, 0, tokens).t();
        product(MatMut::new(ds, count, tokens), g, values, 1.0, Threads::One);
        for (ds, p) in ds.chunks_exact_mut(tokens).zip(p.chunks_exact(tokens)) {
            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds *= p);
            let total = sum(ds);
            ds.iter_mut().zip(p).for_each(|(ds, p)| *ds -= p * total);
        }
        let ds = Mat::new(ds, count, tokens);
        add(first * 3 * inner + q, ds, image.part(1, head, 0, tokens), scale);
        add(k, ds.t(), image.part(0, head, first, count), scale);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_against;
    use super::*;
    use candle_core::D;

    fn composed(qkv: &Tensor, heads: Heads) -> Result<Tensor> {
        let (batch, tokens, _) = qkv.dims3()?;
        let qkv = qkv
            .reshape((batch, tokens, 3, heads.count, heads.width))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let q = (qkv.get(0)? * f64::from(heads.width as u32).powf(-0.5))?;
        let scores = q.matmul(&qkv.get(1)?.transpose(D::Minus1, D::Minus2)?)?;
        let out = super::super::softmax(&scores)?.matmul(&qkv.get(2)?)?;
        out.transpose(1, 2)?.reshape((batch, tokens, heads.inner()))
    }

    #[test]
    fn attention_and_its_gradient_in_one_run_and_in_several() {
        let heads = Heads { count: 3, width: 4 };
        for shape in [[2, 19, 36], [1, RUN + 5, 36]] {
            check_against(
                &[&shape],
                |x| {
                    Ok(super::super::attention(&x[0], heads)?
                        .expect("a followed f32 tensor takes the fused path"))
                },
                |x| composed(&x[0], heads),
            );
        }
    }
}
