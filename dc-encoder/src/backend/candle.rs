//! The candle backend: the model on the processor or on a CUDA device, in f32.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use shared::image::Rgb;
use shared::preprocess::{PatchGeometry, patchify};

use super::checked::{self, CPU_BATCH, GPU_BATCH, MAX_BATCH_TOKENS};
use super::device::Opened;
use super::{Backend, BackendError, BackendInfo, Encoded, Partial, Patches};
use crate::model::{Config, Model};

/// A model on a candle device.
#[derive(Debug)]
pub struct CandleBackend {
    model: Model,
    info: BackendInfo,
    geometry: PatchGeometry,
}

impl CandleBackend {
    /// Takes a model that was loaded on this device.
    pub fn new(model: Model, opened: Opened) -> Self {
        let config = model.config();
        let most = if matches!(opened.device, Device::Cpu) { CPU_BATCH } else { GPU_BATCH };
        let max_batch = (MAX_BATCH_TOKENS / config.tokens()).clamp(1, most);
        let info = BackendInfo {
            device: opened.name,
            path: opened.path,
            reason: opened.reason,
            patches: Some(Patches::of(config)),
            ..BackendInfo::of(config, model.space(), max_batch)
        };
        let geometry = PatchGeometry {
            height: config.height as u32,
            width: config.width as u32,
            patch: config.patch as u32,
        };
        Self { model, info, geometry }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Patches of the whole batch, `[batch, patches, 3 * patch * patch]`.
    fn patches(&self, batch: &[Arc<Rgb>]) -> candle_core::Result<Tensor> {
        let preprocess = &self.model.config().preprocess;
        let mut each: Vec<Vec<f32>> =
            batch.par_iter().map(|frame| patchify(&preprocess.normalise(frame), self.geometry)).collect();
        let shape = (batch.len(), self.geometry.tokens(), self.geometry.patch_len());
        // One frame, the usual case, is moved and not copied.
        let values = if each.len() == 1 { each.swap_remove(0) } else { each.concat() };
        Tensor::from_vec(values, shape, self.model.device())
    }

    /// Latent tokens of frames with as many patches each.
    fn run_partial(&self, batch: &[&Partial]) -> candle_core::Result<Vec<Vec<f32>>> {
        let Some(count) = batch.first().map(|partial| partial.choice.len()) else { return Ok(Vec::new()) };
        let (preprocess, length) = (&self.model.config().preprocess, self.geometry.patch_len());
        let mut values = Vec::with_capacity(batch.len() * count * length);
        let mut places = Vec::with_capacity(batch.len() * count);
        for Partial { frame, choice } in batch {
            let all = patchify(&preprocess.normalise(frame), self.geometry);
            for place in choice.places() {
                values.extend_from_slice(&all[*place as usize * length..][..length]);
            }
            places.extend_from_slice(choice.places());
        }
        let device = self.model.device();
        let patches = Tensor::from_vec(values, (batch.len(), count, length), device)?;
        let places = Tensor::from_vec(places, (batch.len(), count), device)?;
        let tokens = self.model.encoder().encode_some(&patches, &places)?;
        tokens.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2()
    }

    fn run(&self, batch: &[Arc<Rgb>], tokens: bool) -> candle_core::Result<Vec<Encoded>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (embedding, tokens) = self.model.encoder().encode_patches(&self.patches(batch)?, tokens)?;
        let embedding = embedding.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut each: Vec<Encoded> =
            embedding.into_iter().map(|embedding| Encoded { embedding, tokens: None }).collect();
        if let Some(tokens) = tokens {
            let tokens = tokens.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
            for (encoded, tokens) in each.iter_mut().zip(tokens) {
                encoded.tokens = Some(tokens);
            }
        }
        Ok(each)
    }
}

impl Backend for CandleBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        checked::encode(&self.info, batch, || self.run(batch, tokens))
    }

    fn encode_partial(&mut self, batch: &[Partial]) -> Result<Vec<Vec<f32>>, BackendError> {
        checked::encode_partial(&self.info, batch, |alike| self.run_partial(alike))
    }
}

/// The shape of a model in a few words: `nystrom-vit 576x960 p48 1024x10`.
pub(super) fn short_name(config: &Config) -> String {
    format!(
        "{} {}x{} p{} {}x{}",
        config.model_type, config.height, config.width, config.patch, config.dim, config.depth
    )
}
