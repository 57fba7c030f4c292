//! The agent on the camera box. Modules in the order a frame passes them:
//!
//! ```text
//! capture ─► latest ─► uplink ══ QUIC ══► (dc-encoder) ══► heads ─► sinks
//! ```

pub mod capture;
pub mod check;
pub mod cli;
pub mod config;
pub mod enroll;
pub mod heads;
pub mod latency;
pub mod latest;
pub mod ledger;
pub mod memory;
pub mod meter;
pub mod metrics;
pub mod pace;
pub mod releases;
pub mod run;
pub mod sinks;
pub mod uplink;
pub mod work;
