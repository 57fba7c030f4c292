//! The keys that sign heads and assignments.
//!
//! ```text
//! keys/                        where releases are made; need not be on a server
//!   root.key                   signs key rings and nothing else: keep it offline, back it up
//!   root.pub  key-ring ─► every camera box and encoder server
//!   heads-N.key                signs heads          (`dc-encoder head sign`)
//!   assignments-N.key          signs what cameras run (`dc-encoder head publish`)
//! ```
//! A box trusts root.pub for good, and the newest ring that the root signed. So a signing key that is lost or stolen
//! is replaced by a new ring, which reaches every box over its connection; only a lost root means visiting them.

mod error;
mod folder;

pub use error::KeysError;
pub use folder::KeyFolder;
