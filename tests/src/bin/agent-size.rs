//! `agent-size`: what `make size` runs.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{ChildStdout, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use tests::{
    goals::goal,
    process::{self, Running},
    setup::{CAMERA, Options, Prepared, Server, demo_model, prepare},
};

/// Goals of the agent on a camera box.
const MAX_SIZE_MB: f64 = 5.0;
const MAX_RESIDENT_MB: f64 = 15.0;
const MAX_FIRST_ANSWER_S: f64 = 1.0;
const MAX_CPU_MS: f64 = 1.0;
/// Crates that belong to the datacenter.
const FORBIDDEN: [&str; 4] = ["dc-encoder", "wgpu", "candle-core", "rcgen"];
/// The agent is idle when it has answered its first frame; its memory is watched for this long.
const WATCH: Duration = Duration::from_secs(5);
/// Frames whose work is measured, and how many of them come a second.
const FRAMES: u32 = 400;
const FPS: f64 = 40.0;
/// Programs that are killed and started again: the median is what a box sees.
const STARTS: usize = 5;

/// Print the agent's stripped size, dependencies, idle memory, work for a frame, and time to the first answer
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
    let dir = tempfile::tempdir()?;
    let options = Options { model: demo_model(), training_frames: 40, live_frames: FRAMES };
    let prepared = prepare(dir.path(), &options)?;
    let mut server = prepared.serve(dir.path(), "127.0.0.1:0")?;
    let around = Surroundings { agent: &args.agent, dir: dir.path(), prepared: &prepared, server: &server };
    let resident = around.idle_resident()? as f64 / 1e6;
    let cpu = around.cpu_per_frame()?.as_secs_f64() * 1e3;
    let first = around.first_answer()?.as_secs_f64();
    server.encoder.stop(Duration::from_secs(10))?;
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
    goal(
        "processor time a frame, JPEG passed through, one linear head",
        &format!("<= {MAX_CPU_MS} ms"),
        &format!("{cpu:.2} ms"),
        cpu <= MAX_CPU_MS,
    );
    goal(
        "from start to first answer",
        &format!("<= {MAX_FIRST_ANSWER_S} s"),
        &format!("{first:.2} s"),
        first <= MAX_FIRST_ANSWER_S,
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

/// An agent's surroundings.
struct Surroundings<'a> {
    agent: &'a Path,
    dir: &'a Path,
    prepared: &'a Prepared,
    server: &'a Server,
}

impl Surroundings<'_> {
    /// Starts the agent and reads its first answer.
    fn start(&self, fps: f64, heads: &[PathBuf]) -> anyhow::Result<(Running, Lines<BufReader<ChildStdout>>)> {
        let Self { prepared, server, .. } = self;
        let mut command = Command::new(self.agent);
        command.args(["run", "--format", "json", "--camera", CAMERA, "--allow-unsigned"]);
        command.args(["--fps", &fps.to_string()]);
        // As on a box that heads are pushed to.
        command.arg("--release-root").arg(prepared.keys.join("root.pub"));
        command.arg("--heads-dir").arg(self.dir.join("heads"));
        command.args(["--server", &server.address]).arg("--identity").arg(prepared.identity());
        command.arg("--source").arg(format!("list:{}", prepared.live.display()));
        for head in heads {
            command.arg("--head").arg(head);
        }
        let mut agent = Running::start_in(&mut command, "edge-agent", &self.dir.join("agent.log"))?;
        let mut lines = BufReader::new(agent.stdout().context("the output is piped")?).lines();
        match lines.next() {
            Some(Ok(line)) if line.contains("\"value\"") => Ok((agent, lines)),
            other => bail!("the agent gave no answer: {other:?}\n{}", agent.log()),
        }
    }

    fn idle_resident(&self) -> anyhow::Result<u64> {
        let (mut agent, _lines) = self.start(0.01, &self.prepared.heads)?;
        let started = Instant::now();
        let mut most = 0;
        while started.elapsed() < WATCH {
            most = most.max(agent.resident_bytes()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        agent.stop(Duration::from_secs(10))?;
        Ok(most)
    }

    /// From the first answer to the last one; frames are small enough to be sent as they are.
    fn cpu_per_frame(&self) -> anyhow::Result<Duration> {
        let head = self.dir.join("linear.safetensors");
        let [embeddings, labels] =
            ["embeddings.safetensors", "training/labels.jsonl"].map(|name| self.dir.join(name));
        let train: [&Path; 11] = [
            "head".as_ref(),
            "train".as_ref(),
            "--task".as_ref(),
            "count".as_ref(),
            "--kind=linear".as_ref(),
            "--embeddings".as_ref(),
            &embeddings,
            "--labels".as_ref(),
            &labels,
            "--out".as_ref(),
            &head,
        ];
        process::run("dc-encoder", train)?;
        let (mut agent, lines) = self.start(FPS, &[head])?;
        let before = agent.cpu_time()?;
        let mut after = before;
        let mut answers = 0;
        for line in lines {
            let line = line?;
            if line.contains("\"stale\":false") {
                answers += 1;
                // The process ends with its source: what it had used by then is read before.
                after = agent.cpu_time().unwrap_or(after);
            }
        }
        agent.wait(Duration::from_secs(10))?;
        if answers < FRAMES * 9 / 10 {
            bail!("{answers} of {FRAMES} frames were answered:\n{}", agent.log());
        }
        Ok((after - before) / answers)
    }

    fn first_answer(&self) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let started = Instant::now();
            let (mut agent, _lines) = self.start(1.0, &self.prepared.heads)?;
            times.push(started.elapsed());
            agent.stop(Duration::from_secs(10))?;
        }
        times.sort_unstable();
        Ok(times[STARTS / 2])
    }
}
