//! From a captured image to the encoder and back.
//!
//! ```text
//! Captured ─► prepare (resize, JPEG) | patches ─► frame ══ one stream a frame, or tcp ══► (encoder)
//!                                                   ▲ session ◄─ link: which encoder, reconnecting
//! ```

pub mod candidates;
pub mod clocks;
pub mod dial;
pub mod failure;
pub mod frame;
pub mod link;
pub mod patches;
pub mod prepare;
pub mod session;
mod tcp;
