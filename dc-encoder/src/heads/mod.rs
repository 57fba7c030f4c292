//! Training heads from labels, in seconds, on cached embeddings.
//!
//! ```text
//! embeddings file ─┐
//!                  ├─► join (labels) ─► kinds: departures │ linear │ kernel │ trees │ mlp │ tokens ─► head file
//! labels file ─────┘                    cross-validated in folds contiguous in time, auto takes the best  ─► score
//! ```
//! Neighbouring frames of a fixed camera are nearly the same frame. Everything here that holds frames out holds
//! out contiguous stretches of time ([`folds`]), and everything that states an uncertainty resamples blocks of
//! time ([`score`]).

pub mod background;
mod classes;
mod departures;
pub mod error;
pub mod folds;
mod frames;
pub mod join;
mod kernel;
mod kinds;
pub mod labels;
mod learn;
pub mod measure;
pub mod network;
pub mod report;
pub mod ridge;
pub mod score;
pub mod target;
pub mod tokens;
pub mod train;
pub(crate) mod trees;
pub(crate) mod tridiagonal;

pub(crate) use classes::{as_label, listed};
pub use error::TrainError;
pub use kinds::{KindChoice, Tried};
pub use labels::{LabelError, Labels, Rows};
pub use measure::Measure;
pub use report::Report;
pub use train::{Options, Trained, save, train};
