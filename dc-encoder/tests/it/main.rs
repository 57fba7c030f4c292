//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod archive;
mod archive_kill;
mod calibrate;
mod collect;
mod commands;
mod cpu;
mod cpu_patches;
mod cuda;
mod embed;
mod embed_patches;
mod evaluate;
mod head_classes;
mod head_kinds;
mod heads;
mod keys;
mod label;
mod ledger;
mod model;
mod operate;
mod operate_certificates;
mod pki;
mod pretrain;
mod registry;
mod serve_archive;
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
