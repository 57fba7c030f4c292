//! The messages, in the order a session uses them: `control`, `frame`, `head`, an operator's: `operate`, and what the
//! ledger is told: `ledger`. Before the first session: `enroll`.

pub mod control;
pub mod enroll;
pub mod frame;
pub mod head;
pub mod ledger;
pub mod operate;

use bincode::{Decode, Encode};

use crate::CodecError;

/// What travels framed on a stream. [`codec`](crate::codec) reads and writes it.
pub trait Message: Encode + Decode<()> {
    /// Its name in errors.
    const NAME: &'static str;

    /// Longest body in bytes, whatever limit a caller names.
    const MAX_BYTES: usize;

    /// Checks every string, count, length and tensor. Decoding and encoding call it: what one side writes, the
    /// other accepts.
    ///
    /// # Errors
    /// [`CodecError`] naming the field, what it holds and what it may hold.
    fn validate(&self) -> Result<(), CodecError>;
}
