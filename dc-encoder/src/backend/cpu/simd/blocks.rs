//! A matrix that several tasks write at once, each its own block.

use std::marker::PhantomData;

use super::pool::Pool;

/// Bytes that memory moves in.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// A matrix to write to: rows contiguous, `stride` numbers apart.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// `rows` rows of `cols` numbers that begin `stride` apart.
    ///
    /// # Panics
    /// If the matrix reaches beyond `data`, or its rows overlap.
    pub fn new(data: &'a mut [T], (rows, cols): (usize, usize), stride: usize) -> Self {
        assert!(cols <= stride, "rows of {cols} that begin {stride} apart overlap");
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "a matrix beyond its numbers");
        Self { data, rows, cols, stride }
    }

    /// Blocks of `rows` by `cols`, down and across.
    fn grid(&self, (rows, cols): (usize, usize)) -> (usize, usize) {
        (self.rows.div_ceil(rows), self.cols.div_ceil(cols))
    }
}

/// A block of a matrix, for one task alone.
#[derive(Debug)]
pub struct Block<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    owner: PhantomData<&'a mut T>,
}

impl<T> Block<'_, T> {
    /// Its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Asks for its memory, so that it is near when it is written: rows lie far apart, which no processor foresees.
    #[inline]
    pub fn fetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for row in 0..self.rows {
            for col in (0..self.cols).step_by((LINE_BYTES / size_of::<T>()).max(1)) {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                // SAFETY: the place lies in the matrix (`row`, `col` are in the block); nothing is read or written.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(self.start.add(row * self.stride + col).cast()) };
            }
        }
    }

    /// One of its rows.
    ///
    /// # Panics
    /// Beyond the last.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the block lies in a matrix that was checked against its slice, no other task has a block that
        // overlaps it, and the borrow of `self` keeps two rows from being held at once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.cols) }
    }
}

/// A matrix that tasks on other threads take their blocks of.
struct Whole<T> {
    start: *mut T,
    stride: usize,
}
// SAFETY: only disjoint blocks are made of it, one a task (see `block`); `T: Send` crosses threads.
unsafe impl<T: Send> Sync for Whole<T> {}

impl<T> Whole<T> {
    fn of(matrix: &mut MatMut<'_, T>) -> Self {
        Self { start: matrix.data.as_mut_ptr(), stride: matrix.stride }
    }

    /// The block of `rows` by `cols` numbers that begins at (`row`, `col`).
    ///
    /// # Safety
    /// The block lies in the matrix, which lives and is used by nobody else for `'a`, and no two blocks that live at
    /// once overlap.
    unsafe fn block<'a>(&self, (row, col): (usize, usize), (rows, cols): (usize, usize)) -> Block<'a, T> {
        // SAFETY: the place lies in the matrix, by the caller's promise, and that in its slice: `MatMut::new` checked.
        let start = unsafe { self.start.add(row * self.stride + col) };
        Block { start, rows, cols, stride: self.stride, owner: PhantomData }
    }
}

impl<S: Send> Pool<S> {
    /// Cuts `out` into blocks of at most `size` (rows, columns) and calls `task(scratch, (first row, first column),
    /// block)` for each, on all threads. Neighbouring tasks share columns: blocks are taken column after column.
    pub fn over<T: Send>(
        &mut self,
        mut out: MatMut<'_, T>,
        size: (usize, usize),
        task: impl Fn(&mut S, (usize, usize), Block<'_, T>) + Sync,
    ) {
        let (down, across) = out.grid(size);
        let (rows, cols) = (out.rows, out.cols);
        let whole = Whole::of(&mut out);
        self.run(down * across, |scratch, number| {
            let (row, col) = (number % down * size.0, number / down * size.1);
            let size = (size.0.min(rows - row), size.1.min(cols - col));
            // SAFETY: `row < rows`, `col < cols`, and the size ends in the matrix; each number is another place of a grid.
            let block = unsafe { whole.block((row, col), size) };
            task(scratch, (row, col), block);
        });
    }
}

/// A matrix whose rows come in bands that no block crosses, such as frames of so many tokens.
#[derive(Debug, Clone, Copy)]
pub struct Bands {
    /// Rows of a band.
    pub rows: usize,
    /// Most rows and columns of a block.
    pub block: (usize, usize),
}

impl Bands {
    /// Blocks from top to bottom of a band.
    pub fn down(self) -> usize {
        self.rows.div_ceil(self.block.0)
    }
}

impl<S: Send> Pool<S> {
    /// As [`Pool::over`], for bands. Each task also gets a block of `beside`, if there is one, in which every row of blocks
    /// has one row, and every column of blocks `width` columns (the last one what is left).
    ///
    /// # Panics
    /// If `beside` has another shape, or `out` does not end with a band.
    pub fn over_bands<T: Send, U: Send>(
        &mut self,
        mut out: MatMut<'_, T>,
        bands: Bands,
        beside: Option<(MatMut<'_, U>, usize)>,
        task: impl Fn(&mut S, (usize, usize), Block<'_, T>, Option<Block<'_, U>>) + Sync,
    ) {
        let Bands { rows: band, block: size } = bands;
        let (down, across) = (out.rows / band * bands.down(), out.cols.div_ceil(size.1));
        assert!(out.rows.is_multiple_of(band), "{} rows are no bands of {band}", out.rows);
        let beside = beside.map(|(mut to, width)| {
            assert_eq!((to.rows, to.cols.div_ceil(width)), (down, across), "rows and columns of blocks");
            (Whole::of(&mut to), width, to.cols)
        });
        let cols = out.cols;
        let whole = Whole::of(&mut out);
        self.run(down * across, |scratch, number| {
            let (part, panel) = (number % down, number / down);
            let inside = part % bands.down() * size.0;
            let (row, col) = (part / bands.down() * band + inside, panel * size.1);
            let size = (size.0.min(band - inside), size.1.min(cols - col));
            // SAFETY: the block ends in its band of the matrix, and `col < cols`; each number is another place of a grid.
            let block = unsafe { whole.block((row, col), size) };
            let beside = beside.as_ref().map(|(whole, width, cols)| {
                let size = (1, (*width).min(cols - panel * width));
                // SAFETY: the shape was checked above: `part` is a row, and `panel * width` a column, of the matrix.
                unsafe { whole.block((part, panel * width), size) }
            });
            task(scratch, (row, col), block, beside);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_not_crossed_and_every_block_has_its_place_beside() {
        // Two bands of five rows in blocks of three and two, seven columns in blocks of four and three.
        let mut pool = Pool::new(vec![(); 2]).unwrap();
        let (mut data, mut beside) = (vec![0u32; 10 * 8], vec![0u32; 4 * 14]);
        let bands = Bands { rows: 5, block: (3, 4) };
        let out = (MatMut::new(&mut data, (10, 7), 8), MatMut::new(&mut beside, (4, 13), 14));
        pool.over_bands(out.0, bands, Some((out.1, 8)), |(), (row, col), mut block, beside| {
            let mut beside = beside.unwrap();
            beside.row(0).fill((10 * row + col) as u32 + 1);
            for r in 0..block.rows() {
                block.row(r).fill((10 * row + col) as u32 + 1);
            }
        });
        for (at, value) in data.iter().enumerate() {
            let (row, col) = (at / 8, at % 8);
            let first = [0, 0, 0, 3, 3, 5, 5, 5, 8, 8][row] * 10 + col / 4 * 4 + 1;
            assert_eq!(*value, if col < 7 { first as u32 } else { 0 }, "{row} {col}");
        }
        for (at, value) in beside.iter().enumerate() {
            let (part, col) = (at / 14, at % 14);
            let first = [0, 3, 5, 8][part] * 10 + col / 8 * 4 + 1;
            assert_eq!(*value, if col < 13 { first as u32 } else { 0 }, "{part} {col}");
        }
    }

    #[test]
    #[should_panic(expected = "rows and columns of blocks")]
    fn a_matrix_beside_that_is_too_small_is_refused() {
        let (mut data, mut beside) = (vec![0u8; 20], vec![0u8; 2]);
        let out = (MatMut::new(&mut data, (4, 5), 5), MatMut::new(&mut beside, (1, 2), 2));
        let bands = Bands { rows: 2, block: (2, 5) };
        Pool::new(vec![()]).unwrap().over_bands(out.0, bands, Some((out.1, 2)), |(), _, _, _| ());
    }

    #[test]
    fn blocks_cover_a_ragged_matrix_and_nothing_beside_it() {
        let mut pool = Pool::new(vec![(); 2]).unwrap();
        let mut data = vec![0u32; 7 * 11];
        pool.over(MatMut::new(&mut data, (7, 9), 11), (3, 4), |(), (row, col), mut block| {
            for r in 0..block.rows() {
                for (c, value) in block.row(r).iter_mut().enumerate() {
                    *value += (100 * (row + r) + col + c) as u32 + 1;
                }
            }
        });
        for (at, value) in data.iter().enumerate() {
            let (row, col) = (at / 11, at % 11);
            assert_eq!(*value, if col < 9 { (100 * row + col) as u32 + 1 } else { 0 });
        }
    }

    #[test]
    #[should_panic(expected = "beyond its numbers")]
    fn a_matrix_beyond_its_slice_is_refused() {
        MatMut::new(&mut [0u8; 10], (3, 4), 4);
    }
}
