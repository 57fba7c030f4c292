//! Exact attention of some queries to some keys, a tile at a time (Dao et al., 2022).
//!
//! ```text
//! keys, values of one head ─► panels                                     one task a head
//! 24 queries × 256 keys ─► scores ─► powers of e ─► × values ─► sums      one task a run of queries and a head
//!      └──── next 256 keys: sums so far fade if a larger score came ────┘
//! ```
//! The score matrix never exists beyond one tile.

use super::Scratch;
use super::simd::rows::{Scores, Softmax, add_scaled, pack_row, soften, unpack_row};
use super::simd::{Block, Format, Isa, LINE, Left, MatMut, Panel, Pool, WIDTH, Words, tile};

/// Queries of one tile.
const QUERIES: usize = 24;
/// Queries of one task.
const TASK: usize = 5 * QUERIES;
/// Keys of one tile.
const KEYS: usize = 256;

/// The heads of a layer, and what computes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) isa: Isa,
    /// F32 or bf16.
    pub(super) format: Format,
    pub(super) count: usize,
    /// Numbers of one head.
    pub(super) width: usize,
}

impl Heads {
    /// Words of one head in a row.
    pub(super) fn words(&self) -> usize {
        self.format.words(self.width)
    }

    /// What scores are multiplied by.
    pub(super) fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Panels that the values of a head fill.
    fn value_panels(&self) -> usize {
        self.width.div_ceil(WIDTH)
    }
}

/// Rows of words with the heads side by side, from column `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) words: &'a [u32],
    pub(super) stride: usize,
    pub(super) first: usize,
}

impl<'a> Rows<'a> {
    /// The words of one head in one row.
    pub(super) fn head(&self, row: usize, head: usize, words: usize) -> &'a [u32] {
        &self.words[row * self.stride + self.first + head * words..][..words]
    }
}

/// Keys and values of the heads of one image, packed for products.
#[derive(Debug)]
pub(super) struct Keys {
    words: Words,
    heads: Heads,
    keys: usize,
}

impl Keys {
    /// Room for `keys` keys a head.
    pub(super) fn new(heads: Heads, keys: usize) -> Self {
        let mut new = Self { words: Words::default(), heads, keys };
        new.words = Words::zeroed(heads.count * new.head_words());
        new
    }

    /// There are so many keys a head from now on, at most as many as there is room for.
    pub(super) fn set_keys(&mut self, keys: usize) {
        self.keys = keys;
        // What is left of others would count as keys where a panel is not full: at no weight, but as numbers all the same.
        self.words.fill(0);
    }

    /// Words of the keys of one head.
    fn key_words(&self) -> usize {
        self.keys.next_multiple_of(WIDTH) * self.heads.words()
    }

    /// Words along the keys in a panel of values.
    fn value_steps(&self) -> usize {
        self.keys.next_multiple_of(WIDTH) / self.heads.format.per_word()
    }

    fn head_words(&self) -> usize {
        self.key_words() + self.heads.value_panels() * self.value_steps() * WIDTH
    }

    /// Packs keys and values.
    pub(super) fn pack(&mut self, pool: &mut Pool<Scratch>, keys: Rows<'_>, values: Rows<'_>) {
        let (each, count) = (self.head_words(), self.heads.count);
        let layout =
            Layout { heads: self.heads, keys: self.keys, split: self.key_words(), steps: self.value_steps() };
        pool.over(MatMut::new(&mut self.words, (count, each), each), (1, each), |_, (head, _), mut block| {
            let (to_keys, to_values) = block.row(0).split_at_mut(layout.split);
            layout.pack_keys(keys, head, to_keys);
            layout.pack_values(values, head, to_values);
        });
    }

    /// The panel of `WIDTH` keys from `first`.
    fn key_panel(&self, head: usize, first: usize) -> Panel<'_> {
        let steps = self.heads.words();
        let words = &self.words[head * self.head_words() + first * steps..][..steps * WIDTH];
        Panel { words, format: self.heads.format, steps, width: WIDTH }
    }

    /// The panel of values `WIDTH * panel..` of the keys from `first`, `keys` of them, rounded up to whole panels.
    fn value_panel(&self, head: usize, panel: usize, (first, keys): (usize, usize)) -> Panel<'_> {
        let per = self.heads.format.per_word();
        let steps = keys.next_multiple_of(WIDTH) / per;
        let start =
            head * self.head_words() + self.key_words() + (panel * self.value_steps() + first / per) * WIDTH;
        Panel { words: &self.words[start..][..steps * WIDTH], format: self.heads.format, steps, width: WIDTH }
    }
}

/// How one head's keys and values lie.
#[derive(Clone, Copy)]
struct Layout {
    heads: Heads,
    keys: usize,
    split: usize,
    steps: usize,
}

impl Layout {
    fn pack_keys(&self, from: Rows<'_>, head: usize, to: &mut [u32]) {
        let words = self.heads.words();
        for (panel, to) in to.chunks_exact_mut(words * WIDTH).enumerate() {
            let first = panel * WIDTH;
            let count = WIDTH.min(self.keys - first);
            let mut rows: [&[u32]; WIDTH] = [&[]; WIDTH];
            for (key, row) in rows[..count].iter_mut().enumerate() {
                *row = from.head(first + key, head, words);
            }
            let (steps, _) = to.as_chunks_mut::<WIDTH>();
            // A line of words of each row at a time: it becomes a column of as many steps.
            for (line, steps) in steps.chunks_mut(LINE).enumerate() {
                for (key, row) in rows[..count].iter().enumerate() {
                    match (row[line * LINE..].first_chunk::<LINE>(), steps.first_chunk_mut::<LINE>()) {
                        (Some(row), Some(steps)) => (0..LINE).for_each(|step| steps[step][key] = row[step]),
                        _ => steps.iter_mut().zip(&row[line * LINE..]).for_each(|(to, word)| to[key] = *word),
                    }
                }
            }
        }
    }

    fn pack_values(&self, from: Rows<'_>, head: usize, to: &mut [u32]) {
        let (words, panel) = (self.heads.words(), self.steps * WIDTH);
        if self.heads.format == Format::F32 {
            for key in 0..self.keys {
                for (number, part) in from.head(key, head, words).chunks(WIDTH).enumerate() {
                    to[number * panel + key * WIDTH..][..part.len()].copy_from_slice(part);
                }
            }
            return;
        }
        for pair in 0..self.keys.div_ceil(2) {
            let first = from.head(2 * pair, head, words);
            // A last key without a partner is paired with itself, at no weight.
            let (second, keep) = match 2 * pair + 1 < self.keys {
                true => (from.head(2 * pair + 1, head, words), u32::MAX),
                false => (first, 0xffff),
            };
            let parts = first.chunks(WIDTH / 2).zip(second.chunks(WIDTH / 2));
            for (number, (first, second)) in parts.enumerate() {
                let (to, _) = to[number * panel + pair * WIDTH..][..2 * first.len()].as_chunks_mut::<2>();
                let pairs = |(to, (first, second)): (&mut [u32; 2], (&u32, &u32))| {
                    *to =
                        [(first & 0xffff | second << 16) & keep, (first >> 16 | second & 0xffff_0000) & keep];
                };
                to.iter_mut().zip(first.iter().zip(second)).for_each(pairs);
            }
        }
    }
}

/// The residual convolution over tokens: `[heads, kernel]` weights, and the values it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution<'a> {
    pub(super) weight: &'a [f32],
    pub(super) values: Rows<'a>,
    pub(super) tokens: usize,
    /// What was taken from all values, `[heads * width]`, or nothing.
    pub(super) centre: Option<&'a [f32]>,
}

/// What a few queries need while they attend.
#[derive(Debug)]
pub(super) struct Tile {
    scores: Words,
    powers: Words,
    sums: Words,
    largest: [f32; QUERIES],
    total: [f32; QUERIES],
    row: Vec<f32>,
    value: Vec<f32>,
}

/// Words from one row of powers to the next: an odd number of lines.
const POWERS: usize = KEYS + 16;

impl Tile {
    /// For heads of this width.
    pub(super) fn new(width: usize) -> Self {
        Self {
            scores: Words::zeroed(QUERIES * KEYS),
            powers: Words::zeroed(QUERIES * POWERS),
            sums: Words::zeroed(QUERIES * width.next_multiple_of(WIDTH)),
            largest: [0.0; QUERIES],
            total: [0.0; QUERIES],
            row: vec![0.0; width.next_multiple_of(WIDTH)],
            value: vec![0.0; width],
        }
    }

    /// Weighted sums of the values for a few queries: `sums / total`.
    fn attend(&mut self, keys: &Keys, head: usize, queries: Left<'_>) {
        let Heads { isa, format, .. } = keys.heads;
        let rows = queries.rows;
        (self.largest, self.total) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
        for first in (0..keys.keys).step_by(KEYS) {
            let count = KEYS.min(keys.keys - first);
            let scores = self.scores.floats_mut();
            for (number, key) in (first..first + count).step_by(WIDTH).enumerate() {
                let to = &mut scores[number * rows * WIDTH..];
                tile(isa, queries, keys.key_panel(head, key), false, to);
            }
            let scores = Scores { scores, rows, keys: count, scale: keys.heads.scale() };
            let state = Softmax { largest: &mut self.largest, total: &mut self.total };
            let used = if first == 0 { 0 } else { keys.heads.value_panels() * rows * WIDTH };
            let sums = self.sums.floats_mut();
            soften(isa, scores, state, &mut sums[..used], (format, &mut self.powers, POWERS));
            let powers = Left { words: &self.powers, rows, stride: POWERS };
            for panel in 0..keys.heads.value_panels() {
                let values = keys.value_panel(head, panel, (first, count));
                tile(isa, powers, values, first > 0, &mut sums[panel * rows * WIDTH..]);
            }
        }
    }

    /// One query's result as numbers, in `self.row`.
    fn result(&mut self, heads: &Heads, rows: usize, row: usize) {
        let share = 1.0 / self.total[row];
        self.row.fill(0.0);
        for (panel, to) in self.row.chunks_mut(WIDTH).enumerate() {
            add_scaled(heads.isa, &self.sums.floats()[(panel * rows + row) * WIDTH..][..WIDTH], share, to);
        }
    }

    /// Adds the convolution of the values around `token`.
    fn convolve(&mut self, heads: &Heads, head: usize, token: usize, conv: &Convolution<'_>) {
        let kernel = conv.weight.len() / heads.count;
        for (tap, weight) in conv.weight[head * kernel..][..kernel].iter().enumerate() {
            let at = token + tap;
            if (kernel / 2..conv.tokens + kernel / 2).contains(&at) {
                let words = conv.values.head(at - kernel / 2, head, heads.words());
                unpack_row(heads.isa, words, heads.format, &mut self.value);
                if let Some(centre) = conv.centre {
                    add_scaled(heads.isa, &centre[head * heads.width..][..heads.width], 1.0, &mut self.value);
                }
                add_scaled(heads.isa, &self.value, *weight, &mut self.row[..heads.width]);
            }
        }
    }
}

impl Keys {
    /// Attention of all heads: queries from `queries` row by row, results to `out`, whose rows hold the heads side by
    /// side as words of `format`.
    pub(super) fn attend(
        &self,
        pool: &mut Pool<Scratch>,
        queries: Rows<'_>,
        (out, format): (MatMut<'_, u32>, Format),
        conv: Option<Convolution<'_>>,
    ) {
        let heads = self.heads;
        let width = format.words(heads.width);
        pool.over(out, (TASK, width), |scratch, (row, col), mut block: Block<'_, u32>| {
            let head = col / width;
            for first in (0..block.rows()).step_by(QUERIES) {
                let rows = QUERIES.min(block.rows() - first);
                let start = (row + first) * queries.stride + queries.first + head * heads.words();
                let left = Left { words: &queries.words[start..], rows, stride: queries.stride };
                scratch.tile.attend(self, head, left);
                for query in 0..rows {
                    scratch.tile.result(&heads, rows, query);
                    if let Some(conv) = &conv {
                        scratch.tile.convolve(&heads, head, row + first + query, conv);
                    }
                    pack_row(heads.isa, &scratch.tile.row[..heads.width], format, block.row(first + query));
                }
            }
        });
    }
}
