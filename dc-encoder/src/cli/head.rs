//! `dc-encoder head …`

use clap::Subcommand;

/// Subcommands of `dc-encoder head`.
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {}
}
