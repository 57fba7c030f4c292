//! Steps of a forward pass: a kernel, its buffers, and how many workgroups it takes for a batch.

use wgpu::{BindGroup, BindGroupDescriptor, BindGroupEntry, Buffer, ComputePass, ComputePipeline};

use super::gpu::{Constant, Gpu, Kernels};

/// The workgroups of a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grid {
    /// `[across, rows of all frames / tile]`.
    Rows {
        /// Columns of workgroups.
        across: usize,
        /// Rows of one frame.
        per_frame: usize,
        /// Rows of one workgroup.
        tile: usize,
    },
    /// `[across, down, frames * each]`.
    Frames {
        /// Workgroups from left to right.
        across: usize,
        /// Workgroups from top to bottom.
        down: usize,
        /// Layers of one frame.
        each: usize,
    },
}

impl Grid {
    fn workgroups(self, frames: usize) -> [u32; 3] {
        match self {
            Self::Rows { across, per_frame, tile } => [across, (frames * per_frame).div_ceil(tile), 1],
            Self::Frames { across, down, each } => [across, down, frames * each],
        }
        .map(|count| count as u32)
    }
}

/// One kernel with its buffers.
#[derive(Debug)]
pub(super) struct Step {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    grid: Grid,
}

impl Step {
    /// Adds this step for `frames` frames to a pass.
    pub(super) fn record(&self, pass: &mut ComputePass<'_>, frames: usize) {
        let [x, y, z] = self.grid.workgroups(frames);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// What a step is made from.
pub(super) struct Recipe<'a> {
    pub(super) label: &'static str,
    /// Source of the kernel, part after part.
    pub(super) parts: &'a [&'a str],
    /// Compiled into it.
    pub(super) constants: &'a [(&'a str, Constant)],
    /// Bindings 0, 1, …
    pub(super) buffers: &'a [&'a Buffer],
    pub(super) grid: Grid,
}

/// Makes steps, and compiles each kernel once.
pub(super) struct Builder<'a> {
    pub(super) gpu: &'a Gpu,
    /// Most frames of a batch.
    pub(super) batch: usize,
    kernels: Kernels,
}

impl<'a> Builder<'a> {
    pub(super) fn new(gpu: &'a Gpu, batch: usize) -> Self {
        Self { gpu, batch, kernels: Kernels::default() }
    }

    pub(super) fn step(&mut self, recipe: &Recipe<'_>) -> Step {
        let Recipe { label, parts, constants, buffers, grid } = *recipe;
        let pipeline = self.kernels.get(self.gpu, label, parts, constants);
        let entries: Vec<BindGroupEntry<'_>> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bindings = self.gpu.device.create_bind_group(&BindGroupDescriptor {
            label: Some(label),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Step { pipeline, bindings, grid }
    }
}
