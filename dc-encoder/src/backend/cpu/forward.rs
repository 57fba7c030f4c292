//! The forward pass, in memory that is made once.
//!
//! ```text
//! frames ─► operand ─► patch_embed + positions ─► x
//! each block:  x ─► norm ─► qkv ─► attention ─► out ─► added to x ─► norm ─► fc1, GELU ─► fc2 ─► added to x
//!                       bytes: rows are measured and rounded before `out` and before `fc2`
//! x ─► norm ─► hidden
//! ```
//! In bf16 and bytes every operand goes without its frame's centre (see `linear`), which costs no pass of its own:
//! ```text
//! norm        the mean of a few rows                   qkv    keys and values are left without what they have in common:
//! hidden      GELU of what `fc1` gives all rows               softmax does not see it in keys, and of values it is the
//!                                                            centre of what attention gives
//! ```

use super::attention::{Convolution, Keys, Rows};
use super::linear::{Linear, Operand, Place, Side, Spare, Target, chunks};
use super::network::{Block, LayerNorm, Network};
use super::nystrom::{Grouping, Image, Nystrom};
use super::profile::{Profile, Stage};
use super::simd::finish::{Finish, Words as How, finish_adding, finish_storing, finish_words};
use super::simd::rows::{add_scaled, gelu, norm, pack_row, unpack_row};
use super::simd::{Format, MatMut, Pool, Words};
use super::{Scratch, linear};

/// Rows that one task normalises or rounds.
const ROWS: usize = 12;
/// Rows of a frame that the centre after a LayerNorm is the mean of: it need not be exact, only near.
const SAMPLES: usize = 12;

/// Memory of a forward pass of up to `batch` frames.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Tokens of each frame of this pass, at most the model's.
    tokens: usize,
    /// Position vectors of the patches of a frame that lacks some.
    positions: Vec<f32>,
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
    /// Of each frame, what was taken from its normed rows: `[batch, dim]`.
    centres: Words,
    /// What the results of a layer have in common, `[batch * chunks, out]`.
    common: Words,
    spare: Spare,
    pub(super) profile: Profile,
}

impl Workspace {
    pub(super) fn new(network: &Network, batch: usize, grouping: Option<Grouping>) -> Self {
        let Network { config, format, heads, .. } = network;
        let (tokens, core) = (config.tokens(), heads.format);
        let rows = batch * tokens;
        let frames = (batch, tokens);
        let bytes =
            |cols: usize| (*format == Format::Int8).then(|| Operand::centred(Format::Int8, frames, cols));
        let widest = config.mlp.max(3 * config.inner());
        Self {
            tokens,
            positions: Vec::new(),
            patches: Operand::new(*format, config.patches(), config.patch_dim()),
            x: Words::zeroed(rows * config.dim),
            normed: Operand::centred(*format, frames, config.dim),
            qkv: Operand::new(core, rows, 3 * config.inner()),
            keys: Keys::new(*heads, tokens),
            nystrom: grouping.map(|grouping| Nystrom::new(*heads, grouping, config.pinv_iterations)),
            joined: Operand::centred(core, frames, config.inner()),
            joined_bytes: bytes(config.inner()),
            hidden: Operand::centred(core, frames, config.mlp),
            hidden_bytes: bytes(config.mlp),
            centres: Words::zeroed(batch * config.dim),
            common: Words::zeroed(batch * chunks(tokens) * widest),
            spare: Spare::new(widest.max(config.dim)),
            profile: Profile::new(),
        }
    }

    /// Frames of the next pass have so many tokens, at most the model's. Not for models with landmarks, which are of whole
    /// frames.
    pub(super) fn set_tokens(&mut self, tokens: usize) {
        if self.tokens == tokens {
            return;
        }
        self.tokens = tokens;
        let Self { keys, normed, joined, joined_bytes, hidden, hidden_bytes, .. } = self;
        keys.set_keys(tokens);
        let always = [normed, joined, hidden].into_iter();
        always.chain(joined_bytes).chain(hidden_bytes).for_each(|operand| operand.set_band(tokens));
    }

    /// The residual stream of one frame, `[tokens, dim]`.
    pub(super) fn frame(&self, dim: usize, frame: usize) -> &[f32] {
        &self.x.floats()[frame * self.tokens * dim..][..self.tokens * dim]
    }
}

/// A forward pass: the network, its memory and its threads.
pub(super) struct Pass<'a> {
    pub(super) network: &'a Network,
    pub(super) work: &'a mut Workspace,
    pub(super) pool: &'a mut Pool<Scratch>,
}

impl Pass<'_> {
    /// Embeds one frame, whose patches `fill` writes, as number `index` of the batch. `places`: which patches they are, as
    /// many as the pass has tokens for; without, all.
    pub(super) fn embed(
        &mut self,
        index: usize,
        places: Option<&[u32]>,
        fill: impl FnOnce(&mut Pool<Scratch>, &mut Operand),
    ) {
        let Network { config, patch_embed, positions, class_token, isa, .. } = self.network;
        let (dim, tokens) = (config.dim, self.work.tokens);
        let patches = tokens - usize::from(config.class_token);
        let Workspace { positions: some, patches: operand, x, profile, .. } = &mut *self.work;
        let positions = match places {
            None => positions,
            Some(places) => {
                some.clear();
                places.iter().for_each(|at| some.extend_from_slice(&positions[*at as usize * dim..][..dim]));
                &*some
            }
        };
        profile.start();
        fill(self.pool, operand);
        profile.lap(Stage::Input);
        let x = &mut x.floats_mut()[index * tokens * dim..][..tokens * dim];
        let x = match class_token {
            None => x,
            Some(token) => {
                let (first, rest) = x.split_at_mut(dim);
                first.copy_from_slice(token);
                rest
            }
        };
        let to = Target { out: MatMut::new(x, (patches, dim), dim), per: 1, common: None };
        patch_embed.run(
            self.pool,
            operand.left(patches),
            to,
            |sums, finish, Place { row, col, .. }, block| {
                finish_storing(*isa, sums, finish, Some((&positions[row * dim + col..], dim)), block);
            },
        );
        profile.lap(Stage::Patches);
    }

    /// All blocks and the last norm over the first `frames` frames, in place.
    pub(super) fn blocks(&mut self, frames: usize) {
        let network = self.network;
        self.work.profile.start();
        for block in &network.blocks {
            self.attention(frames, block);
            self.mlp(frames, block);
        }
        let dim = network.config.dim;
        let rows = frames * self.work.tokens;
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
    fn norm(&mut self, frames: usize, layer: &LayerNorm) {
        self.centre(frames, layer);
        let Network { config, isa, .. } = self.network;
        let (dim, tokens) = (config.dim, self.work.tokens);
        let Workspace { x, normed, centres, .. } = &mut *self.work;
        let (x, centres) = (x.floats(), centres.floats());
        let (format, stride, centred) = (normed.format(), normed.stride(), normed.is_centred());
        self.pool.over(normed.rows_mut(frames * tokens), (ROWS, stride), |scratch, (first, _), mut block| {
            for row in 0..block.rows() {
                let numbers = &mut scratch.row[..dim];
                norm(*isa, &x[(first + row) * dim..][..dim], layer.view(), numbers);
                if centred {
                    add_scaled(*isa, &centres[(first + row) / tokens * dim..][..dim], -1.0, numbers);
                }
                pack_row(*isa, numbers, format, block.row(row));
            }
        });
    }

    /// The centre of each frame's normed rows: the mean of a few.
    fn centre(&mut self, frames: usize, layer: &LayerNorm) {
        let Network { config, isa, .. } = self.network;
        let (dim, tokens) = (config.dim, self.work.tokens);
        let Workspace { x, normed, centres, spare, .. } = &mut *self.work;
        if !normed.is_centred() {
            return;
        }
        let samples = SAMPLES.min(tokens);
        for frame in 0..frames {
            let centre = &mut centres.floats_mut()[frame * dim..][..dim];
            centre.fill(0.0);
            for sample in 0..samples {
                let token = frame * tokens + (2 * sample + 1) * tokens / (2 * samples);
                let row = spare.row(dim);
                norm(*isa, &x.floats()[token * dim..][..dim], layer.view(), row);
                add_scaled(*isa, row, 1.0 / samples as f32, centre);
            }
            normed.set_centre(*isa, frame, centre, spare);
        }
    }

    fn attention(&mut self, frames: usize, block: &Block) {
        let config = &self.network.config;
        let (tokens, inner) = (self.work.tokens, config.inner());
        self.norm(frames, &block.norm1);
        self.work.profile.lap(Stage::Norm);
        self.project(frames, &block.qkv);
        self.work.profile.lap(Stage::Qkv);
        for frame in 0..frames {
            let Workspace { normed, qkv, keys, nystrom, joined, common, profile, .. } = &mut *self.work;
            let centre = normed.is_centred().then(|| {
                let row = &common.floats()[frame * chunks(tokens) * 3 * inner..];
                &row[2 * inner..][..inner]
            });
            let (stride, words) = (qkv.stride(), self.network.heads.words() * config.heads);
            let part = |part: usize| Rows {
                words: &qkv.words()[frame * tokens * stride..],
                stride,
                first: part * words,
            };
            let parts = [part(0), part(1), part(2)];
            keys.pack(self.pool, parts[1], parts[2]);
            profile.lap(Stage::Pack);
            let weight = block.conv.as_deref();
            let conv = weight.map(|weight| Convolution { weight, values: parts[2], tokens, centre });
            let format = joined.format();
            let out = (joined.numbers_mut(frame * tokens, tokens), format);
            match nystrom {
                None => keys.attend(self.pool, parts[0], out, conv),
                Some(nystrom) => nystrom.attend(self.pool, Image { parts, all: keys, centre }, out, conv),
            }
            profile.lap(Stage::Attention);
        }
        let Workspace { joined, joined_bytes, x, common, spare, profile, .. } = &mut *self.work;
        let common = (common.floats(), (3 * inner, 2 * inner));
        set_centres(self.network, (frames, tokens), (joined, joined_bytes.as_mut()), common, spare);
        let left =
            rounded(self.pool, (joined, joined_bytes.as_mut()), (frames * tokens, inner), self.network);
        profile.lap(Stage::Round);
        add(self.pool, &block.out, left, x);
        profile.lap(Stage::Out);
    }

    fn mlp(&mut self, frames: usize, block: &Block) {
        let config = &self.network.config;
        let (tokens, mlp) = (self.work.tokens, config.mlp);
        let rows = frames * tokens;
        self.norm(frames, &block.norm2);
        self.work.profile.lap(Stage::Norm);
        self.expand(frames, &block.fc1);
        let Workspace { hidden, hidden_bytes, x, common, spare, profile, .. } = &mut *self.work;
        profile.lap(Stage::Expand);
        set_centres(
            self.network,
            (frames, tokens),
            (hidden, hidden_bytes.as_mut()),
            (common.floats(), (mlp, 0)),
            spare,
        );
        let left = rounded(self.pool, (hidden, hidden_bytes.as_mut()), (rows, mlp), self.network);
        profile.lap(Stage::Round);
        add(self.pool, &block.fc2, left, x);
        profile.lap(Stage::Contract);
    }

    /// The normed operand to queries, keys and values; the last two without what they have in common.
    fn project(&mut self, frames: usize, layer: &Linear) {
        let Network { config, isa, .. } = self.network;
        let (tokens, inner) = (self.work.tokens, config.inner());
        let rows = frames * tokens;
        let Workspace { normed, qkv, common, .. } = &mut *self.work;
        let centred = normed.is_centred();
        let how = How { format: qkv.format(), gelu: None };
        let common = Some(common_of(common, frames * chunks(tokens), layer));
        let to = Target { out: qkv.numbers_mut(0, rows), per: how.format.per_word(), common };
        layer.run(self.pool, normed.left(rows), to, |sums, finish, place, block| {
            if let Some(common) = place.common {
                common.copy_from_slice(&finish.bias[..common.len()]);
            }
            let whole =
                if centred { inner.saturating_sub(place.col).min(finish.width) } else { finish.width };
            let mut bias = [0f32; super::linear::WIDEST];
            bias[..whole].copy_from_slice(&finish.bias[..whole]);
            finish_words(*isa, sums, &Finish { bias: &bias, ..*finish }, how, block);
        });
    }

    /// The normed operand through `fc1` and GELU, without what that makes of the centre.
    fn expand(&mut self, frames: usize, layer: &Linear) {
        let Network { isa, .. } = self.network;
        let tokens = self.work.tokens;
        let rows = frames * tokens;
        let Workspace { normed, hidden, common, .. } = &mut *self.work;
        let centred = normed.is_centred();
        let format = hidden.format();
        let common = Some(common_of(common, frames * chunks(tokens), layer));
        let to = Target { out: hidden.numbers_mut(0, rows), per: format.per_word(), common };
        layer.run(self.pool, normed.left(rows), to, |sums, finish, place, block| {
            let mut less: &[f32] = &[];
            if let Some(common) = place.common.filter(|_| centred) {
                common.copy_from_slice(&finish.bias[..common.len()]);
                gelu(*isa, common);
                less = common;
            }
            finish_words(*isa, sums, finish, How { format, gelu: Some(less) }, block);
        });
    }
}

/// The memory of what the results of a layer have in common.
fn common_of<'a>(common: &'a mut Words, chunks: usize, layer: &Linear) -> MatMut<'a, f32> {
    MatMut::new(common.floats_mut(), (chunks, layer.out()), layer.out())
}

/// Gives the operand that the next product reads its centres: `common` holds rows of `width` numbers, one a chunk, and the
/// centre begins at `first`.
fn set_centres(
    network: &Network,
    (frames, tokens): (usize, usize),
    (words, bytes): (&mut Operand, Option<&mut Operand>),
    (common, (width, first)): (&[f32], (usize, usize)),
    spare: &mut Spare,
) {
    let read = bytes.unwrap_or(words);
    if read.is_centred() {
        for frame in 0..frames {
            let row = &common[frame * chunks(tokens) * width..][..width];
            read.set_centre(network.isa, frame, &row[first..], spare);
        }
    }
}

/// The operand itself, or rounded to bytes row by row.
fn rounded<'a>(
    pool: &mut Pool<Scratch>,
    (from, to): (&'a Operand, Option<&'a mut Operand>),
    (rows, cols): (usize, usize),
    network: &Network,
) -> Side<'a> {
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
fn add(pool: &mut Pool<Scratch>, layer: &Linear, left: Side<'_>, x: &mut Words) {
    let dim = layer.out();
    let to = Target { out: MatMut::new(x.floats_mut(), (left.rows(), dim), dim), per: 1, common: None };
    layer.run(pool, left, to, |sums, finish, _, block| finish_adding(layer.isa(), sums, finish, block));
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
