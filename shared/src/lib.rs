//! What both sides of the wire must agree on.
//!
//! ```text
//! capture, frames ─► image ─► uplink, patches ══ wire, tls ══► preprocess ─► (encoder) ─► embedding ─► head
//! head file ─► release (signed) ─► the cameras that should run it
//! ```
//! `config`, `secret`, `telemetry`, `metrics`, `notify` and `report` serve both programs. The encoder, cameras and servers do not belong here.

pub mod capture;
pub mod config;
pub mod embedding;
pub mod enroll;
pub mod frames;
pub mod head;
pub mod image;
pub mod metrics;
pub mod notify;
pub mod patches;
pub mod preprocess;
pub mod release;
pub mod report;
pub mod secret;
pub mod telemetry;
pub mod tls;
pub mod uplink;
pub mod wire;

pub use telemetry::redact_url;
