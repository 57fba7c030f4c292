//! `demo`: what `make demo` runs.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tests::{
    demo::{Options, run},
    setup,
};

/// Show the main job: an encoder server and an agent as processes over QUIC on loopback
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Args {
    /// Your own footage, as `edge-agent run --source` takes it; the synthetic plaza otherwise
    #[arg(long, env = "SOURCE", hide_env_values = true)]
    source: Option<String>,
    /// Model folder of the encoder [default: the demo model of this repository]
    #[arg(long)]
    model: Option<PathBuf>,
    /// With your own footage: seconds to watch
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Labelled frames to train on
    #[arg(long, default_value_t = 300)]
    training_frames: u32,
    /// Frames of the live part
    #[arg(long, default_value_t = 100)]
    live_frames: u32,
    /// Keep model, heads, certificates, frames and logs in this folder
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        setup: setup::Options {
            model: args.model.unwrap_or_else(setup::demo_model),
            training_frames: args.training_frames,
            live_frames: args.live_frames,
        },
        source: args.source.filter(|source| !source.is_empty()),
        watch: Duration::from_secs(args.seconds),
        keep: args.keep,
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
