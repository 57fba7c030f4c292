//! A model on a device: its weights, its memory, and the steps of its forward pass; made once, at load.
//!
//! ```text
//! bytes ─► patches ─► patch_embed + positions ─► x
//! each block:  x ─► norm ─► qkv ─► attention ─► out ─► added to x ─► norm ─► fc1, GELU ─► fc2 ─► added to x
//! x ─► norm ─┬─► means of regions ─► embed ─► embedding (mean, regions)
//!            └─► embed ─► latent tokens
//! ```

use wgpu::{Buffer, BufferUsages};

use super::WgpuError;
use super::attention::{Heads, Part};
use super::gpu::Constant::{Colour, Whole};
use super::gpu::{Gpu, Matrix};
use super::layers::{Finish, Groups, Layer, Norm, THREADS};
use super::nystrom::Nystrom;
use super::steps::{Builder, Grid, Recipe, Step};
use crate::backend::cpu;
use crate::backend::source::Source;
use crate::model::config::Pooling;
use crate::model::{Config, ModelError, region_tokens};

const PATCHES: &str = include_str!("shaders/patches.wgsl");

/// A model on a device.
#[derive(Debug)]
pub(super) struct Network {
    /// Frames as bytes (y, x, channel), each rounded up to whole words.
    pub(super) frames: Buffer,
    /// The same for the processor to write into.
    pub(super) upload: Buffer,
    /// Normalised patches, `[batch * patches, 3 * patch²]`.
    pub(super) patches: Matrix,
    /// The class token's row, to be copied in front of each frame.
    pub(super) class_token: Option<Buffer>,
    /// The residual stream, `[batch * tokens, dim]`.
    pub(super) x: Matrix,
    /// Bytes to patches.
    pub(super) normalise: Vec<Step>,
    /// Patches to hidden tokens, in parts that are submitted one by one: a driver may stop long ones.
    pub(super) forward: Vec<Vec<Step>>,
    pub(super) regions: Option<Readout>,
    pub(super) latent: Readout,
}

/// From hidden tokens to numbers that leave the device.
#[derive(Debug)]
pub(super) struct Readout {
    pub(super) steps: Vec<Step>,
    pub(super) result: Matrix,
    /// The same for the processor to read.
    pub(super) download: Buffer,
}

/// Words of one frame.
pub(super) fn frame_words(config: &Config) -> usize {
    (3 * config.height * config.width).div_ceil(4)
}

/// What the blocks write between the residual stream and itself.
struct Work {
    heads: Heads,
    normed: Matrix,
    qkv: Matrix,
    joined: Matrix,
    hidden: Matrix,
    nystrom: Option<Nystrom>,
}

impl Network {
    /// Writes the weights of a model to a device; `batch` is the most frames at once.
    pub(super) fn new(
        config: &Config,
        source: &Source<'_>,
        gpu: &Gpu,
        batch: usize,
    ) -> Result<Self, WgpuError> {
        let builder = &mut Builder::new(gpu, batch);
        let x = Matrix::zeros(gpu, "x", batch * config.tokens(), config.dim);
        let patches = Matrix::zeros(gpu, "patches", batch * config.patches(), config.patch_dim());
        let words = batch * frame_words(config);
        let frames = gpu.memory("frames", words);
        let work = Work::new(config, builder)?;
        let mut forward = vec![vec![embed(config, source, builder, (&patches, &x))?]];
        for index in 0..config.depth {
            forward.push(work.block(config, source, builder, (index, &x))?);
            // Weights wait in memory of the processor's until they are submitted.
            gpu.queue.submit(None);
            gpu.wait()?;
        }
        let norm = Norm::read(gpu, source, "norm", config.ln_eps)?;
        forward.push(vec![builder.norm(&norm, (&x, &work.normed), config.tokens())]);
        let layer = Layer::read(gpu, source, "embed", config.latent_dim())?;
        let cells = matches!(config.pooling, Pooling::Cells { .. });
        let network = Self {
            upload: gpu.buffer("upload", words, BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC),
            normalise: vec![normalise(config, builder, (&frames, &patches))],
            class_token: class_token(config, source, gpu, &x)?,
            regions: (!cells).then(|| regions(config, builder, &layer, &work.normed)),
            latent: latent(config, builder, &layer, &work.normed),
            frames,
            patches,
            x,
            forward,
        };
        gpu.queue.submit(None);
        gpu.wait()?;
        Ok(network)
    }
}

/// Bytes to normalised patches.
fn normalise(config: &Config, builder: &mut Builder<'_>, (frames, patches): (&Buffer, &Matrix)) -> Step {
    let (rows, cols) = config.grid();
    builder.step(&Recipe {
        label: "patches",
        parts: &[PATCHES],
        constants: &[
            ("PATCH", Whole(config.patch)),
            ("GRID_ROWS", Whole(rows)),
            ("GRID_COLS", Whole(cols)),
            ("FRAME_WORDS", Whole(frame_words(config))),
            ("OUTPUT_STRIDE", Whole(patches.stride)),
            ("MEAN", Colour(config.preprocess.mean)),
            ("STD", Colour(config.preprocess.std)),
        ],
        buffers: &[frames, &patches.buffer],
        grid: Grid::Frames { across: config.patch_dim().div_ceil(THREADS), down: rows, each: 1 },
    })
}

/// Patches to tokens with their positions.
fn embed(
    config: &Config,
    source: &Source<'_>,
    builder: &mut Builder<'_>,
    operands: (&Matrix, &Matrix),
) -> Result<Step, ModelError> {
    let layer = Layer::read(builder.gpu, source, "patch_embed", config.dim)?;
    let positions = &builder.gpu.filled("positions", &source.get("pos_embed")?);
    let place = Finish::Place { positions, patches: config.patches(), tokens: config.tokens() };
    Ok(builder.linear(&layer, operands, place, config.patches()))
}

/// The class token as a row of `x`.
fn class_token(
    config: &Config,
    source: &Source<'_>,
    gpu: &Gpu,
    x: &Matrix,
) -> Result<Option<Buffer>, ModelError> {
    if !config.class_token {
        return Ok(None);
    }
    let mut row = source.get("class_token")?;
    row.resize(x.stride, 0.0);
    Ok(Some(gpu.filled("class token", &row)))
}

impl Work {
    fn new(config: &Config, builder: &Builder<'_>) -> Result<Self, WgpuError> {
        let (gpu, rows) = (builder.gpu, builder.batch * config.tokens());
        let memory = gpu.device.limits().max_compute_workgroup_storage_size;
        let heads = Heads::new(config.heads, config.dim_head, memory).ok_or_else(|| WgpuError::Width {
            adapter: gpu.name.clone(),
            got: config.dim_head,
            memory,
        })?;
        let grouping = cpu::grouping(config).map_err(ModelError::compute("choosing landmarks"))?;
        let nystrom = grouping.map(|grouping| {
            let mut groups = vec![Vec::new(); grouping.count()];
            (0..).zip(&grouping.group).for_each(|(token, group)| groups[*group as usize].push(token));
            Nystrom::new(builder, &heads, Groups::new(gpu, &groups), config.pinv_iterations)
        });
        Ok(Self {
            heads,
            normed: Matrix::zeros(gpu, "normed", rows, config.dim),
            qkv: Matrix::zeros(gpu, "qkv", rows, 3 * config.inner()),
            joined: Matrix::zeros(gpu, "joined", rows, config.inner()),
            hidden: Matrix::zeros(gpu, "hidden", rows, config.mlp),
            nystrom,
        })
    }

    /// The steps of one block.
    fn block(
        &self,
        config: &Config,
        source: &Source<'_>,
        builder: &mut Builder<'_>,
        (index, x): (usize, &Matrix),
    ) -> Result<Vec<Step>, ModelError> {
        let (gpu, tokens, dim) = (builder.gpu, config.tokens(), config.dim);
        let at = |part: &str| format!("blocks.{index}.{part}");
        let norm = |name| Norm::read(gpu, source, &at(name), config.ln_eps);
        let layer = |name, out| Layer::read(gpu, source, &at(name), out);
        let (qkv, out) = (layer("attn.qkv", 3 * config.inner())?, layer("attn.out", dim)?);
        let (fc1, fc2) = (layer("mlp.fc1", config.mlp)?, layer("mlp.fc2", dim)?);
        let Self { normed, joined, hidden, .. } = self;
        let mut steps = vec![
            builder.norm(&norm("norm1")?, (x, normed), tokens),
            builder.linear(&qkv, (normed, &self.qkv), Finish::Store, tokens),
        ];
        let conv = source.some(&at("attn.conv.weight"))?;
        self.attention(config, builder, conv.as_deref(), &mut steps);
        steps.extend([
            builder.linear(&out, (joined, x), Finish::Add, tokens),
            builder.norm(&norm("norm2")?, (x, normed), tokens),
            builder.linear(&fc1, (normed, hidden), Finish::Gelu, tokens),
            builder.linear(&fc2, (hidden, x), Finish::Add, tokens),
        ]);
        Ok(steps)
    }

    /// From `qkv` to `joined`.
    fn attention(
        &self,
        config: &Config,
        builder: &mut Builder<'_>,
        conv: Option<&[f32]>,
        steps: &mut Vec<Step>,
    ) {
        let Self { heads, qkv, joined, .. } = self;
        let parts =
            [0, 1, 2].map(|part| Part { matrix: qkv, first: part * heads.inner(), rows: config.tokens() });
        match &self.nystrom {
            None => steps.push(builder.attend(heads, parts, joined)),
            Some(nystrom) => steps.extend(nystrom.steps(builder, heads, parts, joined)),
        }
        if let Some(weight) = conv {
            let taps = weight.len() / heads.count;
            let weight = builder.gpu.filled("convolution", weight);
            steps.push(builder.convolve(heads, parts[2], (&weight, taps), joined));
        }
    }
}

/// Means of the regions, read out.
fn regions(config: &Config, builder: &mut Builder<'_>, layer: &Layer, normed: &Matrix) -> Readout {
    let groups = Groups::new(builder.gpu, &region_tokens(config));
    let per_frame = groups.count();
    let means = Matrix::zeros(builder.gpu, "regions", builder.batch * per_frame, config.dim);
    let average = builder.means(&groups, (normed, &means), config.tokens());
    readout(builder, layer, &means, (vec![average], per_frame))
}

/// Every token, read out.
fn latent(config: &Config, builder: &mut Builder<'_>, layer: &Layer, normed: &Matrix) -> Readout {
    readout(builder, layer, normed, (Vec::new(), config.tokens()))
}

fn readout(
    builder: &mut Builder<'_>,
    layer: &Layer,
    from: &Matrix,
    (mut steps, per_frame): (Vec<Step>, usize),
) -> Readout {
    let (gpu, rows) = (builder.gpu, builder.batch * per_frame);
    let result = Matrix::zeros(gpu, "readout", rows, layer.out());
    steps.push(builder.linear(layer, (from, &result), Finish::Store, per_frame));
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    Readout { steps, download: gpu.buffer("download", rows * result.stride, usage), result }
}
