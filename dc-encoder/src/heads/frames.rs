//! The latent grids of an embeddings file, as heads that read them learn from them.

use shared::head::Grid;

use super::error::TrainError;
use crate::embed::EmbeddingsFile;

/// The latent grids, and which of them may be looked at.
#[derive(Debug)]
pub(super) struct GridFrames<'a> {
    file: &'a EmbeddingsFile,
    pub(super) grid: Grid,
    /// Frames that may be looked at without their labels.
    pub(super) unlabelled: Vec<usize>,
    /// Frame of each labelled row.
    pub(super) labelled: Vec<usize>,
}

/// The grid of a file's latent tokens.
pub(super) fn grid(file: &EmbeddingsFile) -> Option<Grid> {
    let cells = file.cells;
    file.grid.filter(|_| file.tokens.is_some()).map(|g| Grid {
        rows: g.rows,
        cols: g.cols,
        dim: g.dim,
        cells,
    })
}

impl<'a> GridFrames<'a> {
    /// Checks that the frames are numbers; none when the file holds no latent tokens.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] naming the frame.
    pub(super) fn new(
        file: &'a EmbeddingsFile,
        unlabelled: Vec<usize>,
        labelled: Vec<usize>,
    ) -> Result<Option<Self>, TrainError> {
        let Some(grid) = grid(file) else { return Ok(None) };
        let frames = Self { file, grid, unlabelled, labelled };
        let all = frames.unlabelled.iter().chain(&frames.labelled);
        match all.copied().find(|frame| !frames.tokens(*frame).iter().all(|x| x.is_finite())) {
            Some(frame) => Err(TrainError::NotFinite { file: file.ids[frame].clone() }),
            None => Ok(Some(frames)),
        }
    }

    /// One frame's latent tokens, `[tokens, dim]`.
    pub(super) fn tokens(&self, frame: usize) -> &'a [f32] {
        self.file.token_row(frame).expect("`new` found a grid and tokens")
    }

    /// One frame's maps, `[maps, rows, cols]`.
    pub(super) fn maps(&self, frame: usize) -> Vec<f32> {
        self.grid.unfold(self.tokens(frame))
    }

    /// The latent tokens of the labelled rows.
    pub(super) fn labelled_tokens(&self) -> Vec<&'a [f32]> {
        self.labelled.iter().map(|frame| self.tokens(*frame)).collect()
    }

    /// The latent tokens of all frames in the file, `[frames, tokens, dim]`.
    pub(super) fn all_tokens(&self) -> &'a [f32] {
        self.file.tokens.as_deref().expect("`new` found tokens")
    }
}
