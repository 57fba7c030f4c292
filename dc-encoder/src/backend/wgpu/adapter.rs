//! Which adapters this machine has, the best first.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wgpu::{Adapter, AdapterInfo, Backends, DeviceType, Instance, InstanceDescriptor};

use crate::backend::{DeviceChoice, DeviceError};

/// The result of a future that has nothing to wait for, as all of wgpu's outside of browsers.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// The adapters that a driver answers for: discrete cards, then integrated ones, software last.
fn all() -> Vec<Adapter> {
    let descriptor =
        InstanceDescriptor { backends: Backends::all(), ..InstanceDescriptor::new_without_display_handle() };
    let mut adapters = now(Instance::new(descriptor).enumerate_adapters(Backends::all()));
    adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    adapters
}

fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

/// An adapter in words: `llvmpipe (LLVM 15.0.6, 256 bits), software Vulkan`.
pub(super) fn describe(info: &AdapterInfo) -> String {
    let software = if info.device_type == DeviceType::Cpu { "software " } else { "" };
    let interface = match info.backend {
        wgpu::Backend::Vulkan => "Vulkan".to_owned(),
        other => other.to_string(),
    };
    format!("{}, {software}{interface}", info.name)
}

/// The adapters of this machine in words, in the order of their numbers.
pub fn adapters() -> Vec<String> {
    all().iter().map(|adapter| describe(&adapter.get_info())).collect()
}

/// The adapter with this number.
///
/// # Errors
/// There is no such adapter: what there is, and what to install.
pub(super) fn find(index: usize) -> Result<Adapter, DeviceError> {
    let mut adapters = all();
    if index < adapters.len() {
        return Ok(adapters.swap_remove(index));
    }
    let names: Vec<String> = adapters.iter().map(|adapter| describe(&adapter.get_info())).collect();
    Err(DeviceError { device: DeviceChoice::Wgpu(index), reason: missing(&names) })
}

/// Why there is no adapter with a number, given the ones that there are.
fn missing(names: &[String]) -> String {
    if names.is_empty() {
        return "no Vulkan driver answers (Debian: the card's own, or mesa-vulkan-drivers, which has one in software; and \
                libvulkan1)"
            .to_owned();
    }
    let numbered: Vec<String> =
        names.iter().enumerate().map(|(index, name)| format!("wgpu:{index} = {name}")).collect();
    format!("there is only {}", numbered.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_adapter_says_what_there_is_and_what_to_install() {
        assert!(missing(&[]).contains("mesa-vulkan-drivers"));
        let two = missing(&["a card, Vulkan".to_owned(), "llvmpipe, software Vulkan".to_owned()]);
        assert_eq!(two, "there is only wgpu:0 = a card, Vulkan; wgpu:1 = llvmpipe, software Vulkan");
        let error = find(99).unwrap_err().to_string();
        assert!(error.contains("wgpu:99") && error.contains("--device cpu"), "{error}");
    }
}
