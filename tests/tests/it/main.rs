//! Whole-system tests: the real programs as processes, on loopback.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod agent;
mod boxes;
mod camera_to_head;
mod demo;
mod enroll;
mod evaluate;
mod faults;
mod help;
mod ledger;
mod live;
mod load;
mod main_job;
mod metrics;
mod mqtt;
mod network;
mod swap;
mod swap_kill;
