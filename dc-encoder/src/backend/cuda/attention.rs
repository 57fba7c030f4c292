//! Exact attention of queries to keys: on tensor cores in bf16, in plain loops in f32.

use super::plan::Constant::{Flag, Real, Type, Whole};
use super::plan::{Builder, Constant, Element, Grid, Matrix, Memory, Recipe, Step};

const HEADS: &str = include_str!("kernels/heads.cu");
const ATTENTION_F32: &str = include_str!("kernels/attention_f32.cu");
const ATTENTION_BF16: &str = include_str!("kernels/attention_bf16.cu");

/// What the shared memory of a block holds without asking for more, in bytes.
const SHARED: usize = 48 << 10;

/// How the heads of a model lie side by side, and how a block takes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) width: usize,
    /// Keys that a block holds at a time.
    held: usize,
}

impl Heads {
    /// The widest head that [`Heads::new`] takes, in either format: what fits a block's shared memory.
    pub(super) const WIDEST: usize = 304;

    /// Heads of this width, if a block's memory is enough for them.
    pub(super) fn new((count, width): (usize, usize), element: Element) -> Option<Self> {
        let bytes = |held: usize| match element {
            // Queries and keys with one number more a row, and scores.
            Element::F32 => 4 * ((16 + held) * (width + 1) + 16 * held),
            // Keys and values with sixteen bytes more a row, or 64 queries.
            Element::Bf16 => 4 * held * (width.next_multiple_of(16) + 8),
        };
        let candidates: &[usize] = match element {
            Element::F32 => &[32, 16, 8, 4],
            Element::Bf16 => &[64, 32],
        };
        let held = candidates.iter().copied().find(|held| bytes(*held) <= SHARED)?;
        (width <= Self::WIDEST).then_some(Self { count, width, held })
    }

    /// Scores are multiplied by this.
    pub(super) fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Width of all heads.
    pub(super) fn inner(&self) -> usize {
        self.count * self.width
    }
}

/// Where rows of heads lie: numbers from frame to frame, from head to head, from row to row, and before the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) memory: Memory,
    pub(super) element: Element,
    pub(super) frame: usize,
    pub(super) head: usize,
    pub(super) row: usize,
    pub(super) first: usize,
    /// Of one frame.
    pub(super) rows: usize,
}

impl Part {
    /// Heads side by side in the columns of a matrix from `first` on, `rows` rows a frame.
    pub(super) fn beside(heads: &Heads, matrix: &Matrix, (first, rows): (usize, usize)) -> Self {
        let Matrix { memory, element, stride, .. } = *matrix;
        Self { memory, element, frame: rows * stride, head: heads.width, row: stride, first, rows }
    }

    /// One head after another, `[batch * heads, rows, width]`.
    pub(super) fn after(heads: &Heads, (memory, element): (Memory, Element), rows: usize) -> Self {
        let head = rows * heads.width;
        Self { memory, element, frame: heads.count * head, head, row: heads.width, first: 0, rows }
    }

    /// Whether rows of every head begin at whole vectors of sixteen bytes.
    fn is_aligned(&self) -> bool {
        [self.frame, self.head, self.row, self.first].iter().all(|step| step.is_multiple_of(8))
    }

    fn constants(&self, names: [&'static str; 4]) -> [(&'static str, Constant); 4] {
        let [frame, head, row, first] = names;
        [
            (frame, Whole(self.frame)),
            (head, Whole(self.head)),
            (row, Whole(self.row)),
            (first, Whole(self.first)),
        ]
    }
}

/// The residual convolution of the values of tokens: weights `[heads, taps]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution {
    pub(super) weight: Memory,
    pub(super) taps: usize,
    pub(super) values: Part,
}

/// What is attended with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention<'a> {
    pub(super) queries: Part,
    pub(super) keys: Part,
    pub(super) values: Part,
    pub(super) out: Part,
    /// What was taken from queries, keys and values of each frame, `[batch, 3 * inner]`.
    pub(super) common: &'a Matrix,
    /// Whether it was taken from these queries too (it does not matter to keys: softmax sees differences only).
    pub(super) queries_centred: bool,
    /// Whether the result gets back what was taken from the values.
    pub(super) whole_result: bool,
    pub(super) convolution: Option<Convolution>,
}

impl Builder {
    /// `out = softmax(queries · keysᵀ / sqrt(width)) · values` for every head.
    pub(super) fn attend(&mut self, heads: &Heads, attention: &Attention<'_>) -> Step {
        let Attention { queries, keys, values, out, common, convolution, .. } = *attention;
        let aligned = heads.width.is_multiple_of(8) && keys.is_aligned() && values.is_aligned();
        let taps = convolution.map_or(0, |convolution| convolution.taps);
        // Without a convolution nothing is read from its memory: any stands in.
        let convolved = convolution.map_or(values, |convolution| convolution.values);
        let weight = convolution.map_or(common.memory, |convolution| convolution.weight);
        let mut constants = vec![
            ("T", Type(self.element)),
            ("O", Type(out.element)),
            ("HEADS", Whole(heads.count)),
            ("WIDTH", Whole(heads.width)),
            ("HELD", Whole(heads.held)),
            ("SCALE", Real(heads.scale())),
            ("QUERIES", Whole(queries.rows)),
            ("KEYS", Whole(keys.rows)),
            ("QUERIES_CENTRED", Flag(attention.queries_centred)),
            ("WHOLE_RESULT", Flag(attention.whole_result)),
            ("WHOLE_STRIDE", Whole(common.stride)),
            ("TAPS", Whole(taps)),
            ("C_ROW", Whole(convolved.row)),
            ("C_FIRST", Whole(convolved.first)),
        ];
        constants.extend(queries.constants(["Q_FRAME", "Q_HEAD", "Q_ROW", "Q_FIRST"]));
        constants.extend(keys.constants(["K_FRAME", "K_HEAD", "K_ROW", "K_FIRST"]));
        constants.extend(values.constants(["V_FRAME", "V_HEAD", "V_ROW", "V_FIRST"]));
        constants.extend(&out.constants(["O_FRAME", "O_HEAD", "O_ROW", "O_FIRST"])[..3]);
        let (source, tile, threads) = match self.element {
            Element::F32 => (ATTENTION_F32, 16, 64),
            Element::Bf16 => {
                constants.push(("ALIGNED", Flag(aligned)));
                (ATTENTION_BF16, 64, 128)
            }
        };
        self.launch(&Recipe {
            label: "attention",
            parts: &[HEADS, source],
            constants: &constants,
            arguments: &[
                queries.memory,
                keys.memory,
                values.memory,
                convolved.memory,
                common.memory,
                weight,
                out.memory,
            ],
            grid: Grid { across: queries.rows.div_ceil(tile), down: heads.count, each: 1 },
            threads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_hold_as_many_keys_as_a_block_has_memory_for() {
        let held = |width, element| Heads::new((1, width), element).map(|heads| heads.held);
        assert_eq!(held(64, Element::F32), Some(32));
        assert_eq!(held(256, Element::F32), Some(16));
        assert_eq!(held(64, Element::Bf16), Some(64));
        assert_eq!(held(176, Element::Bf16), Some(64));
        assert_eq!(held(192, Element::Bf16), Some(32));
        assert_eq!(held(Heads::WIDEST, Element::F32), Some(16));
        assert_eq!(held(Heads::WIDEST, Element::Bf16), Some(32));
        assert_eq!(held(Heads::WIDEST + 1, Element::F32), None);
    }

    #[test]
    fn vectors_are_loaded_where_every_row_of_every_head_begins_at_one() {
        let heads = |width| Heads::new((3, width), Element::Bf16).unwrap();
        let matrix =
            |width: usize| Builder::new(Element::Bf16, 1).rows("qkv", Element::Bf16, (5, 3 * 3 * width));
        let aligned = |width| {
            let part = Part::beside(&heads(width), &matrix(width), (3 * width, 5));
            part.is_aligned()
        };
        assert!(aligned(64) && aligned(8) && !aligned(10) && !aligned(12));
    }
}
