//! Training heads from labels, in seconds, on cached embeddings.
//!
//! ```text
//! embeddings file ─┐
//!                  ├─► join (labels) ─► learner: ridge │ mlp │ tokens ─► head file ─► score
//! labels file ─────┘                    cross-validated in folds contiguous in time
//! ```
//! Neighbouring frames of a fixed camera are nearly the same frame. Everything here that holds frames out holds
//! out contiguous stretches of time ([`folds`]), and everything that states an uncertainty resamples blocks of
//! time ([`score`]).

pub mod background;
pub mod error;
pub mod folds;
pub mod join;
pub mod labels;
mod learn;
pub mod network;
pub mod report;
pub mod ridge;
pub mod score;
pub mod target;
pub mod tokens;
pub mod train;
pub(crate) mod tridiagonal;

pub use error::TrainError;
pub use labels::{LabelError, Labels, Rows};
pub use report::Report;
pub use train::{KindChoice, Options, Trained, save, train};
