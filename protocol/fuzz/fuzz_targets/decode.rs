//! Bytes from a peer, decoded as every message: `cargo +nightly fuzz run decode`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
