//! A card: which ones there are, and one of them open.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DriverError};

use super::library;
use crate::backend::cuda::CudaError;
use crate::backend::{DeviceChoice, DeviceError};

/// An open card.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Device {
    pub(super) context: Arc<CudaContext>,
    /// Where everything is computed, in order.
    pub(super) compute: Arc<CudaStream>,
    /// Where frames are copied meanwhile.
    pub(super) copies: Arc<CudaStream>,
    /// In words: `NVIDIA H200, CUDA device 0`.
    pub(in crate::backend::cuda) name: String,
    /// Such as (9, 0).
    pub(in crate::backend::cuda) capability: (i32, i32),
}

/// The oldest cards that have the tensor core instructions of bf16.
const OLDEST: (i32, i32) = (8, 0);

impl Device {
    /// Opens the card with this number.
    ///
    /// # Errors
    /// Libraries that do not load, a driver that does not start, no such card, or one that is too old.
    pub(in crate::backend::cuda) fn open(index: usize) -> Result<Self, CudaError> {
        let unusable = |reason| DeviceError { device: DeviceChoice::Cuda(index), reason };
        let names = devices().map_err(unusable)?;
        let Some(name) = names.get(index) else { return Err(unusable(beyond(&names)).into()) };
        let name = format!("{name}, CUDA device {index}");
        let failed = |error: DriverError| CudaError::failed(&name, &error);
        let context = CudaContext::new(index).map_err(failed)?;
        let capability = context.compute_capability().map_err(failed)?;
        if capability < OLDEST {
            let reason = format!(
                "{name} has compute capability {}.{}, and {}.{} is the least",
                capability.0, capability.1, OLDEST.0, OLDEST.1
            );
            return Err(unusable(reason).into());
        }
        // SAFETY: streams are ordered by this backend's own events, and memory lives as long as its machine.
        unsafe { context.disable_event_tracking() };
        let compute = context.new_stream().map_err(failed)?;
        let copies = context.new_stream().map_err(failed)?;
        Ok(Self { compute, copies, context, capability, name })
    }
}

/// The cards of this machine in words, in the order of their numbers, or why there is none.
pub(in crate::backend::cuda) fn devices() -> Result<Vec<String>, String> {
    if let Some(missing) = library::missing() {
        return Err(missing);
    }
    let failed = |error: DriverError| format!("the NVIDIA driver says {error}");
    let count = CudaContext::device_count().map_err(failed)?;
    let name = |index| {
        let device = cudarc::driver::result::device::get(index)?;
        cudarc::driver::result::device::get_name(device)
    };
    (0..count).map(name).collect::<Result<_, DriverError>>().map_err(failed)
}

/// Why there is no card with a number, given the ones that there are.
fn beyond(names: &[String]) -> String {
    if names.is_empty() {
        return "the NVIDIA driver finds no card".to_owned();
    }
    let numbered: Vec<String> =
        names.iter().enumerate().map(|(index, name)| format!("cuda:{index} = {name}")).collect();
    format!("there is only {}", numbered.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_beyond_the_cards_lists_them() {
        let names = ["NVIDIA H200".to_owned(), "NVIDIA L4".to_owned()];
        assert_eq!(beyond(&names), "there is only cuda:0 = NVIDIA H200; cuda:1 = NVIDIA L4");
        assert!(beyond(&[]).contains("no card"));
    }
}
