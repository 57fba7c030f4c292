//! The encoder server. Modules in the order a frame passes them:
//!
//! ```text
//! pki ─► session ─► decode ─► batch ─► backend (model) ─► session
//!                              embed ─► heads::train
//! pretrain ─► model folder
//! ```

pub mod backend;
pub mod batch;
pub mod cli;
pub mod decode;
pub mod embed;
pub mod heads;
pub mod model;
pub mod pki;
pub mod pretrain;
pub mod serve;
pub mod session;
