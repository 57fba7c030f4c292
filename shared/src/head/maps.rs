//! Maps: the latent-token grid read as pictures, one for each kind of number, and the same at coarser scales.
//!
//! ```text
//! latent tokens [tokens, dim] ─► Grid::unfold ─► maps [maps, rows, cols] ─► pyramid: the maps, and means of 2×2, 4×4 …
//! ```

use super::manifest::Grid;

/// Shape of the maps at one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapShape {
    /// Maps, one for each kind of number.
    pub maps: usize,
    /// Rows, from the top of the picture.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl MapShape {
    /// Numbers in the maps.
    pub fn numbers(&self) -> usize {
        self.maps * self.rows * self.cols
    }

    /// These maps at half the scale; a last odd row or column is left out. None when a side has only one place.
    fn half(&self) -> Option<Self> {
        let (rows, cols) = (self.rows / 2, self.cols / 2);
        (rows > 0 && cols > 0).then_some(Self { rows, cols, ..*self })
    }
}

impl Grid {
    /// The maps' shape, `dim / cells²` maps of `[rows·cells, cols·cells]`.
    pub fn map_shape(&self) -> MapShape {
        let [rows, cols, dim, cells] = [self.rows, self.cols, self.dim, self.cells].map(|n| n as usize);
        MapShape { maps: dim / (cells * cells), rows: rows * cells, cols: cols * cells }
    }

    /// Latent tokens `[tokens, dim]` as maps `[maps, rows·cells, cols·cells]`. Panics on another length.
    pub fn unfold(&self, tokens: &[f32]) -> Vec<f32> {
        let MapShape { maps, rows, cols } = self.map_shape();
        let (dim, cells) = (self.dim as usize, self.cells as usize);
        let mut unfolded = Vec::with_capacity(tokens.len());
        for map in 0..maps {
            for row in 0..rows {
                for token in 0..self.cols as usize {
                    let start = (row / cells * self.cols as usize + token) * dim;
                    let start = start + (map * cells + row % cells) * cells;
                    unfolded.extend_from_slice(&tokens[start..start + cells]);
                }
            }
        }
        debug_assert_eq!(unfolded.len(), maps * rows * cols);
        unfolded
    }
}

/// Shapes of up to `levels` scales, the first being `shape`; fewer when the maps become too small.
pub fn scales(shape: MapShape, levels: usize) -> Vec<MapShape> {
    std::iter::successors(Some(shape), MapShape::half).take(levels).collect()
}

/// The maps and their coarser scales one after another, each number of a scale the mean of 2 × 2 of the one before.
pub fn pyramid(maps: Vec<f32>, scales: &[MapShape]) -> Vec<f32> {
    let mut numbers = maps;
    let mut start = 0;
    for pair in scales.windows(2) {
        let (fine, coarse) = (pair[0], pair[1]);
        for map in 0..coarse.maps {
            for row in 0..coarse.rows {
                for col in 0..coarse.cols {
                    let at = start + (map * fine.rows + 2 * row) * fine.cols + 2 * col;
                    let below = at + fine.cols;
                    let sum = (numbers[at] + numbers[at + 1]) + (numbers[below] + numbers[below + 1]);
                    numbers.push(0.25 * sum);
                }
            }
        }
        start += fine.numbers();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_unfolds_to_maps_and_their_coarser_scales() {
        // Two tokens side by side, two maps of 2 × 2 cells: the number says map, row, column.
        let grid = Grid { rows: 1, cols: 2, dim: 8, cells: 2 };
        let number = |map: usize, row: usize, col: usize| (100 * map + 10 * row + col) as f32;
        let mut tokens = Vec::new();
        for token in 0..2 {
            for map in 0..2 {
                for (row, col) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    tokens.push(number(map, row, 2 * token + col));
                }
            }
        }
        let maps = grid.unfold(&tokens);
        let want: Vec<f32> = (0..16).map(|at| number(at / 8, at % 8 / 4, at % 4)).collect();
        assert_eq!(maps, want);

        let scales = scales(grid.map_shape(), 5);
        let shapes: Vec<_> = scales.iter().map(|s| (s.maps, s.rows, s.cols)).collect();
        assert_eq!(shapes, [(2, 2, 4), (2, 1, 2)]);
        let numbers = pyramid(maps, &scales);
        assert_eq!(numbers[16..], [5.5, 7.5, 105.5, 107.5]);
    }

    #[test]
    fn without_cells_a_map_is_one_number_of_every_token() {
        let grid = Grid { rows: 2, cols: 1, dim: 3, cells: 1 };
        assert_eq!(grid.unfold(&[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]), [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }
}
