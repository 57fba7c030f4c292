//! `dc-encoder doctor`: is this machine fit to serve with this configuration, and if not, which command makes it so?
//!
//! ```text
//! configuration ─► machine (processor, memory, cards, clock, disk, limits) ─► network (ports, buffers) ─► files
//! ```
//! It looks and changes nothing. What it reads is the system's own text, so that each rule is a function of a text.

mod files;
mod machine;
mod network;

use std::io::Write;

use shared::report::Report;

use crate::serve::Config;

/// Prints a line for each thing that matters; `true` if a server would run.
pub fn examine(config: &Config, out: &mut dyn Write) -> bool {
    let mut report = Report::new(out);
    report.add_all(machine::examine(config));
    report.add_all(network::examine(config));
    report.add_all(files::examine(config));
    report.is_good()
}

/// A file of the system; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What a command prints; `None` where it is missing or fails.
fn ask(program: &str, args: &[&str]) -> Option<String> {
    let output =
        std::process::Command::new(program).args(args).stdin(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
