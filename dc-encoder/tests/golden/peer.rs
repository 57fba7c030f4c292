//! What the product does not build, for comparison only, in f64: Nyström attention as a package in wide use computes
//! it, with one pseudo-inverse scale for the whole batch and, optionally, zero tokens put in front until the landmarks
//! divide them.

use std::collections::HashMap;

use candle_core::{D, DType, Result, Tensor};
use dc_encoder::model::Config;
use dc_encoder::model::attention::{Shape, bounds, conv_residual};

type Weights = HashMap<String, Tensor>;

#[derive(Clone, Copy)]
pub(crate) struct Global {
    pub(crate) landmarks: usize,
    pub(crate) front_pad: bool,
}

/// The pseudo-inverse of `[.., m, m]` with one scale for all matrices.
pub(crate) fn pinv_global(a: &Tensor, iterations: usize) -> Tensor {
    inverse(&wide(a), iterations).unwrap()
}

/// An attention layer from the weights under `prefix`.
pub(crate) fn attention(weights: &Weights, prefix: &str, x: &Tensor, shape: &Shape, how: Global) -> Tensor {
    layer(weights, prefix, &wide(x), shape, how).unwrap()
}

/// An encoder of such layers, from flat patches to the tokens after the last norm.
pub(crate) fn encoder(weights: &Weights, patches: &Tensor, config: &Config) -> Tensor {
    run_encoder(weights, patches, config).unwrap()
}

fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F64).unwrap()
}

fn inverse(a: &Tensor, iterations: usize) -> Result<Tensor> {
    let size = a.abs()?;
    let largest = |axis: D| -> Result<f64> { size.sum(axis)?.max_all()?.to_scalar() };
    let mut z = (a.t()? / (largest(D::Minus1)? * largest(D::Minus2)?))?;
    let eye = Tensor::eye(a.dim(D::Minus1)?, DType::F64, a.device())?.broadcast_as(a.shape())?;
    for _ in 0..iterations {
        let az = a.matmul(&z)?;
        let t = ((&eye * 7.0)? - &az)?;
        let t = ((&eye * 15.0)? - az.matmul(&t)?)?;
        let t = ((&eye * 13.0)? - az.matmul(&t)?)?;
        z = (z.matmul(&t)? * 0.25)?;
    }
    Ok(z)
}

fn linear(weights: &Weights, name: &str, x: &Tensor) -> Result<Tensor> {
    let y = x.broadcast_matmul(&wide(&weights[&format!("{name}.weight")]).t()?)?;
    match weights.get(&format!("{name}.bias")) {
        Some(bias) => y.broadcast_add(&wide(bias)),
        None => Ok(y),
    }
}

fn norm(weights: &Weights, name: &str, x: &Tensor, eps: f64) -> Result<Tensor> {
    let get = |part: &str| wide(&weights[&format!("{name}.{part}")]);
    dc_encoder::model::ops::layer_norm(x, &get("weight"), &get("bias"), eps)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(x, D::Minus1)
}

/// Means of runs of tokens, one run after another.
fn means(x: &Tensor, landmarks: usize) -> Result<Tensor> {
    let tokens = x.dim(2)?;
    let run = |i: usize| {
        let run = bounds(tokens, landmarks, i);
        x.narrow(2, run.start, run.len())?.mean_keepdim(2)
    };
    Tensor::cat(&(0..landmarks).map(run).collect::<Result<Vec<_>>>()?, 2)
}

fn layer(weights: &Weights, prefix: &str, x: &Tensor, shape: &Shape, how: Global) -> Result<Tensor> {
    let tokens = x.dim(1)?;
    let missing = if how.front_pad { tokens.next_multiple_of(how.landmarks) - tokens } else { 0 };
    let x = x.pad_with_zeros(1, missing, 0)?;
    let (batch, length, _) = x.dims3()?;
    let inner = shape.heads * shape.dim_head;
    let qkv = linear(weights, &format!("{prefix}qkv"), &x)?;
    let part = |i: usize| {
        qkv.narrow(2, i * inner, inner)?
            .reshape((batch, length, shape.heads, shape.dim_head))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (q, k, v) = ((part(0)? / (shape.dim_head as f64).sqrt())?, part(1)?, part(2)?);
    let (ql, kl) = (means(&q, how.landmarks)?, means(&k, how.landmarks)?);
    let k1 = softmax(&q.matmul(&kl.t()?)?)?;
    let k2 = softmax(&ql.matmul(&kl.t()?)?)?;
    let k3 = softmax(&ql.matmul(&k.t()?)?)?;
    let mut core = k1.matmul(&inverse(&k2, shape.pinv_iterations)?)?.matmul(&k3.matmul(&v)?)?;
    if shape.conv_kernel > 0 {
        core = (core + conv_residual(&v, &wide(&weights[&format!("{prefix}conv.weight")]))?)?;
    }
    let joined = core.transpose(1, 2)?.reshape((batch, length, inner))?;
    linear(weights, &format!("{prefix}out"), &joined)?.narrow(1, missing, tokens)
}

fn run_encoder(weights: &Weights, patches: &Tensor, config: &Config) -> Result<Tensor> {
    let shape = Shape {
        heads: config.heads,
        dim_head: config.dim_head,
        qkv_bias: config.qkv_bias,
        conv_kernel: config.conv_kernel,
        pinv_iterations: config.pinv_iterations,
    };
    let how = Global { landmarks: config.landmarks, front_pad: true };
    let mut x =
        linear(weights, "patch_embed", &wide(patches))?.broadcast_add(&wide(&weights["pos_embed"]))?;
    for block in 0..config.depth {
        let at = |part: &str| format!("blocks.{block}.{part}");
        let attended =
            layer(weights, &at("attn."), &norm(weights, &at("norm1"), &x, config.ln_eps)?, &shape, how)?;
        x = (x + attended)?;
        let hidden = linear(weights, &at("mlp.fc1"), &norm(weights, &at("norm2"), &x, config.ln_eps)?)?;
        x = (&x + linear(weights, &at("mlp.fc2"), &hidden.gelu_erf()?)?)?;
    }
    norm(weights, "norm", &x, config.ln_eps)
}
