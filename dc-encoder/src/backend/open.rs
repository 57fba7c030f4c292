//! Which backend runs a model, in which precision, and why.

use std::path::Path;

use super::candle::CandleBackend;
use super::cpu::CpuBackend;
use super::cuda::{self, CudaBackend};
use super::device::{DeviceChoice, select};
use super::wgpu::WgpuBackend;
use super::{Backend, OpenError, Precision};
use crate::model::file::{self, Weights};
use crate::model::{Config, Model};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// This program's own path on every device
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
    /// auto (cuda:0 if it works, else cpu), cpu, cuda:N, or wgpu:N (any GPU with a Vulkan driver)
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// What computes: this program's own path, or candle
    #[arg(long = "backend", env = "FTH_BACKEND", value_enum, default_value_t)]
    engine: Engine,
    /// Number format of the products: f32 everywhere, bf16 on the processor and on CUDA, int8 on the processor
    #[arg(long, env = "FTH_PRECISION", value_enum, default_value_t)]
    precision: Precision,
}

impl From<ChoiceArgs> for Choice {
    fn from(args: ChoiceArgs) -> Self {
        Self { device: args.device, engine: args.engine, precision: args.precision }
    }
}

/// What a choice means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The first CUDA device if it works, else the processor.
    Best,
    Cuda(usize),
    Wgpu(usize),
    Candle,
    /// The processor's own path, and why.
    Processor(&'static str),
}

impl Choice {
    /// # Errors
    /// A combination that does not exist.
    fn way(self) -> Result<Way, OpenError> {
        let Self { device, engine, precision } = self;
        let refused = |what, remedy| Err(OpenError::Combination { what, remedy });
        match (device, engine, precision) {
            (DeviceChoice::Wgpu(index), Engine::Auto, Precision::F32) => Ok(Way::Wgpu(index)),
            (DeviceChoice::Wgpu(_), Engine::Auto, _) => refused(
                format!("{precision} on {device}"),
                "leave `--backend` and `--precision` out, or use `--device cpu`",
            ),
            (DeviceChoice::Wgpu(_), Engine::Candle, _) => refused(
                format!("`--backend candle` on {device}"),
                "leave `--backend` and `--precision` out, or use `--device cpu`",
            ),
            (DeviceChoice::Cuda(_) | DeviceChoice::Wgpu(_), Engine::Cpu, _) => refused(
                format!("`--backend cpu` on {device}"),
                "leave `--backend` out, or use `--device cpu`",
            ),
            (_, Engine::Candle, Precision::F32) => Ok(Way::Candle),
            (_, Engine::Candle, _) => refused(
                format!("candle in {precision}"),
                "leave `--backend` out: this program's own paths have it",
            ),
            (DeviceChoice::Cuda(_), Engine::Auto, Precision::Int8) => {
                refused(format!("{precision} on {device}"), "use `--precision bf16`, or `--device cpu`")
            }
            (DeviceChoice::Cuda(index), Engine::Auto, _) => Ok(Way::Cuda(index)),
            (DeviceChoice::Auto | DeviceChoice::Cpu, Engine::Cpu, _) => Ok(Way::Processor("asked for")),
            (DeviceChoice::Cpu, Engine::Auto, _) => Ok(Way::Processor("the processor's own path")),
            (DeviceChoice::Auto, Engine::Auto, Precision::Int8) => {
                Ok(Way::Processor("auto: only the processor has int8"))
            }
            (DeviceChoice::Auto, Engine::Auto, _) => Ok(Way::Best),
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
    let precision = choice.precision;
    let way = choice.way()?;
    if way == Way::Candle {
        let opened = select(choice.device)?;
        return Ok(Box::new(CandleBackend::new(Model::load(model_dir, &opened.device)?, opened)));
    }
    let (config, weights) = file::load(model_dir)?;
    let processor = |weights, reason| {
        let backend = CpuBackend::new(&config, weights, precision, reason)?;
        Ok(Box::new(backend) as Box<dyn Backend>)
    };
    match way {
        Way::Cuda(index) => {
            Ok(Box::new(CudaBackend::new(&config, weights, (index, precision), "asked for")?))
        }
        Way::Wgpu(index) => Ok(Box::new(WgpuBackend::new(&config, weights, index)?)),
        Way::Processor(reason) => processor(weights, reason.to_owned()),
        Way::Best | Way::Candle => match best(&config, &weights, precision) {
            Ok(backend) => Ok(Box::new(backend)),
            Err(why) => processor(weights, format!("auto: no CUDA device ({why}), and wgpu only by name")),
        },
    }
}

/// The model on the first CUDA device, or in words why not.
fn best(config: &Config, weights: &Weights, precision: Precision) -> Result<CudaBackend, String> {
    cuda::devices()?.first().ok_or("the NVIDIA driver finds no card")?;
    let reason = "auto: the first CUDA device works";
    CudaBackend::new(config, weights.clone(), (0, precision), reason).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(device: DeviceChoice, engine: Engine, precision: Precision) -> Option<Way> {
        Choice { device, engine, precision }.way().ok()
    }

    #[test]
    fn a_choice_means_one_way_or_does_not_exist() {
        use DeviceChoice::{Auto, Cpu, Cuda, Wgpu};
        use Precision::{Bf16, F32, Int8};
        let own = |reason| Some(Way::Processor(reason));
        for (device, engine, precision, want) in [
            (Auto, Engine::Auto, F32, Some(Way::Best)),
            (Auto, Engine::Auto, Bf16, Some(Way::Best)),
            (Auto, Engine::Auto, Int8, own("auto: only the processor has int8")),
            (Auto, Engine::Cpu, F32, own("asked for")),
            (Auto, Engine::Candle, F32, Some(Way::Candle)),
            (Cpu, Engine::Auto, Int8, own("the processor's own path")),
            (Cpu, Engine::Candle, F32, Some(Way::Candle)),
            (Cpu, Engine::Candle, Bf16, None),
            (Cuda(1), Engine::Auto, F32, Some(Way::Cuda(1))),
            (Cuda(1), Engine::Auto, Bf16, Some(Way::Cuda(1))),
            (Cuda(1), Engine::Auto, Int8, None),
            (Cuda(1), Engine::Candle, F32, Some(Way::Candle)),
            (Cuda(1), Engine::Cpu, F32, None),
            (Wgpu(1), Engine::Auto, F32, Some(Way::Wgpu(1))),
            (Wgpu(1), Engine::Auto, Bf16, None),
            (Wgpu(1), Engine::Candle, F32, None),
            (Wgpu(1), Engine::Cpu, F32, None),
        ] {
            assert_eq!(way(device, engine, precision), want, "{device} {engine:?} {precision}");
        }
    }

    #[test]
    fn what_does_not_exist_is_named_with_its_remedy() {
        let error =
            |device, engine, precision| Choice { device, engine, precision }.way().unwrap_err().to_string();
        let int8 = error(DeviceChoice::Cuda(2), Engine::Auto, Precision::Int8);
        assert!(int8.contains("int8 on cuda:2") && int8.contains("--precision bf16"), "{int8}");
        let cpu = error(DeviceChoice::Cuda(2), Engine::Cpu, Precision::F32);
        assert!(cpu.contains("`--backend cpu` on cuda:2") && cpu.contains("--device cpu"), "{cpu}");
    }
}
