//! The network: patches to hidden tokens to an embedding. The same code trains and serves.

use candle_core::{IndexOp as _, Result, Tensor};
use candle_nn::{Linear, VarBuilder};

use super::attention::{Landmarks, Plan, Shape};
use super::config::{Config, LandmarkKind};
use super::layers::{Block, BlockShape, LayerNorm, linear};
use super::pool::Pool;
use super::{ops, patches};

/// What the encoder says about a batch of frames.
#[derive(Debug, Clone)]
pub struct Output {
    /// Latent tokens `[batch, patches, latent_dim]` in reading order.
    pub tokens: Tensor,
    /// `[batch, embed_dim]`.
    pub embedding: Tensor,
}

/// The encoder's network.
#[derive(Debug, Clone)]
pub struct Encoder {
    config: Config,
    patch_embed: Linear,
    pos_embed: Tensor,
    class_token: Option<Tensor>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pool: Pool,
}

impl Encoder {
    /// Reads the encoder's tensors, see [`super::tensors::specs`].
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let shape = BlockShape {
            dim: config.dim,
            mlp: config.mlp,
            ln_eps: config.ln_eps,
            attention: Shape {
                heads: config.heads,
                dim_head: config.dim_head,
                qkv_bias: config.qkv_bias,
                conv_kernel: config.conv_kernel,
                pinv_iterations: config.pinv_iterations,
            },
        };
        let blocks = (0..config.depth).map(|i| Block::new(&shape, vb.pp("blocks").pp(i)));
        let class_token = if config.class_token { Some(vb.get(config.dim, "class_token")?) } else { None };
        Ok(Self {
            patch_embed: linear(config.patch_dim(), config.dim, true, vb.pp("patch_embed"))?,
            pos_embed: vb.get((config.patches(), config.dim), "pos_embed")?,
            class_token,
            blocks: blocks.collect::<Result<_>>()?,
            norm: LayerNorm::new(config.dim, config.ln_eps, vb.pp("norm"))?,
            pool: Pool::new(config, vb)?,
            config: config.clone(),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Normalised images `[batch, 3, height, width]` to latent tokens and embedding.
    pub fn forward(&self, images: &Tensor) -> Result<Output> {
        let hidden = self.patch_hidden(&patches::for_embedding(images, self.config.patch)?)?;
        let (tokens, embedding) = self.pool.both(&hidden)?;
        Ok(Output { tokens, embedding })
    }

    /// Patches `[batch, patches, 3 * patch * patch]` (channel, y, x) to the embedding `[batch, embed_dim]` and, if
    /// asked for, the latent tokens `[batch, patches, latent_dim]`.
    pub fn encode_patches(&self, patches: &Tensor, tokens: bool) -> Result<(Tensor, Option<Tensor>)> {
        let hidden = self.patch_hidden(patches)?;
        if !tokens {
            return Ok((self.pool.embedding(&hidden)?, None));
        }
        let (tokens, embedding) = self.pool.both(&hidden)?;
        Ok((embedding, Some(tokens)))
    }

    /// Some patches of each frame, `[batch, n, 3 * patch * patch]` at `places` `[batch, n]` (u32), to their latent tokens
    /// `[batch, n, latent_dim]`: they attend to each other alone, as in masked pretraining.
    pub fn encode_some(&self, patches: &Tensor, places: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden(&self.embed_patches_at(patches, places)?, Some(places))?;
        self.pool.tokens(&hidden.i((.., usize::from(self.config.class_token).., ..))?)
    }

    /// Patches to hidden tokens without the class token, after the last norm: `[batch, patches, dim]`.
    pub fn patch_hidden(&self, patches: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden(&self.embed_patches(patches)?, None)?;
        let first = usize::from(self.config.class_token);
        hidden.i((.., first.., ..))
    }

    /// Patches `[batch, patches, 3 * patch * patch]` to tokens with their position, `[batch, patches, dim]`.
    pub fn embed_patches(&self, patches: &Tensor) -> Result<Tensor> {
        let tokens = ops::linear(&self.patch_embed, patches)?.to_dtype(self.pos_embed.dtype())?;
        ops::add_to_rows(&tokens, &self.pos_embed)
    }

    /// The same for some patches only: `patches` `[batch, n, 3 * patch * patch]` at `places` `[batch, n]` (u32).
    pub fn embed_patches_at(&self, patches: &Tensor, places: &Tensor) -> Result<Tensor> {
        let tokens = ops::linear(&self.patch_embed, patches)?.to_dtype(self.pos_embed.dtype())?;
        let positions = self.pos_embed.index_select(&places.flatten_all()?, 0)?;
        tokens + positions.reshape((patches.dim(0)?, patches.dim(1)?, self.config.dim))?
    }

    /// The pooling layer, for hidden tokens of whole frames.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The first `blocks` blocks over whole frames, before the last norm: for looking inside.
    pub fn after_blocks(&self, tokens: &Tensor, blocks: usize) -> Result<Tensor> {
        let plan = self.plan(tokens, None)?;
        let x = self.with_class_token(tokens)?;
        self.blocks.iter().take(blocks).try_fold(x, |x, block| block.forward(&x, &plan))
    }

    /// Embedded tokens `[batch, n, dim]` through all blocks and the last norm: `[batch, n (+ 1), dim]`, the class
    /// token first if the model has one.
    ///
    /// `places` `[batch, n]` (u32) says which patch of the grid each token is, in the order of the sequence; without
    /// it the tokens are all patches in reading order.
    pub fn hidden(&self, tokens: &Tensor, places: Option<&Tensor>) -> Result<Tensor> {
        let plan = self.plan(tokens, places)?;
        let x = self.with_class_token(tokens)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, &plan))?;
        self.norm.forward(&x)
    }

    fn with_class_token(&self, tokens: &Tensor) -> Result<Tensor> {
        let Some(class_token) = &self.class_token else { return Ok(tokens.clone()) };
        let (batch, _, dim) = tokens.dims3()?;
        let class_token = class_token.reshape((1, 1, dim))?.broadcast_as((batch, 1, dim))?;
        Tensor::cat(&[&class_token, tokens], 1)
    }

    /// How the blocks attend to a sequence of this shape.
    fn plan(&self, tokens: &Tensor, places: Option<&Tensor>) -> Result<Plan> {
        let config = &self.config;
        let patches = tokens.dim(1)?;
        let length = patches + usize::from(config.class_token);
        if config.is_exact(length) {
            return Ok(Plan::Exact);
        }
        let device = tokens.device();
        let blocks = |places: &[u32]| {
            Landmarks::blocks(config.grid(), config.landmarks, places, config.class_token, device)
        };
        match (config.landmark_kind, places) {
            (LandmarkKind::Rows, _) => Ok(Plan::Nystrom(Landmarks::rows(length, config.landmarks, device)?)),
            (LandmarkKind::Blocks, None) => {
                Ok(Plan::Nystrom(blocks(&(0..patches as u32).collect::<Vec<_>>())?))
            }
            (LandmarkKind::Blocks, Some(places)) => {
                let each = places.to_vec2::<u32>()?;
                Ok(Plan::PerImage(each.iter().map(|places| blocks(places)).collect::<Result<_>>()?))
            }
        }
    }
}
