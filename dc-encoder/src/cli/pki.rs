//! `dc-encoder pki …`

use clap::Subcommand;

/// Subcommands of `dc-encoder pki`.
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {}
}
