//! The trait's side of the wgpu path.

use std::sync::Arc;

use shared::image::Rgb;

use super::gpu::Gpu;
use super::{Encoder, WgpuError};
use crate::backend::checked::{self, MAX_BATCH_TOKENS};
use crate::backend::{Backend, BackendError, BackendInfo, Encoded, cpu};
use crate::model::file::Weights;
use crate::model::{Config, space};
use crate::parity;

/// Most frames worth giving at once: enough rows to fill a large card, and memory that a small one has.
const BATCH: usize = 16;

/// The encoder on a GPU.
#[derive(Debug)]
pub struct WgpuBackend {
    encoder: Encoder,
    info: BackendInfo,
}

impl WgpuBackend {
    /// Writes a model's weights to the adapter with this number.
    ///
    /// Drivers differ, and no machine has them all: probe frames are compared with the processor's own path.
    ///
    /// # Errors
    /// No such adapter, a device that fails, or one whose embeddings are beyond [`parity::F32`].
    pub fn new(config: &Config, mut weights: Weights, adapter: usize) -> Result<Self, WgpuError> {
        weights.retain(|name, _| !name.starts_with(crate::model::tensors::DECODER));
        let gpu = Gpu::open(adapter)?;
        let most = if gpu.software { 1 } else { BATCH };
        let max_batch = (MAX_BATCH_TOKENS / config.tokens()).clamp(1, most);
        let mut encoder = Encoder::on(gpu, config, &weights, max_batch)?;
        let agreement = compare(config, &weights, &mut encoder)?;
        let adapter = encoder.adapter().to_owned();
        if !agreement.within(&parity::F32) {
            return Err(WgpuError::Wrong { adapter, agreement });
        }
        let info = BackendInfo {
            device: adapter,
            path: "wgpu 30, f32, WGSL".to_owned(),
            reason: format!("asked for; against the processor on probe frames: {agreement}"),
            ..BackendInfo::of(config, space::id(config, &weights)?, max_batch)
        };
        Ok(Self { encoder, info })
    }
}

/// How a device's embeddings of probe frames agree with the processor's.
fn compare(
    config: &Config,
    weights: &Weights,
    encoder: &mut Encoder,
) -> Result<parity::Agreement, WgpuError> {
    let failed = |error: cpu::CpuError| encoder.gpu.failed(error);
    let mut reference = cpu::Encoder::reference(config, weights).map_err(failed)?;
    let frames = parity::probe_frames(config, parity::PROBES);
    Ok(parity::Agreement::of(&reference.frames(&frames, false), &encoder.frames(&frames, false)?))
}

impl Backend for WgpuBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        checked::encode(&self.info, batch, || self.encoder.frames(batch, tokens))
    }
}
