//! A model as a plan: its weights, its memory, and the steps of its forward pass; made once, at load.
//!
//! ```text
//! bytes ─► patches (pixel - 128) ─► patch_embed, the normalisation in its weights ─► + positions ─► x
//! each block:  x ─► norm ─► qkv ─► attention ─► out ─► added to x ─► norm ─► fc1 ─► GELU ─► fc2 ─► added to x
//! x ─► norm ─► hidden ─► readout
//! ```
//! Beside every operand goes the centre of its frame (`layers`).

use super::attention::{Attention, Convolution, Heads, Part};
use super::layers::{Centre, Common, Layer, Norm, Stream, THREADS};
use super::nystrom::{Groups, Nystrom};
use super::plan::Constant::{Type, Whole};
use super::plan::{Builder, Element, Grid, Matrix, Memory, Plan, Product, Recipe, Step};
use super::readout::Readout;
use crate::backend::cpu;
use crate::backend::source::Source;
use crate::model::{Config, ModelError};

const PATCHES: &str = include_str!("kernels/patches.cu");
const PLACE: &str = include_str!("kernels/place.cu");

/// Subtracted from pixels: the middle of a byte.
pub(super) const MIDDLE: f32 = 128.0;

/// Uploads that may be under way: one is copied while the other is computed.
pub(super) const SLOTS: usize = 2;

/// A model as a plan.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) plan: Plan,
    /// Frames as bytes (y, x, channel), one slot after another.
    pub(super) frames: [Memory; SLOTS],
    /// From each slot to the patches.
    pub(super) cut: [Step; SLOTS],
    /// Pixels less 128 of each patch (channel, y, x), `[batch * patches, 3 * patch²]`.
    pub(super) patches: Matrix,
    /// Patches to hidden tokens.
    pub(super) forward: Vec<Step>,
    pub(super) readout: Readout,
}

/// Bytes of one frame.
pub(super) fn frame_bytes(config: &Config) -> usize {
    3 * config.height * config.width
}

impl Network {
    /// For at most `batch` frames at once; `None` where heads are wider than [`Heads::WIDEST`].
    pub(super) fn new(
        config: &Config,
        source: &Source<'_>,
        (element, batch): (Element, usize),
    ) -> Result<Option<Self>, ModelError> {
        let Some(heads) = Heads::new((config.heads, config.dim_head), element) else { return Ok(None) };
        let mut builder = Builder::new(element, batch);
        let frames = [(); SLOTS].map(|()| builder.memory("frames", batch * frame_bytes(config)));
        let patches = builder.rows("patches", element, (config.patches(), config.patch_dim()));
        let cut = frames.map(|frames| cut(config, &mut builder, (frames, &patches)));
        let stream = Stream {
            x: builder.rows("x", Element::F32, (config.tokens(), config.dim)),
            offset: builder.rows("offset", Element::F32, (1, config.dim)),
            tokens: config.tokens(),
        };
        let work = Work::new(config, &mut builder, (heads, stream))?;
        let mut forward = embed(config, source, &mut builder, (&patches, &stream))?;
        for index in 0..config.depth {
            forward.extend(work.block(config, source, &mut builder, index)?);
        }
        let norm = Norm::read(&mut builder, source, "norm", config.ln_eps)?;
        let hidden = builder.rows("hidden tokens", Element::F32, (config.tokens(), config.dim));
        forward.push(builder.last_norm(&norm, &stream, &hidden));
        let readout = Readout::new(&mut builder, source, config, &hidden)?;
        Ok(Some(Self { plan: builder.plan, frames, cut, patches, forward, readout }))
    }

    /// The steps from patches to everything that is asked for.
    pub(super) fn steps(&self, tokens: bool) -> impl Iterator<Item = &Step> {
        let Readout { embedding, latent, from_latent } = &self.readout;
        let latent = if tokens || *from_latent { &latent.steps[..] } else { &[] };
        self.forward.iter().chain(latent).chain(&embedding.steps)
    }
}

/// Bytes to patches.
fn cut(config: &Config, builder: &mut Builder, (frames, patches): (Memory, &Matrix)) -> Step {
    let (rows, cols) = config.grid();
    builder.launch(&Recipe {
        label: "patches",
        parts: &[PATCHES],
        constants: &[
            ("T", Type(patches.element)),
            ("PATCH", Whole(config.patch)),
            ("GRID_ROWS", Whole(rows)),
            ("GRID_COLS", Whole(cols)),
            ("FRAME_BYTES", Whole(frame_bytes(config))),
            ("STRIDE", Whole(patches.stride)),
        ],
        arguments: &[frames, patches.memory],
        grid: Grid { across: config.patch_dim().div_ceil(THREADS), down: rows, each: 1 },
        threads: THREADS,
    })
}

/// Patches to the residual stream: tokens with their positions.
fn embed(
    config: &Config,
    source: &Source<'_>,
    builder: &mut Builder,
    (patches, stream): (&Matrix, &Stream),
) -> Result<Vec<Step>, ModelError> {
    let layer = patch_embed(config, source, builder)?;
    let embedded = builder.rows("embedded", Element::F32, (config.patches(), config.dim));
    let positions = builder.numbers("positions", &source.get("pos_embed")?);
    let class_token = match config.class_token {
        true => builder.numbers("class token", &source.get("class_token")?),
        // Nothing reads it: any memory stands in.
        false => positions,
    };
    let place = builder.launch(&Recipe {
        label: "place",
        parts: &[PLACE],
        constants: &[
            ("PATCHES", Whole(config.patches())),
            ("TOKENS", Whole(stream.tokens)),
            ("COLS", Whole(config.dim)),
            ("STRIDE", Whole(embedded.stride)),
        ],
        arguments: &[
            embedded.memory,
            layer.bias,
            positions,
            class_token,
            stream.x.memory,
            stream.offset.memory,
        ],
        grid: Grid { across: config.dim.div_ceil(THREADS), down: stream.tokens, each: 1 },
        threads: THREADS,
    });
    Ok(vec![Step::Product(layer.product(patches, &embedded, config.patches())), place])
}

/// The patch embedding for pixels less 128, which are exact in every format: `w · (pixel / 255 - mean) / std` is
/// `w / (255 std) · (pixel - 128)` and a constant.
fn patch_embed(config: &Config, source: &Source<'_>, builder: &mut Builder) -> Result<Layer, ModelError> {
    let (mean, std) = (config.preprocess.mean, config.preprocess.std);
    let mut weight = source.get("patch_embed.weight")?;
    let mut bias = source.some("patch_embed.bias")?.unwrap_or_else(|| vec![0.0; config.dim]);
    let channel = config.patch * config.patch;
    for (row, bias) in weight.chunks_exact_mut(3 * channel).zip(&mut bias) {
        let mut constant = f64::from(*bias);
        for (c, weights) in row.chunks_exact_mut(channel).enumerate() {
            let shift = f64::from(MIDDLE) - 255.0 * f64::from(mean[c]);
            for weight in weights {
                *weight /= 255.0 * std[c];
                constant += f64::from(*weight) * shift;
            }
        }
        *bias = constant as f32;
    }
    let element = builder.element;
    Ok(Layer::new(builder, (&weight, &bias), element))
}

/// Normalised patches as the patch embedding takes them: pixels less 128.
pub(super) fn pixels(config: &Config, patches: &[f32]) -> Vec<f32> {
    let (mean, std) = (config.preprocess.mean, config.preprocess.std);
    let channel = config.patch * config.patch;
    let value = |(at, value): (usize, &f32)| {
        let c = at / channel % 3;
        value * 255.0 * std[c] + (255.0 * mean[c] - MIDDLE)
    };
    patches.iter().enumerate().map(value).collect()
}

/// What the blocks write between the residual stream and itself.
struct Work {
    heads: Heads,
    stream: Stream,
    normed: Matrix,
    qkv: Matrix,
    joined: Matrix,
    hidden: Matrix,
    nystrom: Option<Nystrom>,
    /// Of the normed rows, of attention's results, and of the hidden rows.
    centres: [Centre; 3],
    /// What `qkv` and `fc1` give all rows of a frame, and what `out` and `fc2` do.
    commons: [Common; 3],
}

impl Work {
    fn new(
        config: &Config,
        builder: &mut Builder,
        (heads, stream): (Heads, Stream),
    ) -> Result<Self, ModelError> {
        let (tokens, inner, element) = (config.tokens(), config.inner(), builder.element);
        let grouping = cpu::grouping(config).map_err(ModelError::compute("choosing landmarks"))?;
        let nystrom = grouping.map(|grouping| {
            let mut groups = vec![Vec::new(); grouping.count()];
            (0..).zip(&grouping.group).for_each(|(token, group)| groups[*group as usize].push(token));
            let groups = Groups::new(builder, &groups);
            Nystrom::new(builder, heads, groups, config.pinv_iterations)
        });
        Ok(Self {
            heads,
            stream,
            normed: builder.rows("normed", element, (tokens, config.dim)),
            qkv: builder.rows("qkv", element, (tokens, 3 * inner)),
            joined: builder.rows("joined", element, (tokens, inner)),
            hidden: builder.rows("hidden", element, (tokens, config.mlp)),
            nystrom,
            centres: [config.dim, inner, config.mlp].map(|cols| Centre::new(builder, cols)),
            commons: [3 * inner, config.mlp, config.dim].map(|cols| Common::new(builder, cols)),
        })
    }

    /// The steps of one block.
    fn block(
        &self,
        config: &Config,
        source: &Source<'_>,
        builder: &mut Builder,
        index: usize,
    ) -> Result<Vec<Step>, ModelError> {
        let at = |part: &str| format!("blocks.{index}.{part}");
        let (tokens, inner) = (config.tokens(), config.inner());
        let Self { stream, normed, qkv, joined, hidden, .. } = self;
        let [around_normed, around_joined, around_hidden] = &self.centres;
        let [of_qkv, of_fc1, of_x] = &self.commons;
        let norms = [at("norm1"), at("norm2")].map(|name| Norm::read(builder, source, &name, config.ln_eps));
        let [norm1, norm2] = norms;
        let (norm1, norm2) = (norm1?, norm2?);
        let element = builder.element;
        let mut layer = |part, out| Layer::read(builder, source, &at(part), (out, element));
        let (project, out) = (layer("attn.qkv", 3 * inner)?, layer("attn.out", config.dim)?);
        let (fc1, fc2) = (layer("mlp.fc1", config.mlp)?, layer("mlp.fc2", config.dim)?);
        let plain = |layer: &Layer, from, to| Step::Product(layer.product(from, to, tokens));
        let adding = |layer: &Layer, from| {
            Step::Product(Product { beta: 1.0, ..layer.product(from, &stream.x, tokens) })
        };

        let mut steps = builder.norm(&norm1, stream, around_normed, normed).to_vec();
        steps.extend([
            builder.sums(&project, around_normed, of_qkv),
            builder.common(&project, of_qkv, (around_joined, 2 * inner, false)),
            plain(&project, normed, qkv),
        ]);
        let conv = source.some(&at("attn.conv.weight"))?;
        self.attention(builder, (&of_qkv.whole, conv.as_deref()), &mut steps);
        steps.extend([
            builder.sums(&out, around_joined, of_x),
            adding(&out, joined),
            builder.settle(&out, of_x, stream),
        ]);
        steps.extend(builder.norm(&norm2, stream, around_normed, normed));
        steps.extend([
            builder.sums(&fc1, around_normed, of_fc1),
            builder.common(&fc1, of_fc1, (around_hidden, 0, true)),
            plain(&fc1, normed, hidden),
            builder.gelu(hidden, of_fc1, around_hidden, tokens),
            builder.sums(&fc2, around_hidden, of_x),
            adding(&fc2, hidden),
            builder.settle(&fc2, of_x, stream),
        ]);
        Ok(steps)
    }

    /// From `qkv` to `joined`.
    fn attention(
        &self,
        builder: &mut Builder,
        (common, conv): (&Matrix, Option<&[f32]>),
        steps: &mut Vec<Step>,
    ) {
        let Self { heads, qkv, stream, .. } = self;
        let part = |part: usize| Part::beside(heads, qkv, (part * heads.inner(), stream.tokens));
        let convolution = conv.map(|weight| Convolution {
            weight: builder.numbers("convolution", weight),
            taps: weight.len() / heads.count,
            values: part(2),
        });
        let attention = Attention {
            queries: part(0),
            keys: part(1),
            values: part(2),
            out: Part::beside(heads, &self.joined, (0, stream.tokens)),
            common,
            queries_centred: true,
            whole_result: false,
            convolution,
        };
        match &self.nystrom {
            None => steps.push(builder.attend(heads, &attention)),
            Some(nystrom) => steps.extend(nystrom.steps(builder, qkv, &attention)),
        }
    }
}
