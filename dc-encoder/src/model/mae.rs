//! Masked autoencoding (He et al., 2022): the encoder sees some patches, a light decoder predicts the others.
//!
//! ```text
//! patches ─► embed ─► keep visible ─► encoder ─► decoder.embed ─► back to their places ─► decoder ─► pred
//!                                                      mask_token everywhere else ┘
//! ```

use candle_core::{D, IndexOp as _, Result, Tensor};
use candle_nn::{Linear, VarBuilder};

use super::attention::{Plan, Shape};
use super::config::{Config, Decoder};
use super::encoder::Encoder;
use super::layers::{Block, BlockShape, LayerNorm, linear};
use super::{ops, patches};

/// Added to a target patch's variance before the square root, as the paper's code does.
const TARGET_EPS: f64 = 1e-6;

/// How many of `patches` stay visible at a mask ratio: `floor(patches * (1 - ratio))`.
pub fn visible_count(patches: usize, mask_ratio: f64) -> usize {
    (patches as f64 * (1.0 - mask_ratio)) as usize
}

/// What one masked forward pass gives.
#[derive(Debug, Clone)]
pub struct Masked {
    /// Hidden tokens of the visible patches, the class token first if there is one: `[batch, visible (+ 1), dim]`.
    pub latent: Tensor,
    /// The prediction for every patch in reading order, (y, x, channel) inside a patch:
    /// `[batch, patches, 3 * patch * patch]`.
    pub prediction: Tensor,
    /// 1 where a patch was hidden, 0 where it was visible: `[batch, patches]`.
    pub mask: Tensor,
}

/// An encoder with its pretraining decoder.
#[derive(Debug, Clone)]
pub struct Mae {
    encoder: Encoder,
    embed: Linear,
    mask_token: Tensor,
    pos_embed: Tensor,
    class_pos_embed: Option<Tensor>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pred: Linear,
}

impl Mae {
    /// Reads the tensors of the encoder and of `decoder.*`, shaped by `config` and `decoder`.
    pub fn new(config: &Config, decoder: &Decoder, vb: VarBuilder<'_>) -> Result<Self> {
        let encoder = Encoder::new(config, vb.clone())?;
        let vb = vb.pp("decoder");
        let shape = BlockShape {
            dim: decoder.dim,
            mlp: decoder.mlp,
            ln_eps: config.ln_eps,
            attention: Shape {
                heads: decoder.heads,
                dim_head: decoder.dim_head,
                qkv_bias: config.qkv_bias,
                conv_kernel: 0,
                pinv_iterations: config.pinv_iterations,
            },
        };
        let blocks = (0..decoder.depth).map(|i| Block::new(&shape, vb.pp("blocks").pp(i)));
        let class_pos_embed =
            if config.class_token { Some(vb.get(decoder.dim, "class_pos_embed")?) } else { None };
        Ok(Self {
            embed: linear(config.dim, decoder.dim, true, vb.pp("embed"))?,
            mask_token: vb.get(decoder.dim, "mask_token")?,
            pos_embed: vb.get((config.patches(), decoder.dim), "pos_embed")?,
            class_pos_embed,
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::new(decoder.dim, config.ln_eps, vb.pp("norm"))?,
            pred: linear(decoder.dim, config.patch_dim(), true, vb.pp("pred"))?,
            encoder,
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// One masked pass over normalised images `[batch, 3, height, width]`. `visible` `[batch, n]` (u32) lists the
    /// patches that the encoder sees, in the order in which it sees them.
    pub fn forward(&self, images: &Tensor, visible: &Tensor) -> Result<Masked> {
        let config = self.encoder.config();
        let tokens = self.encoder.embed_patches(&patches::for_embedding(images, config.patch)?)?;
        let latent = self.encoder.hidden(&pick(&tokens, visible)?, Some(visible))?;
        let places = Places::new(visible, config.patches())?;
        let prediction = ops::linear(&self.pred, &self.decode(&latent, &places)?)?;
        Ok(Masked { latent, prediction, mask: places.mask.to_dtype(images.dtype())? })
    }

    /// Hidden tokens `[batch, visible (+ 1), dim]` of visible patches, from these alone: `patches`
    /// `[batch, visible, 3 * patch * patch]` (channel, y, x), `visible` `[batch, visible]` (u32) their places. What
    /// [`Mae::forward`] calls `latent`, without embedding the patches that nobody sees.
    pub fn encode_visible(&self, patches: &Tensor, visible: &Tensor) -> Result<Tensor> {
        self.encoder.hidden(&self.encoder.embed_patches_at(patches, visible)?, Some(visible))
    }

    /// The decoder's tokens for hidden patches only, ready for [`Mae::pred`]: `latent` as [`Mae::encode_visible`] gives
    /// it and `hidden` `[batch, n]` (u32) to `[batch * n, decoder dim]`.
    pub fn decode_hidden(&self, latent: &Tensor, visible: &Tensor, hidden: &Tensor) -> Result<Tensor> {
        let places = Places::new(visible, self.encoder.config().patches())?;
        pick(&self.decode(latent, &places)?, hidden)?.flatten_to(1)
    }

    /// The decoder's last layer: from its tokens to the numbers of a patch.
    pub fn pred(&self) -> &Linear {
        &self.pred
    }

    /// Hidden tokens of the visible patches to the decoder's tokens for every patch, `[batch, patches, decoder dim]`.
    fn decode(&self, latent: &Tensor, places: &Places) -> Result<Tensor> {
        let tokens = ops::linear(&self.embed, latent)?.to_dtype(self.mask_token.dtype())?;
        let (batch, length, width) = tokens.dims3()?;
        let first = length - places.visible;
        let seen = tokens.i((.., first.., ..))?;
        // One mask token behind the visible ones: every hidden patch takes its copy from there.
        let mask_token = self.mask_token.reshape((1, 1, width))?.broadcast_as((batch, 1, width))?;
        let x = pick(&Tensor::cat(&[&seen, &mask_token], 1)?, &places.source)?;
        let mut x = ops::add_to_rows(&x, &self.pos_embed)?;
        if let Some(class_pos_embed) = &self.class_pos_embed {
            let class = tokens.i((.., ..1, ..))?.broadcast_add(class_pos_embed)?;
            x = Tensor::cat(&[&class, &x], 1)?;
        }
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, &Plan::Exact))?;
        self.norm.forward(&x)?.i((.., first.., ..))?.contiguous()
    }
}

/// Where the decoder finds each patch of the grid.
struct Places {
    /// Its place among the visible patches, or the number of those if it is hidden: `[batch, patches]`, u32.
    source: Tensor,
    /// 1 where hidden, 0 where visible: `[batch, patches]`, f32.
    mask: Tensor,
    /// Visible patches of one image.
    visible: usize,
}

impl Places {
    fn new(visible: &Tensor, patches: usize) -> Result<Self> {
        let (batch, count) = visible.dims2()?;
        let mut source = vec![count as u32; batch * patches];
        for (image, visible) in visible.to_vec2::<u32>()?.iter().enumerate() {
            for (place, patch) in visible.iter().enumerate() {
                source[image * patches + *patch as usize] = place as u32;
            }
        }
        let mask = source.iter().map(|place| f32::from(u8::from(*place == count as u32))).collect();
        let device = visible.device();
        Ok(Self {
            source: Tensor::from_vec(source, (batch, patches), device)?,
            mask: Tensor::from_vec::<_, f32>(mask, (batch, patches), device)?,
            visible: count,
        })
    }
}

/// `tokens [batch, _, dim]` at `places [batch, n]`: `[batch, n, dim]`.
///
/// Whole rows are taken: a gather by element would carry an index for each number.
fn pick(tokens: &Tensor, places: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = tokens.dims3()?;
    let count = places.dim(1)?;
    let first = Tensor::arange_step(0u32, (batch * length) as u32, length as u32, places.device())?;
    let rows = places.broadcast_add(&first.reshape((batch, 1))?)?.flatten_all()?;
    tokens.flatten_to(1)?.index_select(&rows, 0)?.reshape((batch, count, width))
}

/// What the decoder should predict for images `[batch, 3, height, width]`: `[batch, patches, 3 * patch * patch]`,
/// (y, x, channel) inside a patch. With `normalise`, each patch has its own mean taken off and is divided by its own
/// deviation (the unbiased one).
pub fn target(images: &Tensor, patch: usize, normalise: bool) -> Result<Tensor> {
    let patches = patches::for_prediction(images, patch)?;
    if !normalise {
        return Ok(patches);
    }
    let centred = patches.broadcast_sub(&patches.mean_keepdim(D::Minus1)?)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (patches.dim(2)? - 1) as f64)?;
    centred.broadcast_div(&(variance + TARGET_EPS)?.sqrt()?)
}

/// Mean squared error over the hidden patches of the whole batch, a scalar.
pub fn loss(masked: &Masked, target: &Tensor) -> Result<Tensor> {
    let each = (&masked.prediction - target)?.sqr()?.mean(D::Minus1)?;
    (each * &masked.mask)?.sum_all()?.div(&masked.mask.sum_all()?)
}
