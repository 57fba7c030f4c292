//! `edge-agent enroll`

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{block_on, failed, start_log};
use crate::enroll::{self, Places};

/// Arguments of `edge-agent enroll`. The token is none of them: every user of a machine sees the arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read the token from this file instead of asking for it; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Folder for key and certificate [default: /var/lib/edge-agent/identity where a package installed the agent, else
    /// identity]
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,

    /// Folder for heads [default: /var/lib/edge-agent/heads, else heads]
    #[arg(long, value_name = "DIR")]
    heads_dir: Option<PathBuf>,

    /// Configuration to write; one that is there stays as it is [default: /etc/edge-agent/agent.toml, else agent.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The configuration's source of frames [default: the first camera of this box]
    #[arg(long, value_name = "URI")]
    source: Option<String>,
}

/// Asks for the token, and enrols.
pub(super) fn main(args: Args) -> ExitCode {
    // What goes wrong is said by the command itself.
    if let Err(error) = start_log("error", None) {
        return failed(1, &error);
    }
    let Args { token_file, identity, heads_dir, config, source } = args;
    let usual = Places::usual();
    let places = Places {
        identity: identity.unwrap_or(usual.identity),
        heads: heads_dir.unwrap_or(usual.heads),
        config: config.unwrap_or(usual.config),
    };
    let terminal = std::io::stdin().is_terminal();
    let token = match enroll::token(token_file.as_deref(), terminal, &mut std::io::stderr()) {
        Ok(token) => token,
        Err(error) => return failed(1, &error),
    };
    block_on(async {
        match enroll::enroll(&token, &places, source.as_deref(), &mut std::io::stdout()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(1, &error),
        }
    })
}
