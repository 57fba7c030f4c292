//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod alloc;
mod deframer;
mod discriminants;
mod enroll;
mod golden;
mod hostile;
mod limits_heads;
mod mirror;
mod roundtrip;
mod samples;
mod samples_heads;
mod seeds;
mod strategies;
mod strategies_heads;

/// What the fuzz target runs.
#[path = "../../fuzz/entry.rs"]
mod fuzz_entry;
