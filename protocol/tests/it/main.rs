//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod alloc;
mod deframer;
mod discriminants;
mod golden;
mod hostile;
mod mirror;
mod roundtrip;
mod samples;
mod seeds;
mod strategies;

/// What the fuzz target runs.
#[path = "../../fuzz/entry.rs"]
mod fuzz_entry;
