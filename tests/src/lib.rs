//! Whole-system tests and what they need: a synthetic camera with known truth, and helpers that run the real
//! programs as processes. Nothing here is needed to run the product.
//!
//! ```text
//! plaza (frames with truth) ─► setup, process (dc-encoder, edge-agent as children) ─► answers ─► demo, tests
//! ```

pub mod age;
pub mod answers;
pub mod demo;
pub mod goals;
pub mod hls;
pub mod link;
pub mod netns;
pub mod plaza;
pub mod ports;
pub mod process;
pub mod setup;
