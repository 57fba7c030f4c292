//! The trait's side of the processor's own path.

use std::convert::Infallible;
use std::sync::Arc;

use shared::image::Rgb;

use super::simd::Isa;
use super::{CpuError, Encoder, Setup};
use crate::backend::checked::{self, CPU_BATCH, MAX_BATCH_TOKENS};
use crate::backend::{Backend, BackendError, BackendInfo, Encoded, Partial, Patches, Precision};
use crate::model::file::Weights;
use crate::model::{Config, cost, space};
use crate::parity;

/// The encoder on the processor's own path.
#[derive(Debug)]
pub struct CpuBackend {
    encoder: Encoder,
    info: BackendInfo,
}

impl CpuBackend {
    /// Packs a model's weights; `reason` says why this backend was taken.
    ///
    /// In a precision other than f32 the packed model is compared with the f32 one on probe frames: if they differ by
    /// more than the contract allows, its embeddings get a space of their own ([`parity::space`]).
    ///
    /// # Errors
    /// What the precision needs and the processor or the model does not have.
    pub fn new(
        config: &Config,
        mut weights: Weights,
        precision: Precision,
        mut reason: String,
    ) -> Result<Self, CpuError> {
        weights.retain(|name, _| !name.starts_with(crate::model::tensors::DECODER));
        let max_batch = (MAX_BATCH_TOKENS / config.tokens()).clamp(1, CPU_BATCH);
        let threads = candle_core::utils::get_num_threads();
        let isa = Isa::detect();
        if precision != Precision::F32 && !isa.avx512() {
            return Err(CpuError::Instructions { precision, instructions: "AVX-512" });
        }
        let setup = Setup { precision, isa, threads, batch: max_batch };
        let mut encoder = Encoder::new(config, &weights, setup)?;
        let mut space = space::id(config, &weights)?;
        if precision != Precision::F32 {
            let agreement = parity::probe(&mut Encoder::reference(config, &weights)?, &mut encoder);
            space = parity::space(space, &precision.to_string(), &agreement);
            reason = format!("{reason}; {}", parity::verdict(precision, &agreement));
        }
        let info = BackendInfo {
            device: format!("CPU, {threads} thread{}", if threads == 1 { "" } else { "s" }),
            path: format!("own path, {precision}, {}", encoder.kernel()),
            reason,
            patches: encoder.takes_patches().then(|| Patches::of(config)),
            ..BackendInfo::of(config, space, max_batch)
        };
        Ok(Self { encoder, info })
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        let frames = || Ok::<_, Infallible>(self.encoder.frames(batch, tokens));
        checked::encode(&self.info, batch, frames)
    }

    fn encode_partial(&mut self, batch: &[Partial]) -> Result<Vec<Vec<f32>>, BackendError> {
        checked::encode_partial(&self.info, batch, |alike| Ok::<_, Infallible>(self.encoder.partial(alike)))
    }

    fn partial_flops(&self, patches: usize) -> u64 {
        cost::flops_partial(self.encoder.config(), patches).total()
    }
}
