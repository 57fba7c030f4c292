//! Releases: which head may run where, and who says so.
//!
//! ```text
//! root key (offline) ─► KeyRing ─┬─ keys that sign heads ────────► FILE.sig beside the head file
//!                                └─ keys that sign assignments ──► Assignment: channel ─► release, cameras, share
//! Trust (root, newest ring) ─► verify_head, open_assignment ─► Seen (counters) ─► what this camera runs
//! reports of cameras ─► Rollout (pure) ─► the share of the cameras, within the assignment's bounds
//! ```
//! A release is the head file; its identity is the SHA-256 of the file. What is signed is always a domain, that no
//! two kinds of object share, and the SHA-256 of exact stored bytes ([`signed`]). Nothing here looks at a date: a
//! ring has a version, an assignment a counter, and neither goes back. A box without a clock works.

mod assignment;
mod channel;
mod choose;
mod error;
mod key_ring;
mod keys;
mod packed;
mod rollout;
mod share;
pub mod signed;

pub use protocol::{BodyId, Moments, ReleaseId};

pub use assignment::{Assignment, Freshness, Promotion, Seen, SignedAssignment};
pub use channel::{Channel, Pattern};
pub use choose::choose;
pub use error::ReleaseError;
pub use key_ring::{KeyRing, KeyRole, RingKey, Trust};
pub use keys::{PublicKey, SigningKey};
pub use packed::{UnpackError, body_id, unpack};
pub use rollout::{Evidence, Group, Rollout};
pub use share::Share;
pub use signed::{HeadSignature, digest, sign_head, signature_path};

/// The one format of rings and assignments this build reads and writes.
pub const FORMAT: u32 = 1;
