//! What the sums of a product become, in one pass over memory that is in a near cache.
//!
//! ```text
//! sums of a product ─► scales of bytes ─► bias ─► GELU | residual | position ─► row
//! ```

use super::blocks::Block;
use super::isa::{Format, Isa};
use super::lanes::{self, PIECE, Pair, both, load, store, store_halves};
use super::vector::{Vector, compiled};
use super::words::{floats_mut, halves_mut};

/// What the sums of a product become. Columns are those of one panel.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// Sums from one row to the next.
    pub width: usize,
    /// Added to each column.
    pub bias: &'a [f32],
    /// Where the product is of bytes: how to read it.
    pub bytes: Option<Bytes<'a>>,
}

/// How sums of bytes are read: `row scale * column scale * (sum - row zero * column sum)`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    /// Scale and zero of the rows: the last two words of each row of the left side.
    pub rows: &'a [u32],
    /// Words from one row of the left side to the next.
    pub stride: usize,
    /// Scale of each column.
    pub scale: &'a [f32],
    /// Sum of each column's weights.
    pub sums: &'a [f32],
}

impl Finish<'_> {
    /// The columns of the piece from `col` on.
    #[inline(always)]
    fn piece<V: Vector>(&self, col: usize) -> Piece<'_, V> {
        #[expect(
            clippy::manual_map,
            reason = "a closure might not be inlined, and then lacks the vector's instructions"
        )]
        let bytes = match &self.bytes {
            Some(bytes) => Some((bytes, load(&bytes.scale[col..]), load(&bytes.sums[col..]))),
            None => None,
        };
        Piece { bytes, bias: load(&self.bias[col..]) }
    }

    /// Finishes the first `cols` columns of some rows: `put(first column, row, numbers)` gets them piece after piece, row
    /// after row. Numbers of a last piece that lie beyond `cols` mean nothing.
    #[inline(always)]
    fn each<V: Vector>(
        &self,
        sums: &[f32],
        (rows, cols): (usize, usize),
        mut put: impl FnMut(usize, usize, Pair<V>),
    ) {
        for col in (0..cols).step_by(PIECE) {
            let piece = self.piece(col);
            for row in 0..rows {
                put(col, row, piece.biased(load(&sums[row * self.width + col..]), row));
            }
        }
    }
}

/// What finishing needs to know of the columns of a piece: of bytes also their scales and sums.
struct Piece<'a, V> {
    bytes: Option<(&'a Bytes<'a>, Pair<V>, Pair<V>)>,
    bias: Pair<V>,
}

impl<V: Vector> Piece<'_, V> {
    /// The finished numbers of a row.
    #[inline(always)]
    fn biased(&self, sums: Pair<V>, row: usize) -> Pair<V> {
        both(self.scaled(sums, row), self.bias, V::add)
    }

    /// The numbers of a row without the bias.
    #[inline(always)]
    fn scaled(&self, sums: Pair<V>, row: usize) -> Pair<V> {
        let Some((bytes, scales, columns)) = self.bytes else { return sums };
        let end = (row + 1) * bytes.stride;
        let (scale, zero) = (f32::from_bits(bytes.rows[end - 2]), f32::from_bits(bytes.rows[end - 1]));
        let (scale, less) = (V::splat(scale), V::splat(-zero));
        let sums = both(columns, sums, |column, sum| column.mul_add(less, sum));
        both(sums, scales, |sum, by| sum.mul(scale.mul(by)))
    }
}

compiled! {
    /// Finishes the sums `[2, width]` of a centre that is split over two rows: `to` becomes their sum and the bias.
    finish_centre = finish_centre_body(sums: &[f32], finish: &Finish<'_>, to: &mut [f32])
}

#[inline(always)]
fn finish_centre_body<V: Vector>(sums: &[f32], finish: &Finish<'_>, to: &mut [f32]) {
    for col in (0..to.len()).step_by(PIECE) {
        let piece = finish.piece::<V>(col);
        let rest = piece.scaled(load(&sums[finish.width + col..]), 1);
        let values = both(piece.biased(load(&sums[col..]), 0), rest, V::add);
        store(&mut to[col..], values, |_, value| value);
    }
}

compiled! {
    /// Finishes sums `[rows, width]` into words of f32 or bf16, through GELU or as they are.
    finish_words = finish_words_body(sums: &[f32], finish: &Finish<'_>, how: Words<'_>, to: &mut Block<'_, u32>)
}

/// How finished numbers are stored.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// F32, or bf16.
    pub format: Format,
    /// Whether they pass through GELU, and then what is taken from each column.
    pub gelu: Option<&'a [f32]>,
}

#[inline(always)]
fn finish_words_body<V: Vector>(sums: &[f32], finish: &Finish<'_>, how: Words<'_>, to: &mut Block<'_, u32>) {
    let cols = to.cols() * how.format.per_word();
    let mut less = [V::splat(0.0); 2];
    finish.each(sums, (to.rows(), cols), |col, row, mut values| {
        if let Some(all) = how.gelu {
            if row == 0 && !all.is_empty() {
                let mut piece = [0f32; PIECE];
                let count = PIECE.min(all.len() - col);
                piece[..count].copy_from_slice(&all[col..][..count]);
                less = load(&piece);
            }
            values = both([lanes::gelu(values[0]), lanes::gelu(values[1])], less, V::sub);
        }
        let to = to.row(row);
        match how.format {
            Format::F32 => store(&mut floats_mut(to)[col..], values, |_, value| value),
            Format::Bf16 | Format::Int8 => store_halves(&mut halves_mut(to)[col..], values),
        }
    });
}

compiled! {
    /// Finishes sums `[rows, width]` and adds them to a block of the residual stream.
    finish_adding = finish_adding_body(sums: &[f32], finish: &Finish<'_>, to: &mut Block<'_, f32>)
}

#[inline(always)]
fn finish_adding_body<V: Vector>(sums: &[f32], finish: &Finish<'_>, to: &mut Block<'_, f32>) {
    finish.each(sums, (to.rows(), to.cols()), |col, row, values| {
        store(&mut to.row(row)[col..], values, V::add);
    });
}

compiled! {
    /// Finishes sums `[rows, width]` over whatever the block holds; with `add` (rows of `stride` numbers, beginning at
    /// the block's first), adds that to them.
    finish_storing = finish_storing_body(
        sums: &[f32], finish: &Finish<'_>, add: Option<(&[f32], usize)>, to: &mut Block<'_, f32>
    )
}

#[inline(always)]
fn finish_storing_body<V: Vector>(
    sums: &[f32],
    finish: &Finish<'_>,
    add: Option<(&[f32], usize)>,
    to: &mut Block<'_, f32>,
) {
    finish.each(sums, (to.rows(), to.cols()), |col, row, values| {
        let to = &mut to.row(row)[col..];
        store(to, values, |_, value: V| value);
        if let Some((add, stride)) = add {
            let count = to.len().min(PIECE);
            lanes::join_into(&mut to[..count], &add[row * stride + col..], V::add);
        }
    });
}
