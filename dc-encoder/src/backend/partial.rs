//! Frames of which patches are missing, and what is known of a camera's picture from those before.
//!
//! ```text
//! Partial ─► Backend::encode_partial ─► tokens of its patches ─► Memory: the newest token of every place ─► embedding
//! ```

use std::sync::Arc;

use shared::image::Rgb;
use shared::patches::Choice;

use super::BackendInfo;
use super::cpu::of_cells;
use crate::model::Config;
use crate::model::attention::bounds;
use crate::model::config::Pooling;

/// A frame of which some patches are known.
#[derive(Debug, Clone)]
pub struct Partial {
    /// A picture of the model's input size, of which only the patches that were chosen count.
    pub frame: Arc<Rgb>,
    /// These.
    pub choice: Choice,
}

/// What is to be known of a model that encodes partial frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patches {
    /// Side of a patch in pixels.
    pub side: usize,
    /// How latent tokens become an embedding.
    pub pooling: Pooling,
}

impl Patches {
    /// What the model says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { side: config.patch, pooling: config.pooling.clone() }
    }
}

/// The newest latent token of every place of a camera's picture: `tokens × latent` numbers, once there are some.
#[derive(Debug)]
pub struct Memory {
    grid: (usize, usize),
    dim: usize,
    pooling: Pooling,
    /// `[places, dim]`; empty until the first frame.
    tokens: Vec<f32>,
    /// The frame each token is of.
    seqs: Vec<Option<u64>>,
}

impl Memory {
    /// An empty memory for a backend that encodes partial frames.
    #[must_use]
    pub fn new(info: &BackendInfo) -> Option<Self> {
        let (rows, cols, dim) = info.grid;
        let pooling = info.patches.as_ref()?.pooling.clone();
        Some(Self { grid: (rows, cols), dim, pooling, tokens: Vec::new(), seqs: Vec::new() })
    }

    /// Takes the tokens `[patches, dim]` of frame `seq`, except where a newer frame's are known.
    pub fn remember(&mut self, seq: u64, choice: &Choice, tokens: &[f32]) {
        let places = self.grid.0 * self.grid.1;
        self.tokens.resize(places * self.dim, 0.0);
        self.seqs.resize(places, None);
        for (place, token) in choice.places().iter().zip(tokens.chunks_exact(self.dim)) {
            let place = *place as usize;
            if self.seqs[place].is_none_or(|known| known <= seq) {
                self.seqs[place] = Some(seq);
                self.tokens[place * self.dim..][..self.dim].copy_from_slice(token);
            }
        }
    }

    /// Places of which nothing is known.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.grid.0 * self.grid.1 - self.seqs.iter().flatten().count()
    }

    /// Whether a frame with these patches leaves nothing unknown.
    #[must_use]
    pub fn completes(&self, choice: &Choice) -> bool {
        choice.is_whole() || self.missing() == 0
    }

    /// All tokens, `[places, dim]` in reading order.
    #[must_use]
    pub fn tokens(&self) -> &[f32] {
        &self.tokens
    }

    /// The embedding of the whole picture, pooled as the model pools (see [`crate::model::Pool`]).
    #[must_use]
    pub fn embedding(&self) -> Vec<f32> {
        let regions = self.pooling.regions();
        match self.pooling {
            Pooling::Cells { cells, .. } => of_cells(&self.tokens, (self.grid, cells), regions),
            Pooling::Mean { .. } | Pooling::Regions { .. } => self.means(regions),
        }
    }

    /// The mean of the tokens of each region.
    fn means(&self, regions: (usize, usize)) -> Vec<f32> {
        let mut embedding = Vec::with_capacity(regions.0 * regions.1 * self.dim);
        for region in 0..regions.0 * regions.1 {
            let rows = bounds(self.grid.0, regions.0, region / regions.1);
            let cols = bounds(self.grid.1, regions.1, region % regions.1);
            let share = 1.0 / (rows.len() * cols.len()) as f32;
            let mut mean = vec![0f32; self.dim];
            for place in rows.flat_map(|row| cols.clone().map(move |col| row * self.grid.1 + col)) {
                let token = &self.tokens[place * self.dim..][..self.dim];
                mean.iter_mut().zip(token).for_each(|(mean, value)| *mean += value * share);
            }
            embedding.extend(mean);
        }
        embedding
    }
}
