//! The number format of a training step.
//!
//! ```text
//! f32 (master weights) ─► bf16 matrices ─► products and activations in bf16 ─► f32 gradients ─► clip, AdamW in f32
//! ```
//! Mixed precision (Micikevicius et al., 2018), with the range of f32, so that no loss needs scaling (Kalamkar et al.,
//! 2019). LayerNorm, softmax, the residual stream, the readout and the loss stay f32; so do checkpoints.

use std::fmt;

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

/// What `--precision` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum PrecisionChoice {
    /// bf16 on a GPU that has it (NVIDIA's from compute capability 8.0), else f32.
    #[default]
    Auto,
    /// Everything in f32: the reference.
    F32,
    /// Products and activations in bf16; slower than f32 on the processor.
    Bf16,
}

impl PrecisionChoice {
    /// What this comes to on a device.
    pub fn on(self, device: &Device) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Auto if device.is_cuda() && multiplies_bf16(device).is_ok() => Precision::Bf16,
            Self::Auto => Precision::F32,
        }
    }
}

/// The number format of a step's products and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 4 bytes a number.
    #[default]
    F32,
    /// 2 bytes a number, with the range of f32 and fewer digits.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Asks the device itself: kernels for bf16 are missing from what candle builds for older ones.
fn multiplies_bf16(device: &Device) -> Result<()> {
    let ones = Tensor::ones((2, 2), DType::F32, device)?.to_dtype(DType::BF16)?;
    (ones.matmul(&ones)? + &ones)?.gelu_erf()?.to_dtype(DType::F32)?.to_vec2::<f32>().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_takes_f32_unless_it_is_asked() {
        let on_cpu = |choice: PrecisionChoice| choice.on(&Device::Cpu);
        assert_eq!(on_cpu(PrecisionChoice::Auto), Precision::F32);
        assert_eq!(on_cpu(PrecisionChoice::F32), Precision::F32);
        assert_eq!(on_cpu(PrecisionChoice::Bf16), Precision::Bf16);
    }

    #[test]
    fn what_auto_asks_of_a_device_is_what_training_does() {
        multiplies_bf16(&Device::Cpu).unwrap();
    }
}
