//! The forward pass, in memory that is made once.
//!
//! ```text
//! frames ─► operand ─► patch_embed + positions ─► x
//! each block:  x ─► norm ─► qkv ─► attention ─► out ─► added to x ─► norm ─► fc1, GELU ─► fc2 ─► added to x
//!                       bytes: rows are measured and rounded before `out` and before `fc2`
//! x ─► norm ─► hidden
//! ```

use super::attention::{Convolution, Keys, Rows};
use super::linear::{Linear, Operand};
use super::network::{Block, LayerNorm, Network};
use super::nystrom::{Grouping, Nystrom};
use super::simd::rows::{
    Words as How, finish_adding, finish_storing, finish_words, norm, pack_row, unpack_row,
};
use super::simd::{Format, MatMut, Pool, Words};
use super::{Scratch, linear};

/// Rows that one task normalises or rounds.
const ROWS: usize = 12;

/// Memory of a forward pass of up to `batch` frames.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Patches of one frame.
    patches: Operand,
    /// The residual stream, `[batch * tokens, dim]`.
    x: Words,
    normed: Operand,
    qkv: Operand,
    keys: Keys,
    nystrom: Option<Nystrom>,
    joined: Operand,
    /// `joined` and `hidden` as bytes.
    joined_bytes: Option<Operand>,
    hidden: Operand,
    hidden_bytes: Option<Operand>,
}

impl Workspace {
    pub(super) fn new(network: &Network, batch: usize, grouping: Option<Grouping>) -> Self {
        let Network { config, format, heads, .. } = network;
        let (tokens, core) = (config.tokens(), heads.format);
        let rows = batch * tokens;
        let bytes = |cols: usize| (*format == Format::Int8).then(|| Operand::new(Format::Int8, rows, cols));
        Self {
            patches: Operand::new(*format, config.patches(), config.patch_dim()),
            x: Words::zeroed(rows * config.dim),
            normed: Operand::new(*format, rows, config.dim),
            qkv: Operand::new(core, rows, 3 * config.inner()),
            keys: Keys::new(*heads, tokens),
            nystrom: grouping.map(|grouping| Nystrom::new(*heads, grouping, config.pinv_iterations)),
            joined: Operand::new(core, rows, config.inner()),
            joined_bytes: bytes(config.inner()),
            hidden: Operand::new(core, rows, config.mlp),
            hidden_bytes: bytes(config.mlp),
        }
    }

    /// The residual stream of one frame, `[tokens, dim]`.
    pub(super) fn frame(&self, tokens: usize, dim: usize, frame: usize) -> &[f32] {
        &self.x.floats()[frame * tokens * dim..][..tokens * dim]
    }
}

/// A forward pass: the network, its memory and its threads.
pub(super) struct Pass<'a> {
    pub(super) network: &'a Network,
    pub(super) work: &'a mut Workspace,
    pub(super) pool: &'a mut Pool<Scratch>,
}

impl Pass<'_> {
    /// Embeds one frame, whose patches `fill` writes, as number `index` of the batch.
    pub(super) fn embed(&mut self, index: usize, fill: impl FnOnce(&mut Pool<Scratch>, &mut Operand)) {
        let Network { config, patch_embed, positions, class_token, isa, .. } = self.network;
        let (dim, patches) = (config.dim, config.patches());
        fill(self.pool, &mut self.work.patches);
        let x = &mut self.work.x.floats_mut()[index * config.tokens() * dim..][..config.tokens() * dim];
        let x = match class_token {
            None => x,
            Some(token) => {
                let (first, rest) = x.split_at_mut(dim);
                first.copy_from_slice(token);
                rest
            }
        };
        let out = (MatMut::new(x, (patches, dim), dim), 1);
        patch_embed.run(
            self.pool,
            self.work.patches.left(patches),
            out,
            |sums, finish, (row, col), block| {
                finish_storing(*isa, sums, finish, Some((&positions[row * dim + col..], dim)), block);
            },
        );
    }

    /// All blocks and the last norm over the first `frames` frames, in place.
    pub(super) fn blocks(&mut self, frames: usize) {
        let network = self.network;
        for block in &network.blocks {
            self.attention(frames, block);
            self.mlp(frames, block);
        }
        let dim = network.config.dim;
        let rows = frames * network.config.tokens();
        let x = MatMut::new(self.work.x.floats_mut(), (rows, dim), dim);
        self.pool.over(x, (ROWS, dim), |scratch, _, mut block| {
            let to = &mut scratch.row[..dim];
            for row in 0..block.rows() {
                norm(network.isa, block.row(row), network.norm.view(), to);
                block.row(row).copy_from_slice(to);
            }
        });
    }

    /// LayerNorm of the residual stream into the next product's operand.
    fn norm(&mut self, rows: usize, layer: &LayerNorm) {
        let (dim, isa, x) = (self.network.config.dim, self.network.isa, self.work.x.floats());
        let (format, stride) = (self.work.normed.format(), self.work.normed.stride());
        self.pool.over(self.work.normed.rows_mut(rows), (ROWS, stride), |scratch, (first, _), mut block| {
            for row in 0..block.rows() {
                let normed = &mut scratch.row[..dim];
                norm(isa, &x[(first + row) * dim..][..dim], layer.view(), normed);
                pack_row(isa, normed, format, block.row(row));
            }
        });
    }

    fn attention(&mut self, frames: usize, block: &Block) {
        let config = &self.network.config;
        let (tokens, inner) = (config.tokens(), config.inner());
        self.norm(frames * tokens, &block.norm1);
        self.words(frames * tokens, &block.qkv, false);
        for frame in 0..frames {
            let Workspace { qkv, keys, nystrom, joined, .. } = &mut *self.work;
            let (stride, words) = (qkv.stride(), self.network.heads.words() * config.heads);
            let part = |part: usize| Rows {
                words: &qkv.words()[frame * tokens * stride..],
                stride,
                first: part * words,
            };
            let parts = [part(0), part(1), part(2)];
            keys.pack(self.pool, parts[1], parts[2]);
            let weight = block.conv.as_deref();
            let conv = weight.map(|weight| Convolution { weight, values: parts[2], tokens });
            let format = joined.format();
            let out = (joined.numbers_mut(frame * tokens, tokens), format);
            match nystrom {
                None => keys.attend(self.pool, parts[0], out, conv),
                Some(nystrom) => nystrom.attend(self.pool, (parts, keys), out, conv),
            }
        }
        let Workspace { joined, joined_bytes, x, .. } = &mut *self.work;
        let left =
            rounded(self.pool, (joined, joined_bytes.as_mut()), (frames * tokens, inner), self.network);
        add(self.pool, &block.out, left, x);
    }

    fn mlp(&mut self, frames: usize, block: &Block) {
        let (rows, mlp) = (frames * self.network.config.tokens(), self.network.config.mlp);
        self.norm(rows, &block.norm2);
        self.words(rows, &block.fc1, true);
        let Workspace { hidden, hidden_bytes, x, .. } = &mut *self.work;
        let left = rounded(self.pool, (hidden, hidden_bytes.as_mut()), (rows, mlp), self.network);
        add(self.pool, &block.fc2, left, x);
    }

    /// The normed operand through a layer: with GELU into `hidden`, else into `qkv`.
    fn words(&mut self, rows: usize, layer: &Linear, gelu: bool) {
        let isa = self.network.isa;
        let Workspace { normed, qkv, hidden, .. } = &mut *self.work;
        let to = if gelu { hidden } else { qkv };
        let how = How { format: to.format(), gelu };
        let out = (to.numbers_mut(0, rows), how.format.per_word());
        layer.run(self.pool, normed.left(rows), out, |sums, finish, _, block| {
            finish_words(isa, sums, finish, how, block);
        });
    }
}

/// The operand itself, or rounded to bytes row by row.
fn rounded<'a>(
    pool: &mut Pool<Scratch>,
    (from, to): (&'a Operand, Option<&'a mut Operand>),
    (rows, cols): (usize, usize),
    network: &Network,
) -> super::simd::Left<'a> {
    let Some(to) = to else { return from.left(rows) };
    let stride = to.stride();
    pool.over(to.rows_mut(rows), (ROWS, stride), |scratch, (first, _), mut block| {
        for row in 0..block.rows() {
            let numbers = &mut scratch.row[..cols];
            unpack_row(network.isa, &from.words()[(first + row) * from.stride()..], from.format(), numbers);
            pack_row(network.isa, numbers, Format::Int8, block.row(row));
        }
    });
    to.left(rows)
}

/// Adds a layer's result to the residual stream.
fn add(pool: &mut Pool<Scratch>, layer: &Linear, left: super::simd::Left<'_>, x: &mut Words) {
    let dim = layer.out();
    let out = (MatMut::new(x.floats_mut(), (left.rows, dim), dim), 1);
    layer.run(pool, left, out, |sums, finish, _, block| finish_adding(layer.isa(), sums, finish, block));
}

/// Numbers in the longest row that passes through a thread's scratch.
pub(super) fn longest_row(network: &Network) -> usize {
    let config = &network.config;
    [config.patch_dim(), config.dim, config.inner(), config.mlp].into_iter().max().unwrap_or(0)
}

/// Words of sums that a thread's scratch holds.
pub(super) fn sums() -> usize {
    linear::scratch_words()
}
