//! Embedding many frames into one file.
//!
//! ```text
//! frames::list ─► uplink transformation ─► decode ─► resize ─► backend ─► OUT.part ─► OUT
//! ```

mod file;

pub use file::{EmbeddingsFile, ReadError};
