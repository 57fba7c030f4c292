//! What a head reads: an embedding, or the latent grid.

use serde::{Deserialize, Serialize};

/// What a head reads: an embedding of one space, or its latent-token grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The embedding space, 64 hex digits.
    pub space: String,
    /// Numbers in the embedding.
    pub dim: u32,
    /// The latent-token grid, for heads that read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
}

/// Shape of a latent-token grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Rows of patches, from the top of the picture.
    pub rows: u32,
    /// Patches in a row.
    pub cols: u32,
    /// Numbers in a latent token.
    pub dim: u32,
    /// Cells along one side of a latent token: its numbers are `dim / cells²` maps of `cells × cells` places
    /// inside the patch, in the order (map, row, column), so that the grid is as many maps of
    /// `[rows·cells, cols·cells]`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub cells: u32,
}

fn one() -> u32 {
    1
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(cells: &u32) -> bool {
    *cells == 1
}

impl Grid {
    /// Number of tokens, `rows × cols`.
    pub fn tokens(&self) -> usize {
        self.rows as usize * self.cols as usize
    }
}
