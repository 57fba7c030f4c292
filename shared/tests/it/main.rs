//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod frames;
mod golden;
mod head;
mod head_classes;
mod head_kinds;
mod jpeg;
mod metrics;
mod picture;
mod pixels;
mod release;
mod tls;
mod uplink;
mod wire;
