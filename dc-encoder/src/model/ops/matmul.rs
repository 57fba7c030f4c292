//! Matrix products on slices: the `gemm` crate behind bounds that are checked.
#![allow(unsafe_code)] // gemm takes pointers; every element it can reach is checked to lie in the slices first

use gemm::{Parallelism, gemm};

/// A matrix in a slice, read at any two steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a> Mat<'a> {
    /// `rows * cols` numbers, row after row.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that begin `row_step` numbers apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_step: usize) -> Self {
        Self { data, rows, cols, row_step, col_step: 1 }
    }

    /// How many rows it has.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Rows become columns.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }

    fn check(&self) {
        let last = reach(self.rows, self.row_step) + reach(self.cols, self.col_step);
        assert!(self.rows * self.cols == 0 || last < self.data.len(), "a matrix beyond its numbers");
    }
}

/// A matrix to write to, rows contiguous and `row_step` apart.
#[derive(Debug)]
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    add: bool,
}

impl<'a> MatMut<'a> {
    /// `rows * cols` numbers, row after row.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that begin `row_step` numbers apart.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_step: usize) -> Self {
        Self { data, rows, cols, row_step, add: false }
    }

    /// A product is added to what is there, instead of taking its place.
    pub(crate) fn adding(self) -> Self {
        Self { add: true, ..self }
    }
}

fn reach(count: usize, step: usize) -> usize {
    count.saturating_sub(1) * step
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread: products that run beside each other.
    One,
    /// All of rayon's: one large product.
    All,
}

/// `out = scale * a b`, or `out += scale * a b` if it is [`MatMut::adding`].
///
/// # Panics
/// Shapes that do not meet, or a matrix that reaches beyond its slice.
pub(crate) fn product(out: MatMut<'_>, a: Mat<'_>, b: Mat<'_>, scale: f32, threads: Threads) {
    let (m, n, k) = (out.rows, out.cols, a.cols);
    assert!(a.rows == m && b.cols == n && b.rows == k, "{m}x{n} of {}x{k} and {}x{}", a.rows, b.rows, b.cols);
    a.check();
    b.check();
    assert!(out.row_step >= n && (m * n == 0 || reach(m, out.row_step) + n <= out.data.len()));
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    let step = |step: usize| step as isize; // a slice is never longer than isize::MAX
    // SAFETY: the checks above bound every element that the steps reach, in all three matrices; `out` is borrowed
    // mutably and its rows do not overlap (`row_step >= n`); f32 needs no further alignment.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            step(out.row_step),
            out.add,
            a.data.as_ptr(),
            step(a.col_step),
            step(a.row_step),
            b.data.as_ptr(),
            step(b.col_step),
            step(b.row_step),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_and_turned_matrices() {
        let a: Vec<f32> = (0..12).map(|v| v as f32).collect(); // 3 rows of 4, the first 2 columns used
        let b = [1f32, 2., 3., 4., 5., 6.]; // 2 x 3, or 3 x 2 turned
        let mut out = vec![100f32; 9];
        product(
            MatMut::new(&mut out, 3, 3).adding(),
            Mat::strided(&a, 3, 2, 4),
            Mat::new(&b, 2, 3),
            2.0,
            Threads::One,
        );
        assert_eq!(out, [108., 110., 112., 148., 166., 184., 188., 222., 256.]);
        let mut out = vec![9f32; 7];
        let turned = Mat::new(&b, 3, 2).t();
        product(
            MatMut::strided(&mut out, 2, 2, 5),
            turned,
            Mat::new(&[1., 0., 0., 1., 1., 1.], 3, 2),
            1.0,
            Threads::All,
        );
        assert_eq!(out, [6., 8., 9., 9., 9., 8., 10.]);
    }

    #[test]
    #[should_panic(expected = "beyond its numbers")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let mut out = [0f32; 4];
        let short = [0f32; 3];
        product(
            MatMut::new(&mut out, 2, 2),
            Mat::new(&short, 2, 2),
            Mat::new(&[0.; 4], 2, 2),
            1.0,
            Threads::One,
        );
    }
}
