//! Multi-head attention, exact or through landmarks.
//!
//! ```text
//! x ─► qkv ─► heads ─► q·scale, k, v ─┬─ exact    softmax(q kᵀ) v
//!                                     ├─ Nyström  k1 · (pinv(k2) · (k3 · v))      (Xiong et al., 2021)
//!                                     └─ + residual convolution of v over tokens (optional)
//!                                                        └─► join heads ─► out
//! ```
//! Which of the two runs is decided once per forward pass by the shape of the sequence, as a [`Plan`] that all
//! blocks share.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, VarBuilder};

mod kernels;
mod landmarks;
mod pinv;

pub(crate) use kernels::scores_held;
pub use kernels::{conv_residual, exact, nystrom};
pub use landmarks::{BlockGrid, Landmarks, bounds};
pub use pinv::pinv;

use super::layers::linear;
use super::ops::{self, Heads};

/// Shape of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub dim_head: usize,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
    /// Width of the residual convolution, 0 = none.
    pub conv_kernel: usize,
    /// Iterations of the pseudo-inverse.
    pub pinv_iterations: usize,
}

/// How the blocks attend in one forward pass.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Every token to every token.
    Exact,
    /// Through the same landmarks for every image of the batch.
    Nystrom(Landmarks),
    /// Through landmarks of its own for each image: two-dimensional blocks over a visible subset, which differs
    /// from image to image.
    PerImage(Vec<Landmarks>),
}

/// Multi-head attention.
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    out: Linear,
    conv: Option<Tensor>,
    shape: Shape,
}

impl Attention {
    /// Reads `qkv [3 * inner, dim]` (queries, keys, values; inside each, head by head), `out [dim, inner]` and
    /// `conv [heads, 1, kernel, 1]`.
    pub fn new(dim: usize, shape: &Shape, vb: VarBuilder<'_>) -> Result<Self> {
        let inner = shape.heads * shape.dim_head;
        let conv = match shape.conv_kernel {
            0 => None,
            kernel => Some(vb.get((shape.heads, 1, kernel, 1), "conv.weight")?),
        };
        Ok(Self {
            qkv: linear(dim, 3 * inner, shape.qkv_bias, vb.pp("qkv"))?,
            out: linear(inner, dim, true, vb.pp("out"))?,
            conv,
            shape: *shape,
        })
    }

    /// `[batch, tokens, dim]` to the same.
    pub fn forward(&self, x: &Tensor, plan: &Plan) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let qkv = ops::linear(&self.qkv, x)?;
        if matches!(plan, Plan::Exact) && self.conv.is_none() {
            let heads = Heads { count: self.shape.heads, width: self.shape.dim_head };
            if let Some(joined) = ops::attention(&qkv, heads)? {
                return ops::linear(&self.out, &joined);
            }
        }
        let (q, k, v) = self.split(&qkv)?;
        let core = match plan {
            Plan::Exact => exact(&q, &k, &v)?,
            Plan::Nystrom(landmarks) => nystrom(&q, &k, &v, landmarks, self.shape.pinv_iterations)?,
            Plan::PerImage(each) => {
                let one = |(image, landmarks): (usize, &Landmarks)| {
                    let part = |t: &Tensor| t.narrow(0, image, 1);
                    nystrom(&part(&q)?, &part(&k)?, &part(&v)?, landmarks, self.shape.pinv_iterations)
                };
                Tensor::cat(&each.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        let core = match &self.conv {
            Some(weight) => {
                let residual = conv_residual(&v.to_dtype(weight.dtype())?, weight)?;
                (&core + residual.to_dtype(core.dtype())?)?
            }
            None => core,
        };
        let joined =
            core.transpose(1, 2)?.reshape((batch, tokens, self.shape.heads * self.shape.dim_head))?;
        ops::linear(&self.out, &joined)
    }

    /// Scaled queries, keys and values of `[batch, tokens, dim]`, each `[batch, heads, tokens, dim_head]`.
    pub fn project(&self, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        self.split(&ops::linear(&self.qkv, x)?)
    }

    /// Scaled queries, keys and values of a projection `[batch, tokens, 3 * inner]`.
    fn split(&self, qkv: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let (batch, tokens, _) = qkv.dims3()?;
        let Shape { heads, dim_head, .. } = self.shape;
        let qkv = qkv.reshape((batch, tokens, 3, heads, dim_head))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let q = (qkv.get(0)? * (dim_head as f64).powf(-0.5))?;
        Ok((q, qkv.get(1)?, qkv.get(2)?))
    }
}
