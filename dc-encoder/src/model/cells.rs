//! What an addressed latent token says: the log-colour of the cells of its patch (`pooling: cells`, version 1).
//!
//! ```text
//! image [3, height, width] ─► mean colour of each cell ─► log(colour + floor) ─► luma, red − blue, red − green
//!                                                                     └► targets [patches, 3 · cells²]
//! ```
//! A cell is a square of `patch / cells` pixels. In log-colour a change of light is a shift of all cells at once, which
//! differences of neighbouring cells do not see: heads that compare neighbours follow shadows and silhouettes instead
//! of the weather.

use candle_core::{D, Result, Tensor};
use shared::preprocess::Preprocess;

/// Log luma, log red − log blue, log red − log green.
pub const CHANNELS: usize = 3;
/// Numbers the embedding keeps of a region: three means, and the deviation of log luma.
pub const REGION_NUMBERS: usize = CHANNELS + 1;
/// Added to a colour (0 to 1) before the logarithm, so that sensor noise in the dark stays small: 16 of 255.
const FLOOR: f64 = 16.0 / 255.0;
/// Added to a channel's variance: grey pictures have no chroma to explain.
const VARIANCE_FLOOR: f64 = 1e-4;

/// The log-colour that latent tokens should say: normalised patches `[batch, n, 3 * patch²]` (channel, y, x) to
/// `[batch, n, 3 * cells²]`, flattened as (channel, i, j).
///
/// # Errors
/// The tensor library's.
pub fn targets(patches: &Tensor, preprocess: &Preprocess, patch: usize, cells: usize) -> Result<Tensor> {
    let (batch, n, _) = patches.dims3()?;
    let (rows, side) = (batch * n, patch / cells);
    let colours = patches.reshape((rows, 3, cells, side, patch))?.mean(3)?;
    let colours = colours.reshape((rows, 3, cells, cells, side))?.mean(D::Minus1)?.flatten_from(2)?;
    let constant = |values: [f32; 3]| Tensor::new(&values, patches.device())?.reshape((1, 3, 1));
    let colours = colours.broadcast_mul(&constant(preprocess.std)?)?;
    let colours = colours.broadcast_add(&constant(preprocess.mean)?)?;
    // Resampling may leave a colour a rounding below zero.
    let logs = (colours.relu()? + FLOOR)?.log()?;
    let (red, green, blue) = (logs.narrow(1, 0, 1)?, logs.narrow(1, 1, 1)?, logs.narrow(1, 2, 1)?);
    let luma = logs.mean_keepdim(1)?;
    let tokens = Tensor::cat(&[&luma, &(&red - &blue)?, &(&red - &green)?], 1)?;
    tokens.reshape((batch, n, CHANNELS * cells * cells))
}

/// The share of the targets' variance that tokens leave unexplained, averaged over the channels, a scalar: 0 for tokens
/// that say their cells exactly, 1 for tokens that say the mean. Both `[batch, n, 3 * cells²]`.
///
/// Each channel counts the same: chroma varies ten times less than luma and would be lost in a common sum.
///
/// # Errors
/// The tensor library's.
pub fn unexplained(tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (batch, n, width) = targets.dims3()?;
    let by_channel =
        |t: &Tensor| t.reshape((batch * n, CHANNELS, width / CHANNELS))?.transpose(0, 1)?.flatten_from(1);
    let (tokens, targets) = (by_channel(tokens)?, by_channel(targets)?);
    let variance = targets.broadcast_sub(&targets.mean_keepdim(1)?)?.sqr()?.mean_keepdim(1)?;
    let error = (tokens - targets)?.sqr()?.mean_keepdim(1)?;
    error.div(&(variance + VARIANCE_FLOOR)?.detach())?.mean_all()
}

/// Maps `[batch, channels, rows * cells, cols * cells]` to tokens `[batch, rows * cols, channels * cells²]`.
///
/// # Errors
/// The tensor library's.
pub fn to_tokens(maps: &Tensor, cells: usize) -> Result<Tensor> {
    let (batch, channels, down, across) = maps.dims4()?;
    let (rows, cols) = (down / cells, across / cells);
    let parts = maps.reshape(vec![batch, channels, rows, cells, cols, cells])?;
    parts.permute(vec![0, 2, 4, 1, 3, 5])?.reshape((batch, rows * cols, channels * cells * cells))
}

/// Tokens `[batch, rows * cols, channels * cells²]` to maps `[batch, channels, rows * cells, cols * cells]`.
///
/// # Errors
/// The tensor library's.
pub fn to_maps(tokens: &Tensor, (rows, cols): (usize, usize), cells: usize) -> Result<Tensor> {
    let (batch, _, width) = tokens.dims3()?;
    let channels = width / (cells * cells);
    let parts = tokens.reshape(vec![batch, rows, cols, channels, cells, cells])?;
    parts.permute(vec![0, 3, 1, 4, 2, 5])?.reshape((batch, channels, rows * cells, cols * cells))
}

/// What the maps look like: log-colours `[batch, 3, down, across]` to colours from 0 to 1 of the same shape.
///
/// # Errors
/// The tensor library's.
pub fn to_colours(maps: &Tensor) -> Result<Tensor> {
    let (luma, red_blue, red_green) = (maps.narrow(1, 0, 1)?, maps.narrow(1, 1, 1)?, maps.narrow(1, 2, 1)?);
    // luma = (r + g + b) / 3 with b = r - red_blue and g = r - red_green.
    let red = (luma + ((&red_blue + &red_green)? / 3.0)?)?;
    let logs = Tensor::cat(&[&red, &(&red - &red_green)?, &(&red - &red_blue)?], 1)?;
    (logs.exp()? - FLOOR)?.clamp(0.0, 1.0)
}

/// The colours that an embedding holds: `[batch, rows * cols * 4]`, regions in reading order, to the mean colour of each
/// region, from 0 to 1, `[batch, 3, rows, cols]`. Its texture is not in them.
///
/// # Errors
/// The tensor library's.
pub fn region_colours(embedding: &Tensor, (rows, cols): (usize, usize)) -> Result<Tensor> {
    let numbers = embedding.reshape((embedding.dim(0)?, rows * cols, REGION_NUMBERS))?;
    let means = numbers.narrow(2, 0, CHANNELS)?.transpose(1, 2)?.contiguous()?;
    to_colours(&means.reshape((embedding.dim(0)?, CHANNELS, rows, cols))?)
}

#[cfg(test)]
mod tests {
    use super::super::patches;
    use super::*;
    use candle_core::Device;

    fn normalised(colour: [f32; 3], preprocess: &Preprocess) -> [f32; 3] {
        [0, 1, 2].map(|c| (colour[c] - preprocess.mean[c]) / preprocess.std[c])
    }

    #[test]
    fn a_token_says_its_cells_colours() {
        // 4x8 pixels, patch 4, cells 2: two patches of 2x2 cells; each cell one colour.
        let preprocess = Preprocess::imagenet(4, 8);
        let colour = |cell: usize| [0.1 + 0.1 * cell as f32, 0.5, 0.2];
        let mut values = vec![0f32; 3 * 32];
        for (y, x) in (0..4).flat_map(|y| (0..8).map(move |x| (y, x))) {
            let pixel = normalised(colour(y / 2 * 4 + x / 2), &preprocess);
            for (c, value) in pixel.into_iter().enumerate() {
                values[c * 32 + y * 8 + x] = value;
            }
        }
        let images = Tensor::from_vec(values, (1, 3, 4, 8), &Device::Cpu).unwrap();
        let tokens = targets(&patches::for_embedding(&images, 4).unwrap(), &preprocess, 4, 2).unwrap();
        assert_eq!(tokens.dims(), [1, 2, 12]);
        let got: Vec<Vec<f32>> = tokens.get(0).unwrap().to_vec2().unwrap();
        for (token, row) in got.iter().enumerate() {
            for (place, (i, j)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
                let [r, g, b] = colour(i * 4 + 2 * token + j).map(|v| (v + FLOOR as f32).ln());
                for (channel, want) in [(r + g + b) / 3.0, r - b, r - g].into_iter().enumerate() {
                    assert!((row[channel * 4 + place] - want).abs() < 1e-5, "{token} {place} {channel}");
                }
            }
        }
        let maps = to_maps(&tokens, (1, 2), 2).unwrap();
        assert_eq!(maps.dims(), [1, 3, 2, 4]);
        assert_eq!(
            to_tokens(&maps, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            tokens.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
        let colours: Vec<f32> = to_colours(&maps).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for cell in 0..8 {
            for (channel, want) in colour(cell).into_iter().enumerate() {
                assert!((colours[channel * 8 + cell] - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_change_of_light_shifts_log_luma_and_leaves_differences() {
        let preprocess = Preprocess::imagenet(4, 4);
        let image = |gain: f32| {
            let values: Vec<f32> = (0..48)
                .map(|at| {
                    let colour =
                        gain * ((0.3 + 0.01 * (at % 16) as f32 + FLOOR as f32) - FLOOR as f32 / gain);
                    (colour - preprocess.mean[at / 16]) / preprocess.std[at / 16]
                })
                .collect();
            Tensor::from_vec(values, (1, 3, 4, 4), &Device::Cpu).unwrap()
        };
        let read = |gain| {
            let tokens =
                targets(&patches::for_embedding(&image(gain), 4).unwrap(), &preprocess, 4, 4).unwrap();
            tokens.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (dim, bright) = (read(1.0), read(1.5));
        for at in 0..16 {
            assert!((bright[at] - dim[at] - 1.5f32.ln()).abs() < 1e-5, "{at}");
        }
        assert!(bright[16..].iter().all(|v| v.abs() < 1e-5), "grey has no chroma");
    }

    #[test]
    fn an_embedding_gives_its_regions_colours_back() {
        // Two regions side by side: log-colours of (0.1, 0.5, 0.2) and of grey 0.4, and a texture that is not looked at.
        let number = |[r, g, b]: [f32; 3], texture: f32| {
            let [r, g, b] = [r, g, b].map(|value| (value + FLOOR as f32).ln());
            [(r + g + b) / 3.0, r - b, r - g, texture]
        };
        let numbers = [number([0.1, 0.5, 0.2], 9.0), number([0.4; 3], -9.0)].concat();
        let embedding = Tensor::from_vec(numbers, (1, 8), &Device::Cpu).unwrap();
        let got: Vec<f32> =
            region_colours(&embedding, (1, 2)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (got, want) in got.iter().zip([0.1, 0.4, 0.5, 0.4, 0.2, 0.4]) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }

    #[test]
    fn unexplained_is_zero_for_the_truth_and_one_for_each_channels_mean() {
        let value = |t: &Tensor| t.to_scalar::<f32>().unwrap();
        let truth = Tensor::new(&[[[1f32, 30., 5.], [3., 10., 9.]]], &Device::Cpu).unwrap();
        let mean = Tensor::new(&[[[2f32, 20., 7.], [2., 20., 7.]]], &Device::Cpu).unwrap();
        assert_eq!(value(&unexplained(&truth, &truth).unwrap()), 0.0);
        assert!((value(&unexplained(&mean, &truth).unwrap()) - 1.0).abs() < 1e-3);
    }
}
