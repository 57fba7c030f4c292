//! The picture that training shows, for any frame.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use shared::image::{Limits, Rgb};
use shared::uplink::Uplink;

use super::batch::Batch;
use super::draw::{Purpose, generator, mask};
use super::error::PretrainError;
use super::picture::{Pictures, caption, item, png};
use crate::embed::Preparation;
use crate::model::file;
use crate::model::mae::{Mae, visible_count};
use crate::model::ops;

/// What to draw.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// A model folder with its decoder.
    pub model: PathBuf,
    /// The picture.
    pub frame: PathBuf,
    /// The PNG file to write.
    pub out: PathBuf,
    /// What the frame passes through first.
    pub uplink: Uplink,
    /// Share of the patches that is hidden.
    pub mask_ratio: f64,
    /// Seed of the mask.
    pub seed: u64,
}

/// What was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstructed {
    /// The pictures from left to right, in words.
    pub caption: String,
    /// Loss of the reconstruction.
    pub loss: f64,
    /// Loss of answering each hidden patch with its mean colour.
    pub loss_of_means: f64,
}

/// Draws the frame, what the encoder sees of it, the reconstruction, and what the embedding alone says where it holds
/// colours.
///
/// # Errors
/// A model without a decoder, a picture that cannot be read, a file that cannot be written.
pub fn reconstruct(what: &Reconstruction) -> Result<Reconstructed, PretrainError> {
    let (config, weights) = file::load(&what.model)?;
    let no_decoder = || PretrainError::NoDecoder { path: what.model.clone() };
    let decoder = config.decoder.clone().ok_or_else(no_decoder)?;
    let visible = visible_count(config.patches(), what.mask_ratio);
    if visible == 0 || visible >= config.patches() {
        let why = format!(
            "leaves {visible} of {} patches visible; at least one of each is needed",
            config.patches()
        );
        return Err(PretrainError::Setting { option: "mask-ratio", got: what.mask_ratio.to_string(), why });
    }
    let input = (config.height, config.width);
    let preparation = Preparation { uplink: what.uplink, limits: Limits::default(), input };
    let image = preparation
        .prepare(&what.frame)
        .map_err(|reason| PretrainError::Picture { path: what.frame.clone(), reason })?;
    let mask = mask(config.patches(), visible, &mut generator(what.seed, Purpose::HeldOutMask, 0));
    let item = item(&config, image, mask);
    let compute = PretrainError::compute("reconstructing");
    let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let mae = Mae::new(&config, &decoder, vb).map_err(&compute)?;
    let pictures = Pictures::draw(&mae, &item, &Device::Cpu).map_err(&compute)?;
    write(&what.out, &pictures.beside())?;
    let batch = Batch::new(&config, decoder.target, vec![item]);
    let loss = loss(&mae, &batch).map_err(&compute)?;
    Ok(Reconstructed { caption: caption(&config), loss, loss_of_means: batch.loss_of_means() })
}

fn loss(mae: &Mae, batch: &Batch<'_>) -> candle_core::Result<f64> {
    let device = &Device::Cpu;
    let (visible, hidden) = (batch.visible(device)?, batch.hidden(device)?);
    let latent = mae.encode_visible(&batch.patches(device)?, &visible)?;
    let tokens = mae.decode_hidden(&latent, &visible, &hidden)?;
    Ok(f64::from(ops::prediction_loss(&tokens, mae.pred(), batch)?.to_scalar::<f32>()?))
}

fn write(path: &Path, picture: &Rgb) -> Result<(), PretrainError> {
    png(picture).and_then(|bytes| std::fs::write(path, bytes)).map_err(|source| PretrainError::Write {
        path: path.to_owned(),
        source,
        kept: "nothing was written".to_owned(),
    })
}
