//! Honest evaluation: what a head is worth on frames later than those it learned from, beside what simple peers make
//! of the same labels.
//!
//! ```text
//! labels + split.toml ─► draws of n labels ─┬─► heads::train ─► head file ─► answers ─┐
//!                                           └─► peers on pixels ───────────► answers ─┼─► scores with intervals
//!                        test rows ─────────────────────────────────────────► truths ─┘    │
//!                                                        verdict, goals, contact sheet ◄───┘
//! ```
//! Labels are drawn from the pool; frames without labels come from the pool, too. Test frames are answered and nothing
//! else: no background, no normalisation and no choice of strength ever sees them.

pub mod ablate;
pub mod baseline;
pub mod bench;
pub mod compare;
pub mod curve;
pub mod draw;
pub mod error;
pub mod folder;
pub(crate) mod font;
pub mod goal;
mod pixels;
pub mod report;
mod ridge;
pub mod score;
pub mod sheet;
pub mod table;
pub mod verdict;

pub use bench::Bench;
pub use curve::{Plan, Progress};
pub use error::EvalError;
pub use folder::{Folder, Split};
pub use report::Evaluation;
pub use table::Style;
