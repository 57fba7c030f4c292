//! `dc-encoder model …`

use clap::Subcommand;

/// Subcommands of `dc-encoder model`.
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {}
}
