//! Images to patches and back, on tensors.
//!
//! Two orders inside a patch, both from the masked-autoencoder papers and packages: `(channel, y, x)` for the
//! embedding (a convolution's weight, flattened) and `(y, x, channel)` for what the decoder predicts.

use candle_core::{Result, Tensor};

/// `[batch, 3, height, width]` to `[batch, patches, 3 * patch * patch]`, a patch flattened as (channel, y, x).
pub fn for_embedding(images: &Tensor, patch: usize) -> Result<Tensor> {
    split(images, patch, [0, 2, 4, 1, 3, 5])
}

/// `[batch, 3, height, width]` to `[batch, patches, patch * patch * 3]`, a patch flattened as (y, x, channel).
pub fn for_prediction(images: &Tensor, patch: usize) -> Result<Tensor> {
    split(images, patch, [0, 2, 4, 3, 5, 1])
}

/// What [`for_prediction`] took apart: `[batch, patches, patch * patch * 3]` to `[batch, 3, height, width]`.
pub fn to_images(patches: &Tensor, grid: (usize, usize), patch: usize) -> Result<Tensor> {
    let (rows, cols) = grid;
    let batch = patches.dim(0)?;
    let parts = patches.reshape(vec![batch, rows, cols, patch, patch, 3])?;
    parts.permute(vec![0, 5, 1, 3, 2, 4])?.reshape((batch, 3, rows * patch, cols * patch))
}

fn split(images: &Tensor, patch: usize, order: [usize; 6]) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    let (rows, cols) = (height / patch, width / patch);
    let parts = images.reshape(vec![batch, channels, rows, patch, cols, patch])?;
    parts.permute(order.to_vec())?.reshape((batch, rows * cols, channels * patch * patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use shared::preprocess::{PatchGeometry, patchify};

    #[test]
    fn tensors_and_slices_cut_the_same_patches() {
        let values: Vec<f32> = (0..3 * 6 * 4).map(|v| v as f32).collect();
        let images = Tensor::from_vec(values.clone(), (1, 3, 6, 4), &Device::Cpu).unwrap();
        let got = for_embedding(&images, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, patchify(&values, PatchGeometry { height: 6, width: 4, patch: 2 }));
    }

    #[test]
    fn prediction_order_is_pixel_by_pixel_and_reverses() {
        let images = Tensor::arange(0f32, 3.0 * 16.0, &Device::Cpu).unwrap().reshape((1, 3, 4, 4)).unwrap();
        let patches = for_prediction(&images, 2).unwrap();
        let first = patches.get(0).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(first, [0., 16., 32., 1., 17., 33., 4., 20., 36., 5., 21., 37.]);
        let back = to_images(&patches, (2, 2), 2).unwrap();
        assert_eq!(
            back.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }
}
