//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod agent_answers;
mod agent_certificates;
mod agent_encoder;
mod agent_heads;
mod agent_latency;
mod agent_link;
mod agent_masks;
mod agent_metrics;
mod agent_mqtt;
mod agent_operator;
mod agent_packed;
mod agent_patches;
mod agent_pki;
mod agent_process;
mod agent_refusals;
mod agent_release_faults;
mod agent_releases;
mod capture_camera;
mod capture_files;
mod capture_streams;
mod capture_support;
