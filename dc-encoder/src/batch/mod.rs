//! From submitted frames to batches on the device.
//!
//! ```text
//! session ─► Pipeline ┬─ waiting (Queue) ─► decode workers ─┐
//!    ▲                └─ ready   (Queue) ◄──────────────────┘
//!    │                        └─► driver (one thread owns the backend) ─► batch ─► backend
//!    └── Ticket ◄─── one outcome per frame ────────────────────────────────────────┘
//! ```
//! [`policy`] decides which frames wait, leave and go next; [`Pipeline`] holds the two queues and gives every
//! frame exactly one [`Outcome`]; [`driver`] feeds the device. There is no fixed wait: an idle device takes
//! what is there, a busy one lets the queue grow into the next batch.

pub mod driver;
mod frame;
mod pipeline;
pub mod policy;

pub(crate) use frame::internal;
pub use frame::{Frame, Outcome, Ready, Rejection, Timings, Waiting};
pub use pipeline::{Counts, Pipeline, Settings, Ticket};
pub use policy::{CameraKey, FrameId};
