//! Which device runs the encoder, and why.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best device that works.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device by index.
    Cuda(usize),
    /// Any GPU that wgpu reaches, by index: Vulkan here.
    Wgpu(usize),
}

/// A `--device` that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {0:?}: use auto, cpu, cuda, cuda:N, wgpu or wgpu:N")]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseDeviceError(text.to_owned());
        let (kind, index) = text.split_once(':').unwrap_or((text, "0"));
        let index = || index.parse().map_err(|_| unknown());
        match (text, kind) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, "cuda") => Ok(Self::Cuda(index()?)),
            (_, "wgpu") => Ok(Self::Wgpu(index()?)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{device} cannot be used: {reason}; `--device cpu` always works, `--device auto` takes what does")]
pub struct DeviceError {
    /// The device asked for.
    pub device: DeviceChoice,
    /// What is missing.
    pub reason: String,
}

/// A device that opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// candle's handle.
    pub device: Device,
    /// In words: `CPU, 2 threads`.
    pub name: String,
    /// The compute path: `candle f32, AVX2 + FMA`.
    pub path: String,
    /// Why this one, and why not the others.
    pub reason: String,
}

/// Opens the device that `choice` asks for, for candle.
///
/// # Errors
/// A CUDA device that was asked for by name and cannot be used, or a device that candle does not have. `auto` and `cpu` always give a device.
pub fn select(choice: DeviceChoice) -> Result<Opened, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu("asked for".to_owned())),
        DeviceChoice::Cuda(index) => match cuda(index) {
            Ok(device) => Ok(opened_cuda(device, index, "asked for")),
            Err(reason) => Err(DeviceError { device: choice, reason }),
        },
        DeviceChoice::Wgpu(_) => Err(DeviceError {
            device: choice,
            reason: "this step computes through candle, which has no wgpu device".to_owned(),
        }),
        DeviceChoice::Auto => Ok(match cuda(0) {
            Ok(device) => opened_cuda(device, 0, "auto: the first CUDA device works"),
            Err(reason) => cpu(format!("auto: no CUDA device ({reason})")),
        }),
    }
}

fn cpu(reason: String) -> Opened {
    let threads = candle_core::utils::get_num_threads();
    Opened {
        device: Device::Cpu,
        name: format!("CPU, {threads} thread{}", if threads == 1 { "" } else { "s" }),
        path: format!("candle f32, {}", cpu_features()),
        reason,
    }
}

fn opened_cuda(device: Device, index: usize, reason: &str) -> Opened {
    Opened {
        device,
        name: format!("CUDA device {index}"),
        path: "candle f32, cuBLAS".to_owned(),
        reason: reason.to_owned(),
    }
}

/// The vector instructions that candle's matrix products can pick at run time.
fn cpu_features() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("F16C", std::arch::is_x86_feature_detected!("f16c")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("NEON", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];

    let names: Vec<_> = found.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect();
    if names.is_empty() { "scalar".to_owned() } else { names.join(" + ") }
}

/// A CUDA device, or in words why there is none.
fn cuda(index: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this step computes through candle, and this program was built without `--features cuda`; serving and \
                    embedding have CUDA in every build"
            .to_owned());
    }
    // candle panics, rather than fails, where the driver library is missing.
    std::panic::catch_unwind(|| Device::new_cuda(index))
        .map_err(|_| "the NVIDIA driver library (libcuda) does not load".to_owned())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse_and_print() {
        for (text, want) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("wgpu", DeviceChoice::Wgpu(0)),
            ("wgpu:1", DeviceChoice::Wgpu(1)),
        ] {
            let choice: DeviceChoice = text.parse().unwrap();
            assert_eq!(choice, want);
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), want);
        }
        let error = "gpu".parse::<DeviceChoice>().unwrap_err();
        assert!(error.to_string().contains("auto, cpu, cuda"), "{error}");
        for text in ["cuda:x", "wgpu:", "wgpu:-1", "cpu:0", "auto:1"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_always_gives_a_device_and_a_reason() {
        let opened = select(DeviceChoice::Auto).unwrap();
        assert!(opened.reason.starts_with("auto: "), "{}", opened.reason);
        assert!(!opened.path.is_empty());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_cuda_device_that_cannot_be_used_names_the_reason_and_the_remedy() {
        let error = select(DeviceChoice::Cuda(2)).unwrap_err().to_string();
        assert!(
            error.contains("cuda:2") && error.contains("--features cuda") && error.contains("--device cpu")
        );
    }
}
