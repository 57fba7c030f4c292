//! Heads: tiny networks from an embedding to an answer, one safetensors file each.
//!
//! ```text
//! file ─► limits ─► manifest (JSON in the metadata) ─► tensors checked ─► Head
//! embedding (or latent tokens) ─► Head::run ─► value and interval
//! ```
//! A head is read and written here, and run here, on the CPU. Training is `dc-encoder`'s.

mod combine;
mod dense;
mod departures;
mod error;
mod file;
mod kernel;
pub mod limits;
mod manifest;
mod maps;
mod network;
mod run;
mod tensors;
mod trees;

pub use departures::{fired_by_row, largest_departures};
pub use error::{HeadError, LoadError, SpaceMismatch};
pub use file::{TensorData, write};
pub use manifest::{
    Combine, FORMAT, Grid, HeldOut, Input as InputSpec, IntervalOffsets, Kind, Likeness, Manifest, Output,
    OutputKind, Response, SelfTestTolerance, Task, Tokens, Trained, Trees, is_class_name,
};
pub use maps::{MapShape, pyramid, scales};
pub use run::{Head, Input, Prediction, seal};
pub use trees::NO_SECOND;
