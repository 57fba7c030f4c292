//! The encoder's weights, packed.

use std::collections::HashMap;

use candle_core::Tensor;

use super::attention::Heads;
use super::input::Input;
use super::linear::{Linear, Weights};
use super::simd::rows::Norm;
use super::simd::{Format, Isa};
use crate::model::{Config, ModelError};

/// Where the weights of one model are taken from, tensor by tensor.
pub(super) struct Source<'a> {
    pub(super) weights: &'a HashMap<String, Tensor>,
}

impl Source<'_> {
    /// The numbers of a tensor that is known to be there.
    fn get(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensor = self.weights.get(name).ok_or_else(|| ModelError::Missing {
            path: "the weights in memory".into(),
            tensor: name.to_owned(),
            want: Vec::new(),
            remedy: "this is a mistake in the program",
        })?;
        tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(ModelError::compute("packing the weights"))
    }

    fn some(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        if self.weights.contains_key(name) { self.get(name).map(Some) } else { Ok(None) }
    }

    /// Calls `pack` with a layer's weights.
    fn linear(
        &self,
        name: &str,
        out: usize,
        pack: impl FnOnce(Weights<'_>) -> Linear,
    ) -> Result<Linear, ModelError> {
        let weight = self.get(&format!("{name}.weight"))?;
        let bias = self.some(&format!("{name}.bias"))?;
        Ok(pack(Weights { weight: &weight, bias: bias.as_deref(), out }))
    }

    fn norm(&self, name: &str, eps: f64) -> Result<LayerNorm, ModelError> {
        let get = |part: &str| self.get(&format!("{name}.{part}"));
        Ok(LayerNorm { weight: get("weight")?, bias: get("bias")?, eps: eps as f32 })
    }
}

/// A LayerNorm.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(super) fn view(&self) -> Norm<'_> {
        Norm { weight: &self.weight, bias: &self.bias, eps: self.eps }
    }
}

/// A transformer block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) norm1: LayerNorm,
    pub(super) qkv: Linear,
    /// `[heads, kernel]`.
    pub(super) conv: Option<Vec<f32>>,
    pub(super) out: Linear,
    pub(super) norm2: LayerNorm,
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
}

/// The encoder.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) config: Config,
    pub(super) isa: Isa,
    /// Of the linear layers.
    pub(super) format: Format,
    pub(super) heads: Heads,
    pub(super) input: Input,
    pub(super) patch_embed: Linear,
    pub(super) positions: Vec<f32>,
    pub(super) class_token: Option<Vec<f32>>,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: LayerNorm,
    /// Always f32: it is small, and its rounding would go straight into the embedding.
    pub(super) embed: Linear,
}

impl Network {
    /// Packs the weights of a model.
    pub(super) fn new(
        config: &Config,
        source: &Source<'_>,
        isa: Isa,
        format: Format,
    ) -> Result<Self, ModelError> {
        let pack = |weights: Weights<'_>| Linear::pack(isa, format, weights);
        let block = |index: usize| {
            let at = |part: &str| format!("blocks.{index}.{part}");
            Ok(Block {
                norm1: source.norm(&at("norm1"), config.ln_eps)?,
                qkv: source.linear(&at("attn.qkv"), 3 * config.inner(), pack)?,
                conv: source.some(&at("attn.conv.weight"))?,
                out: source.linear(&at("attn.out"), config.dim, pack)?,
                norm2: source.norm(&at("norm2"), config.ln_eps)?,
                fc1: source.linear(&at("mlp.fc1"), config.mlp, pack)?,
                fc2: source.linear(&at("mlp.fc2"), config.dim, pack)?,
            })
        };
        let input = Input::new(isa, format, config);
        Ok(Self {
            isa,
            format,
            heads: Heads { isa, format: core(isa, format), count: config.heads, width: config.dim_head },
            patch_embed: source.linear("patch_embed", config.dim, |weights| input.pack(weights))?,
            input,
            positions: source.get("pos_embed")?,
            class_token: if config.class_token { Some(source.get("class_token")?) } else { None },
            blocks: (0..config.depth).map(block).collect::<Result<_, ModelError>>()?,
            norm: source.norm("norm", config.ln_eps)?,
            embed: source.linear("embed", config.latent_dim(), |w| Linear::pack(isa, Format::F32, w))?,
            config: config.clone(),
        })
    }
}

/// The format of attention and of what waits to be made into bytes.
fn core(isa: Isa, format: Format) -> Format {
    match format {
        Format::Int8 if !isa.bf16() => Format::F32,
        Format::Int8 => Format::Bf16,
        other => other,
    }
}
