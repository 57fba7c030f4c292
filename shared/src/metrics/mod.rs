//! Numbers for Prometheus: what both programs count, written in its text format and served over HTTP.
//!
//! ```text
//! frame path ─► Histogram, counters ─► Page (text format 0.0.4) ─► serve ─► GET /metrics
//! ```

mod counters;
mod histogram;
mod page;
mod serve;

pub use counters::Counters;
pub use histogram::{FRAMES, Histogram, SECONDS};
pub use page::{Family, Kind, Labels, Page};
pub use serve::{Endpoint, MetricsError, Serving, serve};
