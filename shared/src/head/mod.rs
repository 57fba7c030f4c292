//! Heads: tiny networks from an embedding to an answer, one safetensors file each.
//!
//! ```text
//! file ─► limits ─► manifest (JSON in the metadata) ─► tensors checked ─► Head
//! embedding (or latent tokens) ─► Head::run ─► value and interval
//! ```
//! A head is read and written here, and run here, on the CPU. Training is `dc-encoder`'s.

mod error;
mod file;
pub mod limits;
mod manifest;
mod network;
mod run;

pub use error::{HeadError, LoadError, SpaceMismatch};
pub use file::{TensorData, write};
pub use manifest::{
    FORMAT, Grid, HeldOut, Input as InputSpec, IntervalOffsets, Kind, Manifest, Output, OutputKind, Response,
    SelfTestTolerance, Task, Tokens, Trained,
};
pub use network::{append_rms, respond};
pub use run::{Head, Input, Prediction, seal};
