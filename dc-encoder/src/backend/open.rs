//! Which backend runs a model, in which precision, and why.

use std::path::Path;

use super::candle::CandleBackend;
use super::cpu::CpuBackend;
use super::device::{DeviceChoice, select};
use super::{Backend, OpenError, Precision};
use crate::model::{Model, file};

/// What computes on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `cpu` on the processor, candle on anything else
    #[default]
    Auto,
    /// This program's own path on the processor: packed weights, fused steps
    Cpu,
    /// candle: the reference, on the processor or a CUDA device, in f32
    Candle,
}

/// What a model is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// Where.
    pub device: DeviceChoice,
    /// Through which code.
    pub engine: Engine,
    /// In which number format.
    pub precision: Precision,
}

impl From<DeviceChoice> for Choice {
    fn from(device: DeviceChoice) -> Self {
        Self { device, ..Self::default() }
    }
}

/// The same as command-line arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ChoiceArgs {
    /// auto, cpu or cuda:N
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// What computes: this program's own path on the processor, or candle
    #[arg(long = "backend", env = "FTH_BACKEND", value_enum, default_value_t)]
    engine: Engine,
    /// Number format of the products; other than f32 on the processor only
    #[arg(long, env = "FTH_PRECISION", value_enum, default_value_t)]
    precision: Precision,
}

impl From<ChoiceArgs> for Choice {
    fn from(args: ChoiceArgs) -> Self {
        Self { device: args.device, engine: args.engine, precision: args.precision }
    }
}

impl Choice {
    /// Whether this choice means the processor's own path, and in words why; `cuda` says whether a CUDA device works.
    ///
    /// # Errors
    /// A combination that does not exist.
    fn own_path(self, cuda: bool) -> Result<Option<String>, OpenError> {
        let Self { device, engine, precision } = self;
        let processor = match device {
            DeviceChoice::Cpu => true,
            DeviceChoice::Cuda(_) => false,
            DeviceChoice::Auto => engine == Engine::Cpu || precision != Precision::F32 || !cuda,
        };
        match (engine, processor) {
            (Engine::Cpu, false) => Err(OpenError::Combination {
                what: "`--backend cpu` on a CUDA device".into(),
                remedy: "leave `--backend` out, or use `--device cpu`",
            }),
            (Engine::Candle, _) | (_, false) if precision != Precision::F32 => Err(OpenError::Combination {
                what: format!("candle in {precision}"),
                remedy: "only the processor's own path has it: use `--backend cpu --device cpu`",
            }),
            (Engine::Candle, _) | (_, false) => Ok(None),
            (Engine::Cpu, true) => Ok(Some("asked for".to_owned())),
            (Engine::Auto, true) if device == DeviceChoice::Cpu => {
                Ok(Some("the processor's own path".to_owned()))
            }
            (Engine::Auto, true) => Ok(Some("auto: no other device works here".to_owned())),
        }
    }
}

/// Opens a model folder with what `choice` asks for.
///
/// # Errors
/// A device that was asked for by name and cannot be used, a precision that is not to be had here, or a model folder
/// that is not whole.
pub fn open(model_dir: &Path, choice: impl Into<Choice>) -> Result<Box<dyn Backend>, OpenError> {
    let choice = choice.into();
    let opened = select(choice.device)?;
    let cuda = !matches!(opened.device, candle_core::Device::Cpu);
    match choice.own_path(cuda)? {
        None => Ok(Box::new(CandleBackend::new(Model::load(model_dir, &opened.device)?, opened))),
        Some(reason) => {
            let (config, weights) = file::load(model_dir)?;
            Ok(Box::new(CpuBackend::new(&config, weights, choice.precision, reason)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(device: DeviceChoice, engine: Engine, precision: Precision, cuda: bool) -> Option<bool> {
        Choice { device, engine, precision }.own_path(cuda).ok().map(|path| path.is_some())
    }

    #[test]
    fn the_processor_takes_its_own_path_unless_candle_is_asked_for() {
        use DeviceChoice::{Auto, Cpu, Cuda};
        use Precision::{Bf16, F32};
        assert_eq!(own(Auto, Engine::Auto, F32, false), Some(true));
        assert_eq!(own(Auto, Engine::Auto, F32, true), Some(false));
        assert_eq!(own(Auto, Engine::Auto, Bf16, true), Some(true));
        assert_eq!(own(Cpu, Engine::Auto, F32, true), Some(true));
        assert_eq!(own(Cpu, Engine::Candle, F32, false), Some(false));
        assert_eq!(own(Cuda(0), Engine::Auto, F32, true), Some(false));
        assert_eq!(own(Cuda(0), Engine::Cpu, F32, true), None);
        assert_eq!(own(Cuda(0), Engine::Auto, Bf16, true), None);
        assert_eq!(own(Cpu, Engine::Candle, Bf16, false), None);
    }
}
