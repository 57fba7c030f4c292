//! Landmarks: which tokens a landmark is the mean of.
//!
//! ```text
//! rows     tokens 0 0 0 1 1 1 1 2 2 2 …          runs of the sequence, as it is
//! blocks   0 0 1 1 2 2      a token's block is given by its patch's place in the grid;
//!          0 0 1 1 2 2      neighbours above and below are as near as left and right
//!          3 3 4 4 5 5
//! ```

use candle_core::{DType, Device, Result, Tensor};

/// Start and end of part `i` when `n` things are split into `parts` runs: `floor(i*n/parts)..floor((i+1)*n/parts)`.
pub fn bounds(n: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    i * n / parts..(i + 1) * n / parts
}

/// For each of `n` things, the number of the run it is in.
fn run_of_each(n: usize, parts: usize) -> Vec<usize> {
    (0..parts).flat_map(|part| bounds(n, parts, part).map(move |_| part)).collect()
}

/// The two-dimensional blocks that a patch grid is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockGrid {
    grid: (usize, usize),
    /// Blocks from top to bottom and from left to right.
    pub blocks: (usize, usize),
}

impl BlockGrid {
    /// Cuts a grid of `(rows, cols)` patches into at most `landmarks` blocks, as small and as square as they get:
    /// least `height² + width²` of the average block, fewer rows on a tie.
    pub fn new(grid: (usize, usize), landmarks: usize) -> Self {
        let spread = |(rows, cols): (usize, usize)| {
            let (height, width) = (grid.0 as f64 / rows as f64, grid.1 as f64 / cols as f64);
            height * height + width * width
        };
        let candidates = (1..=grid.0.min(landmarks)).map(|rows| (rows, grid.1.min(landmarks / rows)));
        let blocks = candidates.min_by(|a, b| spread(*a).total_cmp(&spread(*b))).unwrap_or((1, 1));
        Self { grid, blocks }
    }

    /// The number of the block that each patch of the grid is in, in reading order.
    fn block_of_each_patch(&self) -> Vec<usize> {
        let rows = run_of_each(self.grid.0, self.blocks.0);
        let cols = run_of_each(self.grid.1, self.blocks.1);
        rows.iter().flat_map(|row| cols.iter().map(move |col| row * self.blocks.1 + col)).collect()
    }
}

/// A grouping of the tokens of a sequence; a landmark is the mean of one group.
#[derive(Debug, Clone)]
pub struct Landmarks {
    /// The group of each token, `[tokens]`.
    group: Tensor,
    /// One over the size of each group, `[landmarks, 1]`, f64.
    share: Tensor,
    count: usize,
}

impl Landmarks {
    /// Runs of consecutive tokens.
    ///
    /// # Panics
    /// With more landmarks than tokens: a run would be empty.
    pub fn rows(tokens: usize, landmarks: usize, device: &Device) -> Result<Self> {
        assert!(landmarks <= tokens, "{landmarks} landmarks of {tokens} tokens");
        Self::from_groups(&run_of_each(tokens, landmarks), device)
    }

    /// Two-dimensional blocks: `patches` is the place in the grid of each token, in the order of the sequence. With
    /// a class token in front, that token is a landmark of its own, and there is one block less to share.
    pub fn blocks(
        grid: (usize, usize),
        landmarks: usize,
        patches: &[u32],
        class_token: bool,
        device: &Device,
    ) -> Result<Self> {
        let first = usize::from(class_token);
        let block = BlockGrid::new(grid, landmarks - first).block_of_each_patch();
        let groups: Vec<usize> =
            (0..first).chain(patches.iter().map(|patch| first + block[*patch as usize])).collect();
        Self::from_groups(&groups, device)
    }

    /// A grouping by any numbers; groups without a token are dropped.
    fn from_groups(groups: &[usize], device: &Device) -> Result<Self> {
        let mut sizes = vec![0usize; groups.iter().max().map_or(0, |largest| largest + 1)];
        for group in groups {
            sizes[*group] += 1;
        }
        let mut number = vec![0u32; sizes.len()];
        let mut count = 0;
        for (number, _) in number.iter_mut().zip(&sizes).filter(|(_, size)| **size > 0) {
            *number = count as u32;
            count += 1;
        }
        let group: Vec<u32> = groups.iter().map(|group| number[*group]).collect();
        let share: Vec<f64> = sizes.iter().filter(|size| **size > 0).map(|size| 1.0 / *size as f64).collect();
        Ok(Self {
            group: Tensor::from_vec(group, groups.len(), device)?,
            share: Tensor::from_vec(share, (count, 1), device)?,
            count,
        })
    }

    /// How many landmarks there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of the landmark that each token is part of.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn groups(&self) -> Result<Vec<u32>> {
        self.group.to_vec1()
    }

    /// `[batch, heads, tokens, dim_head]` to the means `[batch, heads, landmarks, dim_head]`.
    pub fn means(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, heads, _, width) = x.dims4()?;
        let zeros = Tensor::zeros((batch, heads, self.count, width), x.dtype(), x.device())?;
        let sums = zeros.index_add(&self.group, &x.contiguous()?, 2)?;
        sums.broadcast_mul(&self.share.to_dtype(x.dtype())?)
    }

    /// The averaging matrix, `[landmarks, tokens]`: [`Landmarks::means`] is this times the tokens.
    pub fn matrix(&self, dtype: DType) -> Result<Tensor> {
        let group = self.group.to_vec1::<u32>()?;
        let share = self.share.flatten_all()?.to_vec1::<f64>()?;
        let mut matrix = vec![0f64; self.count * group.len()];
        for (token, group_of) in group.iter().enumerate() {
            matrix[*group_of as usize * group.len() + token] = share[*group_of as usize];
        }
        Tensor::from_vec(matrix, (self.count, group.len()), self.group.device())?.to_dtype(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(landmarks: &Landmarks) -> Vec<u32> {
        landmarks.group.to_vec1().unwrap()
    }

    #[test]
    fn runs_differ_by_at_most_one_token() {
        assert_eq!(groups(&Landmarks::rows(7, 3, &Device::Cpu).unwrap()), [0, 0, 1, 1, 2, 2, 2]);
        for (n, parts) in [(480, 64), (63, 20), (240, 240), (8040, 256)] {
            let sizes: Vec<_> = (0..parts).map(|part| bounds(n, parts, part).len()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), n);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{n} {parts}");
        }
    }

    #[test]
    fn blocks_are_as_square_as_they_get_and_never_too_many() {
        assert_eq!(BlockGrid::new((45, 80), 256).blocks, (12, 21));
        assert_eq!(BlockGrid::new((12, 20), 256).blocks, (12, 20));
        assert_eq!(BlockGrid::new((4, 4), 4).blocks, (2, 2));
        for landmarks in 1..40 {
            let (rows, cols) = BlockGrid::new((9, 7), landmarks).blocks;
            assert!(rows * cols <= landmarks && rows <= 9 && cols <= 7);
        }
    }

    #[test]
    fn blocks_without_a_visible_token_are_dropped() {
        let all: Vec<u32> = (0..16).collect();
        let whole = Landmarks::blocks((4, 4), 4, &all, false, &Device::Cpu).unwrap();
        assert_eq!(groups(&whole), [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]);
        // Patches of the lower right and the upper left block only, lower first.
        let some = Landmarks::blocks((4, 4), 4, &[15, 0, 10, 1], false, &Device::Cpu).unwrap();
        assert_eq!((some.count(), groups(&some)), (2, vec![1, 0, 1, 0]));
        let classed = Landmarks::blocks((4, 4), 5, &[15, 0], true, &Device::Cpu).unwrap();
        assert_eq!((classed.count(), groups(&classed)), (3, vec![0, 2, 1]));
    }

    #[test]
    fn the_matrix_gives_the_means() {
        let landmarks = Landmarks::rows(7, 3, &Device::Cpu).unwrap();
        let x = Tensor::arange(0f32, 14.0, &Device::Cpu).unwrap().reshape((1, 1, 7, 2)).unwrap();
        let means = landmarks.means(&x).unwrap().squeeze(0).unwrap().squeeze(0).unwrap();
        assert_eq!(means.to_vec2::<f32>().unwrap(), [[1., 2.], [5., 6.], [10., 11.]]);
        let by_matrix = landmarks.matrix(DType::F32).unwrap().matmul(&x.reshape((7, 2)).unwrap()).unwrap();
        let error =
            (means - by_matrix).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-5);
    }
}
