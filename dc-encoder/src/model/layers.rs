//! The parts of a transformer block.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, VarBuilder};

use super::attention::{self, Attention, Plan};
use super::ops;

/// LayerNorm with a scale and a shift, over the last axis.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[dim]`.
    pub fn new(dim: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(dim, "weight")?, bias: vb.get(dim, "bias")?, eps })
    }

    /// `[.., dim]` to `[.., dim]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Reads `weight [out, input]` and, if there is one, `bias [out]`.
pub(crate) fn linear(input: usize, out: usize, bias: bool, vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get((out, input), "weight")?;
    let bias = if bias { Some(vb.get(out, "bias")?) } else { None };
    Ok(Linear::new(weight, bias))
}

/// Two linear layers with an exact GELU between them.
#[derive(Debug, Clone)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Reads `fc1` and `fc2`.
    pub fn new(dim: usize, hidden: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            fc1: linear(dim, hidden, true, vb.pp("fc1"))?,
            fc2: linear(hidden, dim, true, vb.pp("fc2"))?,
        })
    }

    /// `[batch, tokens, dim]` to the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(&self.fc2, &ops::gelu(&ops::linear(&self.fc1, x)?)?)
    }
}

/// Shape of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    /// Width of a token.
    pub dim: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Added to the variance in LayerNorm.
    pub ln_eps: f64,
    /// Shape of the attention.
    pub attention: attention::Shape,
}

/// A pre-norm transformer block: `x += attn(norm1(x)); x += mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// Reads `norm1`, `attn`, `norm2` and `mlp`.
    pub fn new(shape: &BlockShape, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(shape.dim, shape.ln_eps, vb.pp("norm1"))?,
            attn: Attention::new(shape.dim, &shape.attention, vb.pp("attn"))?,
            norm2: LayerNorm::new(shape.dim, shape.ln_eps, vb.pp("norm2"))?,
            mlp: Mlp::new(shape.dim, shape.mlp, vb.pp("mlp"))?,
        })
    }

    /// `[batch, tokens, dim]` to the same, in the format of `x` whatever the layers answer in.
    pub fn forward(&self, x: &Tensor, plan: &Plan) -> Result<Tensor> {
        let x = (x + self.attn.forward(&self.norm1.forward(x)?, plan)?.to_dtype(x.dtype())?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?.to_dtype(x.dtype())?
    }
}
