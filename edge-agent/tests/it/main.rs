//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs)]

mod capture_camera;
mod capture_files;
mod capture_streams;
mod capture_support;
