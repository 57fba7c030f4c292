//! Nyström attention (Xiong et al., 2021): `k1 · (pinv(k2) · (k3 · v))`.
//!
//! ```text
//! queries, keys ─► landmark means ql, kl               one task a head
//! ql to all keys: exact attention                      = k3 · v      [landmarks, width]
//! softmax(ql klᵀ) ─► pseudo-inverse ─► · (k3 · v) = w   one task a head, f32 in every precision
//! all queries to keys kl with values w: exact attention = the result
//! ```
//! Both large kernels are attention to something, so neither `[tokens, landmarks]` matrix ever exists.

use super::Scratch;
use super::attention::{Convolution, Heads, Keys, Rows};
use super::linear::Operand;
use super::simd::rows::{add_scaled, pack_row, unpack_row};
use super::simd::{Format, MatMut, Pool, Words, floats, floats_mut};

/// Which landmark each token of a sequence is part of, and one over the tokens of each.
#[derive(Debug, Clone)]
pub(super) struct Grouping {
    pub(super) group: Vec<u32>,
    pub(super) share: Vec<f32>,
}

impl Grouping {
    /// From the number of the group of each token; every group has a token.
    pub(super) fn new(group: Vec<u32>) -> Self {
        let mut sizes = vec![0u32; group.iter().max().map_or(0, |most| *most as usize + 1)];
        group.iter().for_each(|group| sizes[*group as usize] += 1);
        Self { share: sizes.iter().map(|size| 1.0 / *size as f32).collect(), group }
    }

    /// How many landmarks there are.
    pub(super) fn count(&self) -> usize {
        self.share.len()
    }
}

/// Nyström attention of one image: its working memory.
#[derive(Debug)]
pub(super) struct Nystrom {
    heads: Heads,
    grouping: Grouping,
    iterations: usize,
    /// Means of queries and of keys, and `k3 · v`, later `w`: f32, head after head, `[landmarks, width]` each.
    queries: Words,
    keys: Words,
    values: Words,
    /// The same as operand rows with the heads side by side.
    query_rows: Operand,
    key_rows: Operand,
    value_rows: Operand,
    packed: Keys,
}

impl Nystrom {
    pub(super) fn new(heads: Heads, grouping: Grouping, iterations: usize) -> Self {
        let landmarks = grouping.count();
        let numbers = || Words::zeroed(heads.count * landmarks * heads.width);
        let rows = || Operand::new(heads.format, landmarks, heads.count * heads.width);
        Self {
            heads,
            grouping,
            iterations,
            queries: numbers(),
            keys: numbers(),
            values: numbers(),
            query_rows: rows(),
            key_rows: rows(),
            value_rows: rows(),
            packed: Keys::new(heads, landmarks),
        }
    }

    /// Attention of one image: `parts` are its queries, keys and values, `all` its packed keys and values.
    pub(super) fn attend(
        &mut self,
        pool: &mut Pool<Scratch>,
        (parts, all): ([Rows<'_>; 3], &Keys),
        out: (MatMut<'_, u32>, Format),
        conv: Option<Convolution<'_>>,
    ) {
        let (landmarks, stride) = (self.grouping.count(), self.query_rows.stride());
        means(pool, (&self.heads, &self.grouping), parts[0], &mut self.queries);
        means(pool, (&self.heads, &self.grouping), parts[1], &mut self.keys);
        side_by_side(pool, (&self.heads, landmarks), &self.queries, &mut self.query_rows);
        side_by_side(pool, (&self.heads, landmarks), &self.keys, &mut self.key_rows);
        let queries = Rows { words: self.query_rows.words(), stride, first: 0 };
        let inner = self.heads.count * self.heads.width;
        // As f32, heads side by side; taken apart by `solve`.
        let sums = MatMut::new(&mut self.values, (landmarks, inner), inner);
        all.attend(pool, queries, (sums, Format::F32), None);
        self.solve(pool);
        let row = |operand: &Operand| operand.stride();
        let keys = Rows { words: self.key_rows.words(), stride: row(&self.key_rows), first: 0 };
        let values = Rows { words: self.value_rows.words(), stride: row(&self.value_rows), first: 0 };
        self.packed.pack(pool, keys, values);
        self.packed.attend(pool, parts[0], out, conv);
    }

    /// `w = pinv(softmax(ql klᵀ)) · (k3 · v)` of each head.
    fn solve(&mut self, pool: &mut Pool<Scratch>) {
        let Self { heads, iterations, queries, keys, values, value_rows, .. } = self;
        let (landmarks, width) = (self.grouping.count(), heads.width);
        let (each, inner, words) = (landmarks * width, heads.count * width, heads.words());
        let values: &[f32] = values.floats();
        let out = value_rows.numbers_mut(0, landmarks);
        pool.over(out, (landmarks, words), |scratch, (_, col), mut block| {
            let head = col / words;
            let solver = scratch.solver.as_mut().expect("a model with landmarks has a solver");
            solver.kernel(
                &queries.floats()[head * each..][..each],
                &keys.floats()[head * each..][..each],
                width,
            );
            solver.solve(*iterations, (values, inner, head * width), width);
            for row in 0..landmarks {
                pack_row(heads.isa, solver.result(row, width), heads.format, block.row(row));
            }
        });
    }
}

/// Means of the tokens of each group, head after head: `[heads, landmarks, width]`.
fn means(pool: &mut Pool<Scratch>, (heads, grouping): (&Heads, &Grouping), from: Rows<'_>, to: &mut Words) {
    let each = grouping.count() * heads.width;
    pool.over(MatMut::new(to, (heads.count, each), each), (1, each), |scratch, (head, _), mut block| {
        let to = floats_mut(block.row(0));
        to.fill(0.0);
        let row = &mut scratch.row[..heads.width];
        for (token, group) in grouping.group.iter().enumerate() {
            unpack_row(heads.isa, from.head(token, head, heads.words()), heads.format, row);
            let group = *group as usize;
            add_scaled(heads.isa, row, grouping.share[group], &mut to[group * heads.width..][..heads.width]);
        }
    });
}

/// Head after head to operand rows with the heads side by side.
fn side_by_side(
    pool: &mut Pool<Scratch>,
    (heads, landmarks): (&Heads, usize),
    from: &Words,
    to: &mut Operand,
) {
    let words = heads.words();
    pool.over(to.numbers_mut(0, landmarks), (landmarks, words), |_, (_, col), mut block| {
        for row in 0..landmarks {
            let at = (col / words * landmarks + row) * heads.width;
            pack_row(heads.isa, &floats(from)[at..][..heads.width], heads.format, block.row(row));
        }
    });
}
