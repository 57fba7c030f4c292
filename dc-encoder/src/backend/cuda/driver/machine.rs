//! A plan on a card: its memory, its kernels, and its steps, one by one or as a graph.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{
    CudaEvent, CudaFunction, CudaGraph, CudaSlice, DriverError, LaunchConfig, PinnedHostSlice,
    PushKernelArg as _, result,
};

use super::device::Device;
use super::products::{Place, Products, WORKSPACE};
use super::program;
use crate::backend::cuda::CudaError;
use crate::backend::cuda::plan::{Launch, Memory, Plan, Step};

/// A plan on a card.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Machine {
    products: Products,
    functions: Vec<CudaFunction>,
    memory: Vec<CudaSlice<u8>>,
    /// Where each memory begins.
    addresses: Vec<u64>,
    workspace: u64,
    device: Device,
}

/// Steps for one number of frames, ready to run at once.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Graph(Captured);

struct Captured(CudaGraph);

// SAFETY: a graph may be used from any thread, by one at a time: it is reached through `&mut` of its encoder.
unsafe impl Send for Captured {}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Captured")
    }
}

/// Memory of the processor's that a card reads and writes by itself, and when it has done so.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Pinned {
    bytes: PinnedHostSlice<u8>,
    /// The last copy from or to it.
    copied: CudaEvent,
    /// The last step that read what was copied from it.
    used: CudaEvent,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A card may still copy from or to memory that is about to be freed. A failure here was reported before.
        let _ = self.copied.synchronize();
    }
}

impl Machine {
    /// Makes memory, fills it, and compiles kernels; what the plan's memory held at first is then only on the card.
    ///
    /// # Errors
    /// Too little memory, kernels that do not compile, a card that fails.
    pub(in crate::backend::cuda) fn new(device: Device, plan: &mut Plan) -> Result<Self, CudaError> {
        let failed = |error: DriverError| CudaError::failed(&device.name, &error);
        let functions = program::load(&device, &plan.program)?;
        let needed = WORKSPACE + plan.memory.iter().map(|piece| piece.bytes).sum::<usize>();
        let (free, _) = device.context.mem_get_info().map_err(failed)?;
        if needed > free {
            return Err(CudaError::Memory { device: device.name, needed: needed as u64, free: free as u64 });
        }
        let mut memory = Vec::with_capacity(plan.memory.len() + 1);
        for piece in &mut plan.memory {
            let full =
                |error| CudaError::failed(&device.name, &format!("memory for {}: {error}", piece.label));
            let mut slice = device.compute.alloc_zeros::<u8>(piece.bytes).map_err(full)?;
            let contents = std::mem::take(&mut piece.contents);
            if !contents.is_empty() {
                let mut head = slice.slice_mut(..contents.len());
                device.compute.memcpy_htod(&contents, &mut head).map_err(failed)?;
                // The contents are freed below: the copy must not outlive them.
                device.compute.synchronize().map_err(failed)?;
            }
            memory.push(slice);
        }
        memory.push(device.compute.alloc_zeros::<u8>(WORKSPACE).map_err(failed)?);
        device.compute.synchronize().map_err(failed)?;
        let address = |slice: &CudaSlice<u8>| cudarc::driver::DevicePtr::device_ptr(slice, &device.compute).0;
        let mut addresses: Vec<u64> = memory.iter().map(address).collect();
        let workspace = addresses.pop().expect("the workspace is the last");
        let products = Products::new().map_err(|error| CudaError::failed(&device.name, &error))?;
        Ok(Self { products, functions, memory, addresses, workspace, device })
    }

    /// The card in words.
    pub(in crate::backend::cuda) fn name(&self) -> &str {
        &self.device.name
    }

    /// Its compute capability.
    pub(in crate::backend::cuda) fn capability(&self) -> (i32, i32) {
        self.device.capability
    }

    fn failed(&self, error: DriverError) -> CudaError {
        CudaError::failed(&self.device.name, &error)
    }

    /// Runs steps for `frames` frames, after all that was asked for before.
    pub(in crate::backend::cuda) fn run<'s>(
        &mut self,
        steps: impl IntoIterator<Item = &'s Step>,
        frames: usize,
    ) -> Result<(), CudaError> {
        self.device.context.bind_to_thread().map_err(|error| self.failed(error))?;
        for step in steps {
            match step {
                Step::Launch(launch) => self.launch(launch, frames).map_err(|error| self.failed(error))?,
                Step::Product(product) => {
                    let place =
                        Place { stream: self.device.compute.cu_stream().cast(), workspace: self.workspace };
                    let Self { products, addresses, .. } = self;
                    let enqueued =
                        products.enqueue(&product.gemm(frames), place, |memory| addresses[memory.0]);
                    enqueued.map_err(|error| CudaError::failed(&self.device.name, &error))?;
                }
            }
        }
        Ok(())
    }

    /// Waits for everything that was asked for.
    pub(in crate::backend::cuda) fn finish(&self) -> Result<(), CudaError> {
        self.device.compute.synchronize().map_err(|error| self.failed(error))
    }

    fn launch(&self, launch: &Launch, frames: usize) -> Result<(), DriverError> {
        let [x, y, z] = launch.grid.blocks(frames);
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.threads as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let arguments: Vec<u64> = launch.arguments.iter().map(|memory| self.addresses[memory.0]).collect();
        let mut builder = self.device.compute.launch_builder(&self.functions[launch.kernel]);
        arguments.iter().for_each(|address| {
            builder.arg(address);
        });
        // SAFETY: a launch of a plan's has the arguments that its kernel takes, pointers all, and stays inside them.
        unsafe { builder.launch(config) }.map(|_| ())
    }

    /// The same steps as a graph; they must have run once, so that nothing is loaded while they are captured. `None` where
    /// the card captures nothing.
    pub(in crate::backend::cuda) fn capture<'s>(
        &mut self,
        steps: impl IntoIterator<Item = &'s Step>,
        frames: usize,
    ) -> Result<Option<Graph>, CudaError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.device.compute.begin_capture(mode).map_err(|error| self.failed(error))?;
        let ran = self.run(steps, frames);
        // A capture ends in any case: a stream that is left in it does nothing any more.
        let captured = self.device.compute.end_capture(CUgraphInstantiate_flags(0));
        ran?;
        let captured = captured.map_err(|error| self.failed(error))?;
        Ok(captured.map(|graph| Graph(Captured(graph))))
    }

    /// Runs a graph, after all that was asked for before.
    pub(in crate::backend::cuda) fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        graph.0.0.launch().map_err(|error| self.failed(error))
    }

    /// Memory for copies of at most `bytes` bytes; `upload` where the processor only writes it.
    pub(in crate::backend::cuda) fn pinned(&self, bytes: usize, upload: bool) -> Result<Pinned, CudaError> {
        let flags = if upload { cudarc::driver::sys::CU_MEMHOSTALLOC_WRITECOMBINED } else { 0 };
        let context = &self.device.context;
        let make = || {
            // SAFETY: bytes of any value are bytes; nothing is read before it is written or copied.
            let bytes = unsafe { context.alloc_pinned_with_flags::<u8>(bytes, flags) }?;
            Ok(Pinned { bytes, copied: context.new_event(None)?, used: context.new_event(None)? })
        };
        make().map_err(|error| self.failed(error))
    }

    /// Waits for the last copy from it; it may then be written.
    pub(in crate::backend::cuda) fn wait(&self, pinned: &Pinned) -> Result<(), CudaError> {
        pinned.copied.synchronize().map_err(|error| self.failed(error))
    }

    /// Some of its bytes, to be written: ones that no copy reads.
    pub(in crate::backend::cuda) fn part<'p>(
        &self,
        pinned: &'p mut Pinned,
        range: std::ops::Range<usize>,
    ) -> Result<&'p mut [u8], CudaError> {
        Ok(&mut pinned.bytes.as_mut_slice().map_err(|error| self.failed(error))?[range])
    }

    /// Copies bytes `range` to the same place of `to`, beside what is computed, once nothing reads the last ones any more.
    /// What is computed after this waits for it.
    pub(in crate::backend::cuda) fn upload(
        &self,
        pinned: &Pinned,
        to: Memory,
        range: std::ops::Range<usize>,
    ) -> Result<(), CudaError> {
        let Device { compute, copies, .. } = &self.device;
        let copy = || {
            copies.wait(&pinned.used)?;
            let to = self.addresses[to.0] + range.start as u64;
            let from = &pinned.bytes.as_slice()?[range];
            // SAFETY: the memory is as large as the range, and neither is touched before `copied` says so.
            unsafe { result::memcpy_htod_async(to, from, copies.cu_stream()) }?;
            pinned.copied.record(copies)?;
            compute.wait(&pinned.copied)
        };
        copy().map_err(|error| self.failed(error))
    }

    /// Notes that what was uploaded from it has been read by the steps so far.
    pub(in crate::backend::cuda) fn used(&self, pinned: &Pinned) -> Result<(), CudaError> {
        pinned.used.record(&self.device.compute).map_err(|error| self.failed(error))
    }

    /// Asks for the first `bytes` bytes of a memory, after the steps so far.
    pub(in crate::backend::cuda) fn download(
        &self,
        from: Memory,
        bytes: usize,
        pinned: &mut Pinned,
    ) -> Result<(), CudaError> {
        let compute = &self.device.compute;
        let mut copy = || {
            let to = &mut pinned.bytes.as_mut_slice()?[..bytes];
            // SAFETY: both are as large, and nobody reads them before `copied` says so.
            unsafe { result::memcpy_dtoh_async(to, self.addresses[from.0], compute.cu_stream()) }?;
            pinned.copied.record(compute)
        };
        copy().map_err(|error| self.failed(error))
    }

    /// The first `bytes` bytes that were asked for; waits for them.
    pub(in crate::backend::cuda) fn arrived<'p>(
        &self,
        pinned: &'p Pinned,
        bytes: usize,
    ) -> Result<&'p [u8], CudaError> {
        let wait = || {
            pinned.copied.synchronize()?;
            pinned.bytes.as_slice()
        };
        Ok(&wait().map_err(|error| self.failed(error))?[..bytes])
    }

    /// Writes bytes to the beginning of a memory, and waits until they are there.
    pub(in crate::backend::cuda) fn write(&mut self, to: Memory, bytes: &[u8]) -> Result<(), CudaError> {
        let Self { device, memory, .. } = self;
        let mut write = || {
            let mut head = memory[to.0].slice_mut(..bytes.len());
            device.compute.memcpy_htod(bytes, &mut head)?;
            device.compute.synchronize()
        };
        write().map_err(|error| CudaError::failed(&device.name, &error))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Steps may still run, in memory that is about to be freed. A failure here was reported before.
        let _ = self.device.copies.synchronize();
        let _ = self.device.compute.synchronize();
    }
}
