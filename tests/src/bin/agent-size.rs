//! `agent-size`: what `make size` runs.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use tests::{
    goals::goal,
    process::Running,
    setup::{CAMERA, Options, demo_model, prepare},
};

/// Goals of the agent on a camera box.
const MAX_SIZE_MB: f64 = 5.0;
const MAX_RESIDENT_MB: f64 = 15.0;
/// Crates that belong to the datacenter.
const FORBIDDEN: [&str; 4] = ["dc-encoder", "wgpu", "candle-core", "rcgen"];
/// The agent is idle when it has answered its first frame; its memory is watched for this long.
const WATCH: Duration = Duration::from_secs(5);

/// Print the agent's stripped size, dependencies and idle memory
#[derive(Debug, Parser)]
struct Args {
    /// The agent as a camera box installs it
    #[arg(long)]
    agent: PathBuf,
}

fn main() -> anyhow::Result<()> {
    run(&Args::parse())
}

fn run(args: &Args) -> anyhow::Result<()> {
    let size = std::fs::metadata(&args.agent)
        .with_context(|| format!("no agent at {}", args.agent.display()))?
        .len() as f64
        / 1e6;
    let dependencies = dependencies()?;
    let resident = idle_resident(args)? as f64 / 1e6;
    let forbidden: Vec<_> = FORBIDDEN.into_iter().filter(|name| dependencies.contains(*name)).collect();
    println!("\nedge-agent, profile `agent` (opt-level z, fat LTO, stripped), {}", std::env::consts::ARCH);
    println!("dependencies: {} crates", dependencies.len());
    goal("stripped size", &format!("<= {MAX_SIZE_MB} MB"), &format!("{size:.2} MB"), size <= MAX_SIZE_MB);
    goal(
        "idle resident memory, two heads, connected",
        &format!("<= {MAX_RESIDENT_MB} MB"),
        &format!("{resident:.2} MB"),
        resident <= MAX_RESIDENT_MB,
    );
    let none = format!("none of {}", FORBIDDEN.join(", "));
    let found = if forbidden.is_empty() { "none".to_owned() } else { forbidden.join(", ") };
    goal("datacenter crates linked", &none, &found, forbidden.is_empty());
    Ok(())
}

fn dependencies() -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "-p", "edge-agent", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let mut crates: BTreeSet<String> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(name).collect();
    crates.remove("edge-agent");
    Ok(crates)
}

fn idle_resident(args: &Args) -> anyhow::Result<u64> {
    let dir = tempfile::tempdir()?;
    let options = Options { model: demo_model(), training_frames: 40, live_frames: 2 };
    let prepared = prepare(dir.path(), &options)?;
    let mut server = prepared.serve(dir.path(), "127.0.0.1:0")?;
    let mut command = Command::new(&args.agent);
    command.args(["run", "--format", "json", "--fps", "0.01", "--camera", CAMERA]);
    // As on a box that heads are pushed to.
    command.arg("--release-root").arg(prepared.keys.join("root.pub"));
    command.arg("--heads-dir").arg(dir.path().join("heads"));
    command.args(["--server", &server.address]).arg("--identity").arg(prepared.identity());
    command.arg("--source").arg(format!("list:{}", prepared.live.display()));
    for head in &prepared.heads {
        command.arg("--head").arg(head);
    }
    command.stdin(Stdio::null());
    let mut agent = Running::start_in(&mut command, "edge-agent", &dir.path().join("agent.log"))?;
    let mut lines = BufReader::new(agent.stdout().context("the output is piped")?).lines();
    match lines.next() {
        Some(Ok(line)) if line.contains("\"value\"") => {}
        other => bail!("the agent gave no answer: {other:?}\n{}", agent.log()),
    }
    let started = Instant::now();
    let mut most = 0;
    while started.elapsed() < WATCH {
        most = most.max(agent.resident_bytes()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    agent.stop(Duration::from_secs(10))?;
    server.encoder.stop(Duration::from_secs(10))?;
    Ok(most)
}
