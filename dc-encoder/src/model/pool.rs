//! From the encoder's tokens to the numbers a head reads: `pooling` in the configuration, version 1.
//!
//! ```text
//! hidden [patches, dim] ─┬─ embed ─► latent tokens [patches, latent_dim]
//!                        │             └─ cells: maps ─► means and deviation of each region ─► embedding
//!                        └─ mean, regions: mean of each region ─► embed ─► embedding [regions * latent_dim]
//! ```
//! A linear layer and a mean commute, so with `mean` (one region) and `regions` the embedding is exactly the regions'
//! mean of the latent tokens; taking the mean first costs `regions` products instead of one a patch. A deviation does
//! not commute: `cells` reads out every token.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Linear, Module as _, VarBuilder};

use super::attention::bounds;
use super::cells;
use super::config::{Config, Pooling};
use super::layers::linear;

/// Added to a region's variance before the square root: flat regions stay at a finite slope in training.
const VARIANCE_EPS: f64 = 1e-6;

/// The last layer of the encoder.
#[derive(Debug, Clone)]
pub struct Pool {
    embed: Linear,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Means {
        /// `[regions, patches]`: each row averages one region.
        regions: Tensor,
    },
    Cells {
        grid: (usize, usize),
        cells: usize,
        /// `[region rows, grid rows * cells]`: each row averages a band of the maps.
        down: Tensor,
        /// `[grid cols * cells, region cols]`: each column averages a band of the maps.
        across: Tensor,
    },
}

impl Pool {
    /// Reads `embed`.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let (grid, regions) = (config.grid(), config.pooling.regions());
        let make = |averages: Averages| averages.tensor(vb.device())?.to_dtype(vb.dtype());
        let kind = match config.pooling {
            Pooling::Mean { .. } | Pooling::Regions { .. } => {
                Kind::Means { regions: make(region_means(grid, regions))? }
            }
            Pooling::Cells { cells, .. } => Kind::Cells {
                grid,
                cells,
                down: make(band_means(grid.0 * cells, regions.0))?,
                across: make(band_means(grid.1 * cells, regions.1))?.t()?.contiguous()?,
            },
        };
        Ok(Self { embed: linear(config.dim, config.latent_dim(), true, vb.pp("embed"))?, kind })
    }

    /// The embedding `[batch, embed_dim]` of hidden tokens `[batch, patches, dim]`, regions in reading order.
    pub fn embedding(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.kind {
            Kind::Means { regions } => {
                self.embed.forward(&regions.broadcast_matmul(hidden)?)?.flatten_from(1)
            }
            Kind::Cells { .. } => self.embedding_of_tokens(&self.tokens(hidden)?),
        }
    }

    /// Both at once: latent tokens and embedding.
    pub fn both(&self, hidden: &Tensor) -> Result<(Tensor, Tensor)> {
        let tokens = self.tokens(hidden)?;
        let embedding = match self.kind {
            Kind::Means { .. } => self.embedding(hidden)?,
            Kind::Cells { .. } => self.embedding_of_tokens(&tokens)?,
        };
        Ok((tokens, embedding))
    }

    /// The latent tokens `[batch, patches, latent_dim]` of hidden tokens `[batch, patches, dim]`.
    pub fn tokens(&self, hidden: &Tensor) -> Result<Tensor> {
        self.embed.forward(&hidden.contiguous()?)
    }

    /// The embedding `[batch, embed_dim]` of latent tokens `[batch, patches, latent_dim]`.
    fn embedding_of_tokens(&self, tokens: &Tensor) -> Result<Tensor> {
        match &self.kind {
            Kind::Means { regions } => regions.broadcast_matmul(tokens)?.flatten_from(1),
            Kind::Cells { grid, cells, down, across } => {
                let maps = cells::to_maps(tokens, *grid, *cells)?;
                let mean =
                    |maps: &Tensor| down.broadcast_matmul(&maps.contiguous()?)?.broadcast_matmul(across);
                let means = mean(&maps)?;
                let luma = maps.narrow(1, 0, 1)?;
                let variance = (mean(&luma.sqr()?)? - means.narrow(1, 0, 1)?.sqr()?)?;
                let texture = (variance.relu()? + VARIANCE_EPS)?.sqrt()?;
                // [batch, 4, rows, cols] to regions in reading order, each with its four numbers.
                Tensor::cat(&[&means, &texture], 1)?.flatten_from(2)?.transpose(1, 2)?.flatten_from(1)
            }
        }
    }
}

/// A matrix whose rows average places: `[rows, places]`, row-major.
struct Averages {
    values: Vec<f32>,
    rows: usize,
}

impl Averages {
    fn tensor(self, device: &Device) -> Result<Tensor> {
        let places = self.values.len() / self.rows;
        Tensor::from_vec(self.values, (self.rows, places), device)
    }
}

/// Averages over `parts` bands of `length` places, cut at `floor(i * length / parts)`.
fn band_means(length: usize, parts: usize) -> Averages {
    let mut values = vec![0f32; parts * length];
    for (part, row) in values.chunks_exact_mut(length).enumerate() {
        let band = bounds(length, parts, part);
        let share = 1.0 / band.len() as f32;
        row[band].fill(share);
    }
    Averages { values, rows: parts }
}

/// The tokens of each region of patches, region after region in reading order.
pub(crate) fn region_tokens(config: &Config) -> Vec<Vec<u32>> {
    let (grid, (rows, cols)) = (config.grid(), config.pooling.regions());
    let first = usize::from(config.class_token);
    let members = |region: usize| {
        let (down, across) = (bounds(grid.0, rows, region / cols), bounds(grid.1, cols, region % cols));
        down.flat_map(|row| across.clone().map(move |col| (first + row * grid.1 + col) as u32)).collect()
    };
    (0..rows * cols).map(members).collect()
}

/// Averages over the patches of each region. A grid that does not divide is split at `floor(i*n/parts)`, so regions
/// differ by at most one row and column of patches.
fn region_means(grid: (usize, usize), regions: (usize, usize)) -> Averages {
    let (down, across) = (band_means(grid.0, regions.0).values, band_means(grid.1, regions.1).values);
    let mut values = Vec::with_capacity(regions.0 * regions.1 * grid.0 * grid.1);
    for (rows, cols) in
        down.chunks_exact(grid.0).flat_map(|r| across.chunks_exact(grid.1).map(move |c| (r, c)))
    {
        values.extend(rows.iter().flat_map(|row| cols.iter().map(move |col| row * col)));
    }
    Averages { values, rows: regions.0 * regions.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_cover_every_patch_once() {
        let matrix = region_means((12, 20), (4, 8)).values;
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

    #[test]
    fn cells_give_means_and_texture_of_each_region() {
        // One row of two patches of 2x2 cells, two regions: the identity reads the hidden tokens out as they are.
        let grid = (1, 2);
        let identity = Tensor::eye(12, candle_core::DType::F32, &Device::Cpu).unwrap();
        let pool = Pool {
            embed: Linear::new(identity, None),
            kind: Kind::Cells {
                grid,
                cells: 2,
                down: band_means(2, 1).tensor(&Device::Cpu).unwrap(),
                across: band_means(4, 2).tensor(&Device::Cpu).unwrap().t().unwrap().contiguous().unwrap(),
            },
        };
        let left = [1., 3., 1., 3., 5., 5., 5., 5., 7., 7., 7., 9.];
        let right = [2., 2., 2., 2., 0., 0., 0., 4., 1., 1., 1., 1.];
        let hidden =
            Tensor::new(&[[left, right]], &Device::Cpu).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        let got: Vec<f32> = pool.embedding(&hidden).unwrap().get(0).unwrap().to_vec1().unwrap();
        let want = [2., 5., 7.5, 1., 2., 1., 1., 1e-3];
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{got:?}");
        let (tokens, embedding) = pool.both(&hidden).unwrap();
        assert_eq!(tokens.dims(), [1, 2, 12]);
        assert_eq!(embedding.get(0).unwrap().to_vec1::<f32>().unwrap(), got);
    }
}
