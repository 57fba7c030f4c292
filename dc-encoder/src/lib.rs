//! The encoder server. Modules in the order a frame passes them:
//!
//! ```text
//! pki ─► enroll ─► session ─► decode ─► batch ─► backend (model) ─► session
//! pretrain ─► calibrate ─► embed ─► heads::train ─► evaluate
//! collect ─► archive ─► suggest ─► annotate ─► archive ─► embed
//! keys ─► signed heads ─► operate ─► registry ─► session
//! ```

pub mod annotate;
pub mod archive;
pub mod backend;
pub mod batch;
pub mod calibrate;
pub mod cli;
pub mod collect;
pub mod decode;
pub mod doctor;
pub mod embed;
pub mod enroll;
pub mod evaluate;
pub mod heads;
pub mod keys;
pub mod ledger;
pub mod model;
pub mod operate;
pub mod parity;
pub mod pki;
pub mod pretrain;
pub mod registry;
mod remote;
pub mod serve;
pub mod session;
pub mod suggest;
