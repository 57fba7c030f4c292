//! From hidden tokens to latent tokens and the embedding (see [`crate::model::Pool`], which this follows).

use super::Scratch;
use super::linear::{Operand, Target};
use super::network::Network;
use super::simd::finish::finish_storing;
use super::simd::rows::add_scaled;
use super::simd::{Format, MatMut, Pool, floats_mut};
use crate::backend::Encoded;
use crate::model::attention::bounds;
use crate::model::cells::{CHANNELS, REGION_NUMBERS};
use crate::model::config::Pooling;

/// Added to a region's variance before the square root, as in the model.
const VARIANCE_EPS: f32 = 1e-6;

/// Memory of the readout of one frame.
#[derive(Debug)]
pub(super) struct Readout {
    /// Hidden tokens, or their means over regions.
    rows: Operand,
}

impl Readout {
    pub(super) fn new(network: &Network) -> Self {
        let config = &network.config;
        let (rows, cols) = config.pooling.regions();
        Self { rows: Operand::new(Format::F32, config.patches().max(rows * cols), config.dim) }
    }

    /// `hidden` is `[patches, dim]`, after the last norm.
    pub(super) fn run(
        &mut self,
        pool: &mut Pool<Scratch>,
        network: &Network,
        hidden: &[f32],
        tokens: bool,
    ) -> Encoded {
        let config = &network.config;
        let cells = matches!(config.pooling, Pooling::Cells { .. });
        let latent = (tokens || cells).then(|| self.latent(pool, network, hidden));
        let embedding = match (&config.pooling, &latent) {
            (Pooling::Cells { cells, .. }, Some(latent)) => {
                of_cells(latent, (config.grid(), *cells), config.pooling.regions())
            }
            _ => {
                let regions = self.means(pool, network, hidden);
                self.embed(pool, network, regions)
            }
        };
        Encoded { embedding, tokens: latent.filter(|_| tokens) }
    }

    /// Latent tokens of hidden ones `[n, dim]`, of a whole frame or of some patches.
    pub(super) fn latent(&mut self, pool: &mut Pool<Scratch>, network: &Network, hidden: &[f32]) -> Vec<f32> {
        let dim = network.config.dim;
        self.copy(pool, hidden, dim);
        self.embed(pool, network, hidden.len() / dim)
    }

    fn copy(&mut self, pool: &mut Pool<Scratch>, hidden: &[f32], dim: usize) {
        let rows = hidden.len() / dim;
        pool.over(self.rows.numbers_mut(0, rows), (rows, dim), |_, _, mut block| {
            for (row, from) in hidden.chunks_exact(dim).enumerate() {
                floats_mut(block.row(row)).copy_from_slice(from);
            }
        });
    }

    /// The mean of each region, a row each; how many there are.
    fn means(&mut self, pool: &mut Pool<Scratch>, network: &Network, hidden: &[f32]) -> usize {
        let (grid, regions) = (network.config.grid(), network.config.pooling.regions());
        let (dim, isa, count) = (network.config.dim, network.isa, regions.0 * regions.1);
        let half = dim.div_ceil(2);
        pool.over(self.rows.numbers_mut(0, count), (1, half), |_, (region, col), mut block| {
            let rows = bounds(grid.0, regions.0, region / regions.1);
            let cols = bounds(grid.1, regions.1, region % regions.1);
            let share = 1.0 / (rows.len() * cols.len()) as f32;
            let to = floats_mut(block.row(0));
            to.fill(0.0);
            for patch in rows.flat_map(|row| cols.clone().map(move |col| row * grid.1 + col)) {
                add_scaled(isa, &hidden[patch * dim + col..][..to.len()], share, to);
            }
        });
        count
    }

    /// The first `rows` rows through the last layer.
    fn embed(&self, pool: &mut Pool<Scratch>, network: &Network, rows: usize) -> Vec<f32> {
        let layer = &network.embed;
        let mut out = vec![0f32; rows * layer.out()];
        let to =
            Target { out: MatMut::new(&mut out, (rows, layer.out()), layer.out()), per: 1, common: None };
        layer.run(pool, self.rows.left(rows), to, |sums, finish, _, block| {
            finish_storing(network.isa, sums, finish, None, block);
        });
        out
    }
}

/// Means and texture of each region of the maps that latent tokens are.
pub(in crate::backend) fn of_cells(
    tokens: &[f32],
    (grid, cells): ((usize, usize), usize),
    regions: (usize, usize),
) -> Vec<f32> {
    let width = CHANNELS * cells * cells;
    let value = |channel: usize, y: usize, x: usize| {
        let token = y / cells * grid.1 + x / cells;
        tokens[token * width + (channel * cells + y % cells) * cells + x % cells]
    };
    let mut embedding = Vec::with_capacity(regions.0 * regions.1 * REGION_NUMBERS);
    for region in 0..regions.0 * regions.1 {
        let rows = bounds(grid.0 * cells, regions.0, region / regions.1);
        let cols = bounds(grid.1 * cells, regions.1, region % regions.1);
        let share = 1.0 / (rows.len() * cols.len()) as f32;
        let mean = |of: &dyn Fn(usize, usize) -> f32| {
            rows.clone().map(|y| cols.clone().map(|x| of(y, x)).sum::<f32>()).sum::<f32>() * share
        };
        let means: [f32; CHANNELS] = std::array::from_fn(|channel| mean(&|y, x| value(channel, y, x)));
        let square = mean(&|y, x| value(0, y, x) * value(0, y, x));
        let variance = (square - means[0] * means[0]).max(0.0);
        embedding.extend(means);
        embedding.push((variance + VARIANCE_EPS).sqrt());
    }
    embedding
}
