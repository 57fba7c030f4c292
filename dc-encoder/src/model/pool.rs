//! From the encoder's tokens to the numbers a head reads: `pooling` in the configuration, version 1.
//!
//! ```text
//! hidden [patches, dim] ─┬─ embed ─────────────────────────► latent tokens [patches, latent_dim]
//!                        └─ mean over each region ─► embed ─► embedding [regions * latent_dim]
//! ```
//! A linear layer and a mean commute, so the embedding is exactly the regions' mean of the latent tokens; taking
//! the mean first costs `regions` products instead of one a patch. `mean` is the case of one region.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module as _, VarBuilder};

use super::attention::bounds;
use super::config::Config;
use super::layers::linear;

/// The last layer of the encoder.
#[derive(Debug, Clone)]
pub struct Pool {
    embed: Linear,
    /// `[regions, patches]`: each row averages one region.
    regions: Tensor,
}

impl Pool {
    /// Reads `embed`.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let regions = region_means(config.grid(), config.pooling.regions());
        let shape = (regions.len() / config.patches(), config.patches());
        let regions = Tensor::from_vec(regions, shape, vb.device())?.to_dtype(vb.dtype())?;
        Ok(Self { embed: linear(config.dim, config.latent_dim(), true, vb.pp("embed"))?, regions })
    }

    /// The embedding `[batch, embed_dim]` of hidden tokens `[batch, patches, dim]`, regions in reading order.
    pub fn embedding(&self, hidden: &Tensor) -> Result<Tensor> {
        self.embed.forward(&self.regions.broadcast_matmul(hidden)?)?.flatten_from(1)
    }

    /// The latent tokens `[batch, patches, latent_dim]` of hidden tokens `[batch, patches, dim]`.
    pub fn tokens(&self, hidden: &Tensor) -> Result<Tensor> {
        self.embed.forward(&hidden.contiguous()?)
    }
}

/// The matrix `[regions, patches]` whose rows average the patches of each region. A grid that does not divide is
/// split at `floor(i*n/parts)`, so regions differ by at most one row and column of patches.
fn region_means(grid: (usize, usize), regions: (usize, usize)) -> Vec<f32> {
    let patches = grid.0 * grid.1;
    let mut matrix = vec![0f32; regions.0 * regions.1 * patches];
    for (region, row) in matrix.chunks_exact_mut(patches).enumerate() {
        let rows = bounds(grid.0, regions.0, region / regions.1);
        let cols = bounds(grid.1, regions.1, region % regions.1);
        let share = 1.0 / (rows.len() * cols.len()) as f32;
        for y in rows {
            row[y * grid.1 + cols.start..y * grid.1 + cols.end].fill(share);
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_cover_every_patch_once() {
        let matrix = region_means((12, 20), (4, 8));
        assert_eq!(matrix.len(), 32 * 240);
        for patch in 0..240 {
            assert_eq!((0..32).filter(|region| matrix[region * 240 + patch] > 0.0).count(), 1);
        }
        for row in matrix.chunks_exact(240) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        // The second region: rows 0..3, columns 20/8 = 2 up to 40/8 = 5.
        assert!(matrix[240 + 2] > 0.0 && matrix[240 + 4] > 0.0 && matrix[240 + 44] > 0.0);
        assert!(matrix[240 + 1] == 0.0 && matrix[240 + 5] == 0.0 && matrix[240 + 60] == 0.0);
    }
}
