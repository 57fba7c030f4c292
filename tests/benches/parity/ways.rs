//! The ways to compute an embedding on this machine.

use std::sync::Arc;

use candle_core::Device;
use dc_encoder::backend::cpu::simd::Isa;
use dc_encoder::backend::cpu::{Encoder, Setup};
use dc_encoder::backend::{
    Backend as _, CandleBackend, DeviceChoice, Encoded, Precision, cuda, select, wgpu,
};
use dc_encoder::model::file::Weights;
use dc_encoder::model::{Config, Model};
use dc_encoder::parity::{Agreement, Contract, F32, SHARED};
use shared::image::Rgb;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// The reference.
    Candle,
    /// The processor's own path.
    Own(Precision, Isa),
    /// The first NVIDIA card.
    Cuda(Precision),
    /// The first GPU that wgpu reaches, or software that pretends to be one.
    Wgpu,
}

/// All that this machine has. The `gemm` path is what runs on processors without AVX-512.
pub(crate) fn ways() -> Vec<Way> {
    let isa = Isa::detect();
    let mut ways = vec![Way::Candle, Way::Own(Precision::F32, Isa::portable())];
    if isa.avx512() {
        ways.push(Way::Own(Precision::F32, isa));
    }
    if isa.bf16() {
        ways.push(Way::Own(Precision::Bf16, isa));
    }
    if isa.vnni() {
        ways.push(Way::Own(Precision::Int8, isa));
    }
    if cuda::devices().is_ok_and(|devices| !devices.is_empty()) {
        ways.extend([Way::Cuda(Precision::F32), Way::Cuda(Precision::Bf16)]);
    }
    if !wgpu::adapters().is_empty() {
        ways.push(Way::Wgpu);
    }
    ways
}

/// Frames for software that pretends to be a GPU: one takes seconds with the demo model, and a minute at full size.
const SOFTWARE_FRAMES: usize = 2;

/// What a precision may be off by before something is broken: the worst case here (random weights), doubled.
const BF16: Contract = Contract { cosine: 0.9999, difference: 0.025 };
const INT8: Contract = Contract { cosine: 0.9998, difference: 0.12 };

impl Way {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Candle => "candle f32".to_owned(),
            Self::Own(precision, isa) if !isa.avx512() => format!("own {precision}, gemm crate"),
            Self::Own(precision, _) => format!("own {precision}, AVX-512"),
            Self::Cuda(precision) => format!("cuda {precision}"),
            Self::Wgpu => "wgpu f32".to_owned(),
        }
    }

    /// The tolerance that is stated for it.
    pub(crate) fn tolerance(&self) -> Contract {
        match self {
            Self::Candle | Self::Own(Precision::F32, _) | Self::Cuda(Precision::F32) | Self::Wgpu => F32,
            Self::Own(Precision::Bf16, _) | Self::Cuda(_) => BF16,
            Self::Own(Precision::Int8, _) => INT8,
        }
    }

    /// Whether a server would give these embeddings the space of f32.
    pub(crate) fn shares_space(&self, agreement: &Agreement) -> bool {
        match self {
            Self::Candle | Self::Own(Precision::F32, _) | Self::Cuda(Precision::F32) | Self::Wgpu => true,
            Self::Own(..) | Self::Cuda(_) => agreement.within(&SHARED),
        }
    }

    /// Loads a model.
    pub(crate) fn open(&self, config: &Config, weights: &Weights) -> anyhow::Result<Open> {
        let weights: Weights = weights
            .iter()
            .filter(|(name, _)| !name.starts_with("decoder."))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        Ok(match *self {
            Self::Candle => {
                let model = Model::from_weights(config, weights, &Device::Cpu)?;
                Open::Candle(Box::new(CandleBackend::new(model, select(DeviceChoice::Cpu)?)))
            }
            Self::Own(precision, isa) => {
                let threads = std::thread::available_parallelism().map_or(1, Into::into);
                let setup = Setup { precision, isa, threads, batch: super::BATCH };
                Open::Own(Box::new(Encoder::new(config, &weights, setup)?))
            }
            Self::Cuda(precision) => {
                let setup = cuda::Setup { device: 0, precision, batch: super::BATCH };
                Open::Cuda(Box::new(cuda::Encoder::new(config, &weights, setup)?))
            }
            Self::Wgpu => {
                let setup = wgpu::Setup { adapter: 0, batch: super::BATCH };
                Open::Wgpu(Box::new(wgpu::Encoder::new(config, &weights, setup)?))
            }
        })
    }
}

/// A loaded model.
pub(crate) enum Open {
    Candle(Box<CandleBackend>),
    Own(Box<Encoder>),
    Cuda(Box<cuda::Encoder>),
    Wgpu(Box<wgpu::Encoder>),
}

impl Open {
    /// As many of these frames as there is time for.
    pub(crate) fn few<'a>(&self, frames: &'a [Arc<Rgb>]) -> &'a [Arc<Rgb>] {
        match self {
            Self::Wgpu(encoder) if encoder.is_software() => &frames[..frames.len().min(SOFTWARE_FRAMES)],
            _ => frames,
        }
    }

    /// Encodes frames in batches of `batch`, with their latent tokens.
    pub(crate) fn encode(&mut self, frames: &[Arc<Rgb>], batch: usize) -> anyhow::Result<Vec<Encoded>> {
        let mut all = Vec::with_capacity(frames.len());
        for frames in frames.chunks(batch) {
            all.extend(match self {
                Self::Candle(backend) => backend.encode(frames, true)?,
                Self::Own(encoder) => encoder.frames(frames, true),
                Self::Cuda(encoder) => encoder.frames(frames, true)?,
                Self::Wgpu(encoder) => encoder.frames(frames, true)?,
            });
        }
        Ok(all)
    }
}
