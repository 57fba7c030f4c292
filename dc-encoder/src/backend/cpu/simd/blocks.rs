//! A matrix that several tasks write at once, each its own block.

use std::marker::PhantomData;

use super::pool::Pool;

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

/// A pointer that tasks on other threads may use.
struct Start<T>(*mut T);
// SAFETY: only disjoint blocks are made of it, one a task (see `over`); `T: Send` crosses threads.
unsafe impl<T: Send> Sync for Start<T> {}

impl<S: Send> Pool<S> {
    /// Cuts `out` into blocks of at most `size` (rows, columns) and calls `task(scratch, (first row, first column),
    /// block)` for each, on all threads. Neighbouring tasks share columns: blocks are taken column after column.
    pub fn over<T: Send>(
        &mut self,
        out: MatMut<'_, T>,
        size: (usize, usize),
        task: impl Fn(&mut S, (usize, usize), Block<'_, T>) + Sync,
    ) {
        let (down, across) = out.grid(size);
        let (rows, cols, stride) = (out.rows, out.cols, out.stride);
        let start = Start(out.data.as_mut_ptr());
        let start = &start;
        self.run(down * across, |scratch, number| {
            let (row, col) = (number % down * size.0, number / down * size.1);
            let block = Block {
                // SAFETY: `row < rows` and `col < cols` lie in the slice that `MatMut::new` checked.
                start: unsafe { start.0.add(row * stride + col) },
                rows: size.0.min(rows - row),
                cols: size.1.min(cols - col),
                stride,
                owner: PhantomData,
            };
            task(scratch, (row, col), block);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
