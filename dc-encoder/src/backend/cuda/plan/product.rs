//! Matrix products, row by row as everything here, and column by column as cuBLASLt takes them.

use super::{Element, Memory};

/// One side of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Side {
    pub(in crate::backend::cuda) memory: Memory,
    pub(in crate::backend::cuda) element: Element,
    /// Numbers from one row to the next.
    pub(in crate::backend::cuda) stride: usize,
    /// Numbers from one matrix to the next, where there are several.
    pub(in crate::backend::cuda) batch: usize,
}

/// How a product grows with the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Count {
    /// One product over the rows of all frames.
    Rows,
    /// So many products a frame.
    Each(usize),
}

/// `out [rows, cols] = alpha · left [rows, inner] · right + beta · add [rows, cols] + bias [cols]`; sums in f32.
#[derive(Debug, Clone)]
pub(in crate::backend::cuda) struct Product {
    pub(in crate::backend::cuda) left: Side,
    /// `[inner, cols]`, or `[cols, inner]` where it is a layer's weights.
    pub(in crate::backend::cuda) right: Side,
    pub(in crate::backend::cuda) weights: bool,
    pub(in crate::backend::cuda) add: Side,
    pub(in crate::backend::cuda) out: Side,
    /// Of one frame, or of one product.
    pub(in crate::backend::cuda) rows: usize,
    pub(in crate::backend::cuda) inner: usize,
    pub(in crate::backend::cuda) cols: usize,
    pub(in crate::backend::cuda) count: Count,
    pub(in crate::backend::cuda) alpha: f32,
    pub(in crate::backend::cuda) beta: f32,
    pub(in crate::backend::cuda) bias: Option<Memory>,
}

/// A matrix as cuBLASLt sees it: column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Layout {
    pub(in crate::backend::cuda) memory: Memory,
    pub(in crate::backend::cuda) element: Element,
    pub(in crate::backend::cuda) rows: usize,
    pub(in crate::backend::cuda) cols: usize,
    /// Numbers from one column to the next.
    pub(in crate::backend::cuda) leading: usize,
    /// Numbers from one matrix to the next.
    pub(in crate::backend::cuda) batch: usize,
}

/// `d [m, n] = alpha · op(a) [m, k] · b [k, n] + beta · c [m, n]`, and a bias of one number a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::backend::cuda) struct Gemm {
    pub(in crate::backend::cuda) m: usize,
    pub(in crate::backend::cuda) n: usize,
    pub(in crate::backend::cuda) k: usize,
    /// Products of a batch.
    pub(in crate::backend::cuda) count: usize,
    /// Whether `a` is taken transposed.
    pub(in crate::backend::cuda) transposed: bool,
    pub(in crate::backend::cuda) a: Layout,
    pub(in crate::backend::cuda) b: Layout,
    pub(in crate::backend::cuda) c: Layout,
    pub(in crate::backend::cuda) d: Layout,
    pub(in crate::backend::cuda) alpha: f32,
    pub(in crate::backend::cuda) beta: f32,
    pub(in crate::backend::cuda) bias: Option<Memory>,
}

impl Side {
    fn layout(self, rows: usize, cols: usize) -> Layout {
        let Self { memory, element, stride, batch } = self;
        Layout { memory, element, rows, cols, leading: stride, batch }
    }
}

impl Product {
    /// For a number of frames. What lies row by row is, column by column, its transpose: so the sides change places.
    pub(in crate::backend::cuda) fn gemm(&self, frames: usize) -> Gemm {
        let (rows, count) = match self.count {
            Count::Rows => (frames * self.rows, 1),
            Count::Each(each) => (self.rows, frames * each),
        };
        let (m, n, k) = (self.cols, rows, self.inner);
        Gemm {
            m,
            n,
            k,
            count,
            transposed: self.weights,
            a: if self.weights { self.right.layout(k, m) } else { self.right.layout(m, k) },
            b: self.left.layout(k, n),
            c: self.add.layout(m, n),
            d: self.out.layout(m, n),
            alpha: self.alpha,
            beta: self.beta,
            bias: self.bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(memory: usize, stride: usize, batch: usize) -> Side {
        Side { memory: Memory(memory), element: Element::F32, stride, batch }
    }

    fn product(count: Count, weights: bool) -> Product {
        Product {
            left: side(0, 16, 100),
            right: side(1, 24, 200),
            weights,
            add: side(2, 32, 300),
            out: side(3, 40, 400),
            rows: 5,
            inner: 11,
            cols: 19,
            count,
            alpha: -1.0,
            beta: 7.0,
            bias: None,
        }
    }

    #[test]
    fn a_layer_is_one_product_over_the_rows_of_all_frames() {
        let gemm = product(Count::Rows, true).gemm(3);
        assert_eq!((gemm.m, gemm.n, gemm.k, gemm.count, gemm.transposed), (19, 15, 11, 1, true));
        assert_eq!(gemm.a, side(1, 24, 200).layout(11, 19));
        assert_eq!(gemm.b, side(0, 16, 100).layout(11, 15));
        assert_eq!(gemm.d, side(3, 40, 400).layout(19, 15));
    }

    #[test]
    fn products_of_heads_are_a_batch() {
        let gemm = product(Count::Each(4), false).gemm(3);
        assert_eq!((gemm.m, gemm.n, gemm.k, gemm.count, gemm.transposed), (19, 5, 11, 12, false));
        assert_eq!(gemm.a, side(1, 24, 200).layout(19, 11));
        assert_eq!(gemm.c, side(2, 32, 300).layout(19, 5));
        assert_eq!((gemm.alpha, gemm.beta), (-1.0, 7.0));
    }
}
