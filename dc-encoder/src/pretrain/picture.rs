//! What the model makes of a frame, side by side: the frame, what the encoder saw of it, the decoder's reconstruction.

use candle_core::{Device, Result, Tensor};
use shared::image::Rgb;

use super::batch::{Change, Item, normalisation};
use crate::model::config::TargetKind;
use crate::model::mae::Mae;
use crate::model::{Config, patches};

/// Hidden patches are this grey.
const GREY: u8 = 128;
/// Pixels between two pictures.
const GAP: u32 = 4;

/// Frame, masked frame and reconstruction beside each other. Visible patches are shown as they were; a hidden patch of a
/// normalised target is shown with its own true mean and deviation, which the prediction leaves open.
pub(super) fn strip(mae: &Mae, item: &Item, device: &Device) -> Result<Rgb> {
    let config = mae.encoder().config();
    let images = Tensor::from_vec(
        config.preprocess.normalise(&item.image),
        (1, 3, config.height, config.width),
        &Device::Cpu,
    )?;
    let visible = Tensor::from_vec(item.mask.visible.clone(), (1, item.mask.visible.len()), device)?;
    let prediction = mae.forward(&images.to_device(device)?, &visible)?.prediction.detach();
    let mut rows = prediction.to_device(&Device::Cpu)?.get(0)?.to_vec2::<f32>()?;
    let truth = patches::for_prediction(&images, config.patch)?.get(0)?.to_vec2::<f32>()?;
    let normalised = super::target(config) == TargetKind::Normalised;
    for place in &item.mask.hidden {
        if normalised {
            let (mean, scale) = normalisation(&truth[*place as usize]);
            rows[*place as usize].iter_mut().for_each(|value| *value = *value * scale + mean);
        }
    }
    for place in &item.mask.visible {
        rows[*place as usize].copy_from_slice(&truth[*place as usize]);
    }
    let values: Vec<f32> = rows.into_iter().flatten().collect();
    let made = Tensor::from_vec(values, (1, config.patches(), config.patch_dim()), &Device::Cpu)?;
    let made = to_rgb(config, &patches::to_images(&made, config.grid(), config.patch)?)?;
    Ok(beside(&[item.image.as_ref(), &masked(config, item), &made]))
}

/// The frame with its hidden patches grey.
fn masked(config: &Config, item: &Item) -> Rgb {
    let mut image = item.image.as_ref().clone();
    let (cols, patch) = (config.grid().1, config.patch);
    for place in &item.mask.hidden {
        let (top, left) = (*place as usize / cols * patch, *place as usize % cols * patch);
        for y in top..top + patch {
            let start = 3 * (y * config.width + left);
            image.data[start..start + 3 * patch].fill(GREY);
        }
    }
    image
}

/// Normalised `[1, 3, height, width]` to pixels.
fn to_rgb(config: &Config, image: &Tensor) -> Result<Rgb> {
    let values = image.flatten_all()?.to_vec1::<f32>()?;
    let area = config.height * config.width;
    let preprocess = &config.preprocess;
    let byte = |at: usize, channel: usize| {
        let value = values[channel * area + at] * preprocess.std[channel] + preprocess.mean[channel];
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let data = (0..area).flat_map(|at| [0, 1, 2].map(|channel| byte(at, channel))).collect();
    Ok(Rgb { width: config.width as u32, height: config.height as u32, data })
}

/// Pictures of one size in a row.
fn beside(pictures: &[&Rgb]) -> Rgb {
    let (height, count) = (pictures[0].height, pictures.len() as u32);
    let width: u32 = pictures.iter().map(|picture| picture.width).sum::<u32>() + GAP * (count - 1);
    let mut data = Vec::with_capacity((3 * width * height) as usize);
    for y in 0..height as usize {
        for (at, picture) in pictures.iter().enumerate() {
            if at > 0 {
                data.extend(std::iter::repeat_n(255, 3 * GAP as usize));
            }
            let row = 3 * picture.width as usize;
            data.extend_from_slice(&picture.data[y * row..(y + 1) * row]);
        }
    }
    Rgb { width, height, data }
}

/// A frame with a mask and nothing changed.
pub(super) fn item(config: &Config, image: std::sync::Arc<Rgb>, mask: super::draw::Mask) -> Item {
    Item { image, change: Change::none(config), mask }
}

/// The bytes of a PNG file.
pub(super) fn png(image: &Rgb) -> std::io::Result<Vec<u8>> {
    use image::ImageEncoder as _;
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&image.data, image.width, image.height, image::ExtendedColorType::Rgb8)
        .map_err(std::io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_beside_each_other() {
        let (red, blue) = (Rgb::filled(3, 2, [255, 0, 0]), Rgb::filled(3, 2, [0, 0, 255]));
        let both = beside(&[&red, &blue]);
        assert_eq!((both.width, both.height), (6 + GAP, 2));
        assert_eq!(both.pixel(2, 1), [255, 0, 0]);
        assert_eq!(both.pixel(3, 0), [255, 255, 255]);
        assert_eq!(both.pixel(3 + GAP, 1), [0, 0, 255]);
        assert!(png(&both).unwrap().starts_with(b"\x89PNG"));
    }
}
