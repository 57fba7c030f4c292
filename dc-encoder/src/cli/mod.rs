//! The command line: one file per subcommand.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub mod ablate;
pub mod archive;
pub mod collect;
pub mod compare;
pub mod embed;
pub mod enroll;
pub mod eval;
pub mod evaluate;
pub mod head;
pub mod keys;
pub mod label;
pub mod ledger;
pub mod model;
pub mod pki;
pub mod pretrain;
pub mod release;
pub mod serve;
pub mod sign;
pub mod status;

/// The encoder server: serves embeddings over QUIC, trains heads, issues certificates.
#[derive(Debug, Parser)]
#[command(name = "dc-encoder", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, inspect or import an encoder
    #[command(subcommand)]
    Model(model::Command),
    /// Make certificates: authority, servers, devices; revoke them
    #[command(subcommand)]
    Pki(pki::Command),
    /// Let camera boxes in: one-time tokens for certificates
    #[command(subcommand)]
    Enroll(enroll::Command),
    /// Make the keys that sign heads and assignments; revoke them
    #[command(subcommand)]
    Keys(keys::Command),
    /// Serve embeddings over QUIC
    #[command(after_help = "Example:\n  dc-encoder serve --model model --pki pki --listen 0.0.0.0:4433")]
    Serve(serve::Args),
    /// Say whether this machine is fit to serve with these options, and which command makes it so
    #[command(after_help = "Example:\n  dc-encoder doctor --model model --pki pki")]
    Doctor(serve::Args),
    /// Show where a running server's operations, bytes and joules went, per camera and head
    #[command(
        after_help = "Example:\n  dc-encoder ledger --server encoder.example.net:4433 --cert pki/operators/ann"
    )]
    Ledger(ledger::Args),
    /// Train an encoder on frames without labels
    #[command(
        after_help = "Example:\n  dc-encoder pretrain --frames frames/ --preset demo --for 30m --out model"
    )]
    Pretrain(pretrain::Args),
    /// Draw what an encoder makes of a frame
    #[command(
        after_help = "Example:\n  dc-encoder reconstruct --model model --frame frames/0001.jpg --out picture.png"
    )]
    Reconstruct(pretrain::ReconstructArgs),
    /// Collect frames of a stream or file into the archive
    Collect(collect::Args),
    /// Keep frames with their embeddings and labels: add, find, export, verify, forget
    #[command(subcommand)]
    Archive(archive::Command),
    /// Choose frames that are worth a label, have them labelled, take the labels
    #[command(subcommand)]
    Label(label::Command),
    /// Embed a folder or list of frames into one file
    #[command(
        after_help = "Example:\n  dc-encoder embed --model model --frames labels.jsonl --tokens --out embeddings.safetensors"
    )]
    Embed(embed::Args),
    /// Train, score, compare, sign, publish and inspect heads
    #[command(subcommand)]
    Head(head::Command),
    /// Measure what few labels are worth on a folder of frames, from embedding to verdict
    #[command(after_help = "Example:\n  dc-encoder evaluate --data plaza --out results --budget 30m")]
    Evaluate(evaluate::Args),
}

/// The definition of the command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Model(command) => model::run(command),
        Command::Pki(command) => pki::run(command),
        Command::Enroll(command) => enroll::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Serve(args) => serve::run(args),
        Command::Doctor(args) => match examine(args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Ledger(args) => ledger::run(&args),
        Command::Pretrain(args) => pretrain::run(args),
        Command::Reconstruct(args) => pretrain::run_reconstruct(args),
        Command::Collect(args) => collect::run(args),
        Command::Archive(command) => archive::run(command),
        Command::Label(command) => label::run(command),
        Command::Embed(args) => embed::run(args),
        Command::Head(command) => head::run(command),
        Command::Evaluate(args) => evaluate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

/// `dc-encoder doctor`: `true` if a server would run.
fn examine(args: serve::Args) -> anyhow::Result<bool> {
    let config = serve::configure(args)?;
    config.validate()?;
    Ok(crate::doctor::examine(&config, &mut std::io::stdout()))
}

/// The error and its causes in one line. Most of our errors name their cause already: that one is not said twice.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::in_full;

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x: {source}; try y")]
        struct Named {
            source: io::Error,
        }
        let named = Named { source: io::Error::other("no room") };
        assert_eq!(in_full(&named.into()), "cannot read x: no room; try y");
        let wrapped = Err::<(), _>(io::Error::other("no room")).context("while writing").unwrap_err();
        assert_eq!(in_full(&wrapped), "while writing: no room");
    }
}
