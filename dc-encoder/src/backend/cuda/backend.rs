//! The trait's side of the CUDA path.

use std::sync::Arc;

use shared::image::Rgb;

use super::{CudaError, Encoder, Setup};
use crate::backend::checked::{self, GPU_BATCH, MAX_BATCH_TOKENS};
use crate::backend::{Backend, BackendError, BackendInfo, Encoded, Precision, cpu};
use crate::model::file::Weights;
use crate::model::{Config, space};
use crate::parity;

/// The encoder on an NVIDIA card.
#[derive(Debug)]
pub struct CudaBackend {
    encoder: Encoder,
    info: BackendInfo,
}

impl CudaBackend {
    /// Writes a model's weights to the card with this number; `reason` says why it was taken.
    ///
    /// Probe frames are compared with the processor's own path in f32. In f32 they must agree; in bf16 a difference beyond
    /// what may share a space gives the embeddings one of their own ([`parity::space`]), and one beyond any rounding is an
    /// error.
    ///
    /// # Errors
    /// No such card, one that fails, a precision or a model that it does not take, embeddings that are wrong.
    pub fn new(
        config: &Config,
        mut weights: Weights,
        (device, precision): (usize, Precision),
        reason: &str,
    ) -> Result<Self, CudaError> {
        weights.retain(|name, _| !name.starts_with(crate::model::tensors::DECODER));
        let max_batch = (MAX_BATCH_TOKENS / config.tokens()).clamp(1, GPU_BATCH);
        let mut encoder = Encoder::new(config, &weights, Setup { device, precision, batch: max_batch })?;
        let agreement = compare(config, &weights, &mut encoder)?;
        let device = encoder.device().to_owned();
        let rounded = precision != Precision::F32;
        if !agreement.within(if rounded { &parity::ROUNDED } else { &parity::F32 }) {
            return Err(CudaError::Wrong { device, agreement });
        }
        let mut space = space::id(config, &weights)?;
        let verdict = if rounded {
            // Rounded elsewhere than on the processor: the two do not meet either.
            space = parity::space(space, &format!("{precision}, CUDA"), &agreement);
            parity::verdict(precision, &agreement)
        } else {
            format!("against the processor on probe frames: {agreement}")
        };
        let (major, minor) = encoder.capability();
        let info = BackendInfo {
            device,
            path: format!("own path, {precision}, cuBLASLt and CUDA kernels for sm_{major}{minor}"),
            reason: format!("{reason}; {verdict}"),
            ..BackendInfo::of(config, space, max_batch)
        };
        Ok(Self { encoder, info })
    }
}

/// How a card's embeddings of probe frames agree with the processor's.
fn compare(
    config: &Config,
    weights: &Weights,
    encoder: &mut Encoder,
) -> Result<parity::Agreement, CudaError> {
    let failed = |error: cpu::CpuError| CudaError::failed("the processor", &error);
    let mut reference = cpu::Encoder::reference(config, weights).map_err(failed)?;
    let frames = parity::probe_frames(config, parity::PROBES);
    let (alone, together) = frames.split_at(1);
    // The first batch of a size runs step by step, the second as a graph, and so do all after it: that one counts.
    let mut encode = |frames: &[Arc<Rgb>]| {
        encoder.frames(frames, false)?;
        encoder.frames(frames, false)
    };
    let mut got = encode(alone)?;
    got.extend(encode(together)?);
    Ok(parity::Agreement::of(&reference.frames(&frames, false), &got))
}

impl Backend for CudaBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        checked::encode(&self.info, batch, || self.encoder.frames(batch, tokens))
    }
}
