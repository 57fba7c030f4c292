//! What the model makes of a frame, side by side: the frame, what the encoder saw of it, the decoder's reconstruction, and
//! what the embedding alone says.

use candle_core::{Device, Result, Tensor};
use shared::image::{Chroma, Rgb, fit_within, jpeg, resize};

use super::batch::{Change, Item, normalisation};
use super::error::PretrainError;
use super::frames::Frames;
use super::network::Network;
use super::recipe::Recipe;
use super::validate::held_out_item;
use crate::model::attention::bounds;
use crate::model::config::{Pooling, TargetKind};
use crate::model::mae::Mae;
use crate::model::{Config, cells, patches};

/// Hidden patches are this grey.
const GREY: u8 = 128;
/// Pixels between two pictures.
const GAP: u32 = 4;

/// Held-out frames whose pictures are kept.
const PICTURES: usize = 3;
/// Most pixels across of a picture in the event files: they hold three strips for every validation.
const BOARD_WIDTH: u32 = 320;
/// JPEG quality there.
const BOARD_QUALITY: u8 = 80;

/// Pictures of one size: the frame, what the encoder saw of it, the reconstruction, and where the pooling has colours what
/// the embedding alone says.
pub(super) struct Pictures(Vec<Rgb>);

/// What the pictures of a model are, from left to right.
pub(super) fn caption(config: &Config) -> String {
    let three = "frame, masked, reconstruction";
    match config.pooling {
        Pooling::Cells { rows, cols, .. } => {
            format!("{three}, the embedding alone (mean colours of its {rows}x{cols} regions)")
        }
        Pooling::Mean { .. } | Pooling::Regions { .. } => three.to_owned(),
    }
}

impl Pictures {
    /// Visible patches are shown as they were; a hidden patch of a normalised target is shown with its own true mean and
    /// deviation, which the prediction leaves open. The embedding is that of the whole frame.
    pub(super) fn draw(mae: &Mae, item: &Item, device: &Device) -> Result<Self> {
        let config = mae.encoder().config();
        let shape = (1, 3, config.height, config.width);
        let images = Tensor::from_vec(config.preprocess.normalise(&item.image), shape, &Device::Cpu)?;
        let on_device = images.to_device(device)?;
        let made = reconstruction(mae, item, &images, &on_device)?;
        let mut pictures = vec![item.image.as_ref().clone(), masked(config, item), made];
        if let Pooling::Cells { rows, cols, cells, .. } = config.pooling {
            let embedding = mae.encoder().forward(&on_device)?.embedding.detach().to_device(&Device::Cpu)?;
            let colours = cells::region_colours(&embedding, (rows, cols))?;
            pictures.push(painted(config, &colours.get(0)?, cells)?);
        }
        Ok(Self(pictures))
    }

    /// Side by side, as they are.
    pub(super) fn beside(&self) -> Rgb {
        beside(&self.0.iter().collect::<Vec<_>>())
    }

    /// Side by side and small.
    fn small(&self) -> Small {
        let (width, height) = fit_within(self.0[0].width, self.0[0].height, BOARD_WIDTH, BOARD_WIDTH);
        let small: Vec<Rgb> = self.0.iter().map(|picture| resize(picture, width, height)).collect();
        let strip = beside(&small.iter().collect::<Vec<_>>());
        let jpeg = jpeg::encode(&strip, BOARD_QUALITY, Chroma::C420);
        Small { jpeg, width: strip.width, height: strip.height }
    }
}

/// A row of pictures for the event files.
pub(super) struct Small {
    pub(super) jpeg: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// What the model makes of a few held-out frames, the same ones each time.
pub(super) fn held_out_pictures(
    recipe: &Recipe,
    frames: &Frames,
    network: &Network,
) -> std::result::Result<Vec<Small>, PretrainError> {
    let one = |frame| {
        let item = held_out_item(recipe, frames, frame)?;
        let pictures = Pictures::draw(&network.mae, &item, network.device());
        pictures.map(|pictures| pictures.small()).map_err(PretrainError::compute("drawing a reconstruction"))
    };
    frames.held_out(PICTURES).into_iter().map(one).collect()
}

/// The frame as the decoder completes it. `images` is `[1, 3, height, width]`.
fn reconstruction(mae: &Mae, item: &Item, images: &Tensor, on_device: &Tensor) -> Result<Rgb> {
    let config = mae.encoder().config();
    let (seen, device) = (item.mask.visible.len(), on_device.device());
    let visible = Tensor::from_vec(item.mask.visible.clone(), (1, seen), device)?;
    let prediction = mae.forward(on_device, &visible)?.prediction.detach();
    let mut rows = prediction.to_device(&Device::Cpu)?.get(0)?.to_vec2::<f32>()?;
    let truth = patches::for_prediction(images, config.patch)?.get(0)?.to_vec2::<f32>()?;
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
    to_rgb(config, &patches::to_images(&made, config.grid(), config.patch)?)
}

/// Each region in its colour: `colours` is `[3, rows, cols]`, from 0 to 1, of the regions that `Pool` cuts.
fn painted(config: &Config, colours: &Tensor, cells: usize) -> Result<Rgb> {
    let (_, rows, cols) = colours.dims3()?;
    let values = colours.flatten_all()?.to_vec1::<f32>()?;
    let (down, across) = (config.grid().0 * cells, config.grid().1 * cells);
    let side = config.patch / cells;
    let mut image = Rgb::filled(config.width as u32, config.height as u32, [GREY; 3]);
    for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
        let (ys, xs) = (bounds(down, rows, row), bounds(across, cols, col));
        let colour = [0, 1, 2].map(|c| (255.0 * values[(c * rows + row) * cols + col]).round() as u8);
        for y in side * ys.start..side * ys.end {
            let line = &mut image.data[3 * y * config.width..][..3 * config.width];
            line[3 * side * xs.start..3 * side * xs.end].as_chunks_mut::<3>().0.fill(colour);
        }
    }
    Ok(image)
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

    #[test]
    fn regions_are_painted_where_the_pool_cuts_them() {
        let mut config = crate::model::preset::Preset::find("demo").unwrap().config();
        // Three rows of patches with two cells each: six bands of four pixels, in two regions of three.
        (config.height, config.width, config.patch) = (24, 16, 8);
        let colours = Tensor::new(&[[[0f32], [1.0]], [[0.5], [0.0]], [[0.0], [0.2]]], &Device::Cpu).unwrap();
        let image = painted(&config, &colours, 2).unwrap();
        assert_eq!((image.width, image.height), (16, 24));
        assert_eq!([image.pixel(0, 0), image.pixel(15, 11)], [[0, 128, 0]; 2]);
        assert_eq!([image.pixel(0, 12), image.pixel(15, 23)], [[255, 0, 51]; 2]);
    }

    #[test]
    fn event_files_get_small_pictures() {
        let noise = |seed: usize| {
            let data = (0..960 * 576 * 3).map(|at| (at * (seed + 3) % 251) as u8).collect();
            Rgb { width: 960, height: 576, data }
        };
        let Small { jpeg: bytes, width, height } = Pictures((0..4).map(noise).collect()).small();
        assert_eq!((width, height), (4 * 320 + 3 * GAP, 192));
        assert!(bytes.starts_with(b"\xff\xd8\xff") && bytes.len() < 400_000, "{}", bytes.len());
    }
}
