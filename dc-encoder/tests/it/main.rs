//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod calibrate;
mod commands;
mod cpu;
mod cpu_patches;
mod cuda;
mod doctor;
mod embed;
mod embed_patches;
mod enroll;
mod enroll_support;
mod evaluate;
mod head_classes;
mod head_kinds;
mod heads;
mod keys;
mod ledger;
mod model;
mod operate;
mod operate_certificates;
mod pki;
mod pretrain;
mod registry;
mod serve_faults;
mod serve_frames;
mod serve_lifecycle;
mod serve_limits;
mod serve_metrics;
mod serve_patches;
mod serve_registry;
mod serve_sessions;
mod serve_support;
mod serve_tcp;
mod wgpu;
