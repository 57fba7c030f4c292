//! `plaza`: renders frames of the synthetic plaza with their labels.

use std::path::PathBuf;

use clap::Parser;
use tests::plaza::{
    Clock,
    dataset::{Plan, render},
};

/// Render frames of a synthetic plaza with known people, clock and weather (demos and tests; no accuracy evidence)
#[derive(Debug, Parser)]
#[command(name = "plaza", version)]
struct Args {
    /// Folder for frames/*.jpg and labels.jsonl
    #[arg(long)]
    out: PathBuf,
    /// Number of frames
    #[arg(long, default_value_t = 300)]
    frames: u32,
    /// Seconds between frames
    #[arg(long, default_value_t = 867.0)]
    step: f64,
    /// First frame: day (from 0)
    #[arg(long, default_value_t = 0)]
    day: u32,
    /// First frame: minute of that day
    #[arg(long, default_value_t = 0.0)]
    minute: f64,
    /// Seed of buildings, people and weather
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let plan = Plan {
        seed: args.seed,
        start: Clock::at(args.day, args.minute),
        step_s: args.step,
        count: args.frames,
    };
    let labels = render(&args.out, &plan, || {})?;
    println!("{} frames, labels in {}", args.frames, labels.display());
    Ok(())
}
