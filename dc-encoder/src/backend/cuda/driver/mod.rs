//! CUDA itself: what loads, which cards there are, and a plan on one of them. Everything unsafe of this backend is here.
//!
//! ```text
//! library (what loads) ─► device (a card) ─► machine (a plan's memory, kernels and steps on it)
//!                          program (NVRTC) ──┤
//!                          products (cuBLASLt) ┘
//! ```
//! None of it has been run on a GPU yet. The invariants that its unsafe calls rest on:
//! - nothing is called before [`library::missing`] has found the library: cudarc panics otherwise;
//! - a [`machine::Machine`] owns its memory, kernels, streams and handles, and is used by one thread at a time (`&mut`);
//! - a plan's steps read and write inside its memory: the same plans run on the processor in tests, with guarded memory.
#![allow(unsafe_code)]

mod device;
mod library;
mod machine;
mod products;
mod program;

pub(super) use device::{Device, devices};
pub(super) use machine::{Graph, Machine, Pinned};
pub(super) use program::compile;
