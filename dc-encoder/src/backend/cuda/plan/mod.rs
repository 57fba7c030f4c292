//! What a device is asked to do, as data: memory, kernels, products, and their order. Nothing here needs a device.
//!
//! ```text
//! Builder ─► memory (what it holds at first) ─┐
//!         ─► kernels (source, constants)      ├─► Plan ─► driver: a device  |  emulated: a processor, in tests
//!         ─► steps (launches and products)    ┘
//! ```
//! Shapes are written into the kernels; what depends on the number of frames is how many blocks a launch has and how many
//! rows a product.

use half::bf16;

mod kernels;
mod product;

pub(super) use kernels::{Constant, Program};
pub(super) use product::{Count, Gemm, Layout, Product, Side};

/// The number format of a matrix on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Element {
    F32,
    Bf16,
}

impl Element {
    /// Bytes of one number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Its type in a kernel.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::Bf16 => "bf16",
        }
    }

    /// Rows that a centre is split over, so that it keeps its digits (as on the processor, see `backend/cpu/linear`).
    pub(super) fn split(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }

    /// Numbers as they lie in memory.
    pub(super) fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => bytemuck::cast_slice(numbers).to_vec(),
            Self::Bf16 => {
                numbers.iter().flat_map(|value| bf16::from_f32(*value).to_bits().to_ne_bytes()).collect()
            }
        }
    }
}

/// Memory of a plan, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory(pub(super) usize);

/// One piece of memory.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) label: &'static str,
    pub(super) bytes: usize,
    /// What it holds at first; zeros where nothing is given.
    pub(super) contents: Vec<u8>,
}

/// A matrix in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    pub(super) memory: Memory,
    pub(super) element: Element,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Numbers from one row to the next: whole vectors of sixteen bytes in either format.
    pub(super) stride: usize,
}

impl Matrix {
    /// Bytes of `rows` rows.
    pub(super) fn bytes(&self, rows: usize) -> usize {
        rows * self.stride * self.element.bytes()
    }

    /// Rows `[rows, cols]` as they lie in it, zeros up to whole vectors.
    pub(super) fn encode(&self, numbers: &[f32]) -> Vec<u8> {
        let mut padded = vec![0f32; numbers.len() / self.cols * self.stride];
        for (to, from) in padded.chunks_exact_mut(self.stride).zip(numbers.chunks_exact(self.cols)) {
            to[..self.cols].copy_from_slice(from);
        }
        self.element.encode(&padded)
    }

    /// Its numbers as one side of a product.
    pub(super) fn side(&self) -> Side {
        Side { memory: self.memory, element: self.element, stride: self.stride, batch: 0 }
    }
}

/// Numbers from one row to the next.
pub(super) fn stride(cols: usize) -> usize {
    cols.next_multiple_of(8)
}

/// The blocks of a launch: `[across, down, frames * each]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) each: usize,
}

impl Grid {
    /// For a number of frames.
    pub(super) fn blocks(self, frames: usize) -> [u32; 3] {
        [self.across, self.down, frames * self.each].map(|count| count as u32)
    }
}

/// A kernel with what it reads and writes.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    /// Its number in the program.
    pub(super) kernel: usize,
    pub(super) arguments: Vec<Memory>,
    pub(super) grid: Grid,
    /// Threads of a block.
    pub(super) threads: usize,
}

/// One thing that the device does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Launch(Launch),
    Product(Product),
}

/// What a launch is made from.
pub(super) struct Recipe<'a> {
    pub(super) label: &'static str,
    /// Source of the kernel, part after part.
    pub(super) parts: &'a [&'a str],
    pub(super) constants: &'a [(&'a str, Constant)],
    pub(super) arguments: &'a [Memory],
    pub(super) grid: Grid,
    pub(super) threads: usize,
}

/// Memory and kernels.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) memory: Vec<Piece>,
    pub(super) program: Program,
}

/// Makes a plan for batches of at most `batch` frames whose operands are of one format.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) plan: Plan,
    pub(super) element: Element,
    pub(super) batch: usize,
}

impl Builder {
    pub(super) fn new(element: Element, batch: usize) -> Self {
        Self { plan: Plan::default(), element, batch }
    }

    /// So many bytes, all zero.
    pub(super) fn memory(&mut self, label: &'static str, bytes: usize) -> Memory {
        let bytes = bytes.next_multiple_of(16).max(16);
        self.plan.memory.push(Piece { label, bytes, contents: Vec::new() });
        Memory(self.plan.memory.len() - 1)
    }

    /// Memory that holds these bytes.
    pub(super) fn filled(&mut self, label: &'static str, contents: Vec<u8>) -> Memory {
        let memory = self.memory(label, contents.len());
        self.plan.memory[memory.0].contents = contents;
        memory
    }

    /// Memory that holds these numbers as f32, zeros up to whole vectors.
    pub(super) fn numbers(&mut self, label: &'static str, numbers: &[f32]) -> Memory {
        let mut padded = numbers.to_vec();
        padded.resize(stride(numbers.len()), 0.0);
        self.filled(label, Element::F32.encode(&padded))
    }

    /// Memory that holds these numbers.
    pub(super) fn indices(&mut self, label: &'static str, numbers: &[u32]) -> Memory {
        self.filled(label, bytemuck::cast_slice(numbers).to_vec())
    }

    /// `per_frame` rows of `cols` numbers for each frame of a batch, in one format.
    pub(super) fn rows(
        &mut self,
        label: &'static str,
        element: Element,
        (per_frame, cols): (usize, usize),
    ) -> Matrix {
        let (rows, stride) = (self.batch * per_frame, stride(cols));
        let memory = self.memory(label, rows * stride * element.bytes());
        Matrix { memory, element, rows, cols, stride }
    }

    /// A matrix that holds these numbers, `[numbers / cols, cols]`.
    pub(super) fn matrix(
        &mut self,
        label: &'static str,
        element: Element,
        (numbers, cols): (&[f32], usize),
    ) -> Matrix {
        let (rows, stride) = (numbers.len() / cols, stride(cols));
        let memory = self.memory(label, rows * stride * element.bytes());
        let matrix = Matrix { memory, element, rows, cols, stride };
        self.plan.memory[memory.0].contents = matrix.encode(numbers);
        matrix
    }

    /// A launch; a kernel that is there already is taken again.
    pub(super) fn launch(&mut self, recipe: &Recipe<'_>) -> Step {
        let Recipe { label, parts, constants, arguments, grid, threads } = *recipe;
        let kernel = self.plan.program.kernel(label, parts, constants);
        Step::Launch(Launch { kernel, arguments: arguments.to_vec(), grid, threads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_grows_with_the_frames() {
        let grid = Grid { across: 3, down: 5, each: 2 };
        assert_eq!(grid.blocks(1), [3, 5, 2]);
        assert_eq!(grid.blocks(7), [3, 5, 14]);
    }

    #[test]
    fn rows_begin_at_whole_vectors_and_hold_what_was_given() {
        let mut builder = Builder::new(Element::Bf16, 2);
        let matrix = builder.matrix("m", Element::Bf16, (&[1.0, 2.0, 3.0, -1.0, 0.5, 0.25], 3));
        assert_eq!((matrix.rows, matrix.stride, matrix.bytes(2)), (2, 8, 32));
        let words: Vec<u16> = builder.plan.memory[matrix.memory.0]
            .contents
            .chunks_exact(2)
            .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]))
            .collect();
        assert_eq!(words[..4], [0x3f80, 0x4000, 0x4040, 0]);
        assert_eq!(words[8..12], [0xbf80, 0x3f00, 0x3e80, 0]);
        let rows = builder.rows("r", Element::F32, (5, 9));
        assert_eq!((rows.rows, rows.stride, builder.plan.memory[rows.memory.0].bytes), (10, 16, 640));
    }
}
