//! An open device: its memory, its kernels, and what went wrong on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::NoUninit;
use wgpu::{
    Buffer, BufferAsyncError, BufferDescriptor, BufferUsages, ComputePipeline, ComputePipelineDescriptor,
    Device, DeviceDescriptor, DeviceType, PipelineCompilationOptions, PollType, Queue,
    ShaderModuleDescriptor, ShaderSource,
};

use super::WgpuError;
use super::adapter::{describe, find, now};

/// Rows of a matrix are rounded up to this, so that a product's tile never reads beyond.
pub(super) const TILE: usize = 64;
/// Numbers of a row are rounded up to this, with zeros, for the same reason.
pub(super) const STEPS: usize = 16;

/// The first thing that went wrong; everything after it follows from it.
type Fault = Arc<Mutex<Option<String>>>;

fn note(fault: &Fault, text: String) {
    fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// An open device.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: Device,
    pub(super) queue: Queue,
    /// The adapter in words.
    pub(super) name: String,
    /// Whether a processor pretends to be one.
    pub(super) software: bool,
    fault: Fault,
}

impl Gpu {
    /// Opens the adapter with this number, with all that it allows.
    pub(super) fn open(index: usize) -> Result<Self, WgpuError> {
        let adapter = find(index)?;
        let info = adapter.get_info();
        let (name, software) = (describe(&info), info.device_type == DeviceType::Cpu);
        let descriptor =
            DeviceDescriptor { required_limits: adapter.limits(), ..DeviceDescriptor::default() };
        let (device, queue) = now(adapter.request_device(&descriptor))
            .map_err(|error| WgpuError::Failed { adapter: name.clone(), reason: error.to_string() })?;
        let fault = Fault::default();
        let (uncaptured, lost) = (fault.clone(), fault.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&uncaptured, error.to_string())));
        device.set_device_lost_callback(move |_, text| note(&lost, format!("the device is lost: {text}")));
        Ok(Self { device, queue, name, software, fault })
    }

    /// An error of this device.
    pub(super) fn failed(&self, reason: impl ToString) -> WgpuError {
        WgpuError::Failed { adapter: self.name.clone(), reason: reason.to_string() }
    }

    /// What went wrong since the device was opened, if anything did.
    pub(super) fn check(&self) -> Result<(), WgpuError> {
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(self.failed(reason)),
        }
    }

    /// To be called when memory is mapped, or cannot be.
    pub(super) fn noting(&self) -> impl FnOnce(Result<(), BufferAsyncError>) + Send + 'static {
        let fault = self.fault.clone();
        move |result| {
            if let Err(error) = result {
                note(&fault, error.to_string());
            }
        }
    }

    /// Waits for everything that was given to the device.
    pub(super) fn wait(&self) -> Result<(), WgpuError> {
        self.device.poll(PollType::wait_indefinitely()).map_err(|error| self.failed(error))?;
        self.check()
    }

    /// Memory for `words` 32-bit numbers, all zero.
    pub(super) fn memory(&self, label: &str, words: usize) -> Buffer {
        self.buffer(label, words, BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC)
    }

    /// The same for other uses.
    pub(super) fn buffer(&self, label: &str, words: usize, usage: BufferUsages) -> Buffer {
        let size = 4 * words.max(1) as u64;
        self.device.create_buffer(&BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Memory that holds these numbers.
    pub(super) fn filled<T: NoUninit>(&self, label: &str, numbers: &[T]) -> Buffer {
        let buffer = self.memory(label, numbers.len());
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(numbers));
        buffer
    }
}

/// A matrix in the device's memory.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) buffer: Buffer,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Numbers from one row to the next.
    pub(super) stride: usize,
}

impl Matrix {
    /// Zeros `[rows, cols]`.
    pub(super) fn zeros(gpu: &Gpu, label: &str, rows: usize, cols: usize) -> Self {
        let stride = cols.next_multiple_of(STEPS);
        Self { buffer: gpu.memory(label, rows.next_multiple_of(TILE) * stride), rows, cols, stride }
    }

    /// Writes `[rows, cols]` numbers from row `first`.
    pub(super) fn write(&self, gpu: &Gpu, first: usize, numbers: &[f32]) {
        let mut padded = vec![0f32; numbers.len() / self.cols * self.stride];
        for (to, from) in padded.chunks_exact_mut(self.stride).zip(numbers.chunks_exact(self.cols)) {
            to[..self.cols].copy_from_slice(from);
        }
        gpu.queue.write_buffer(&self.buffer, 4 * (first * self.stride) as u64, bytemuck::cast_slice(&padded));
    }
}

/// A number that is compiled into a kernel: shapes are known when a model is opened.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constant {
    Whole(usize),
    Real(f32),
    Colour([f32; 3]),
}

impl Constant {
    fn line(self, name: &str) -> String {
        match self {
            Self::Whole(value) => format!("const {name} = {value}u;\n"),
            Self::Real(value) => format!("const {name}: f32 = {value:?};\n"),
            Self::Colour([r, g, b]) => format!("const {name} = vec3<f32>({r:?}, {g:?}, {b:?});\n"),
        }
    }
}

/// The kernels that were compiled so far, by their source.
#[derive(Debug, Default)]
pub(super) struct Kernels(HashMap<String, ComputePipeline>);

impl Kernels {
    /// The kernel of this source with these constants, compiled once.
    pub(super) fn get(
        &mut self,
        gpu: &Gpu,
        label: &str,
        parts: &[&str],
        constants: &[(&str, Constant)],
    ) -> ComputePipeline {
        let lines = constants.iter().map(|(name, value)| value.line(name));
        let source: String = lines.chain(parts.iter().map(|part| (*part).to_owned())).collect();
        if let Some(found) = self.0.get(&source) {
            return found.clone();
        }
        let module = gpu.device.create_shader_module(ShaderModuleDescriptor {
            label: Some(label),
            source: ShaderSource::Wgsl(source.as_str().into()),
        });
        let pipeline = gpu.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(label),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            // Every kernel writes what it shares before it reads it.
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..PipelineCompilationOptions::default()
            },
            cache: None,
        });
        self.0.insert(source, pipeline.clone());
        pipeline
    }
}
