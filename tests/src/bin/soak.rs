//! `soak`: what `make soak` runs. Five minutes of live HLS with the stream server stopped and started again.

use std::{
    io::{BufRead, BufReader},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use tests::{
    answers::{Line, quantile},
    goals::goal,
    hls::Stream,
    ports,
    process::Running,
    setup::{Options, demo_model, prepare},
};

/// Frames per second of the stream.
const FPS: u32 = 5;
/// Resident memory may grow by this much of itself, beyond a fixed allowance for the allocator's whims.
const GROWTH_RATIO: f64 = 1.05;
const GROWTH_BYTES: f64 = 2e6;
/// Where the memory's median is taken: a fifth of the run after a fifth of warm-up, and the last fifth.
const PARTS: u32 = 5;

/// Watch a live stream through both programs, with an outage in the middle
#[derive(Debug, Parser)]
struct Args {
    /// How long to watch, seconds
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How long the stream server is away, seconds
    #[arg(long, default_value_t = 20)]
    outage: u64,
}

fn main() -> anyhow::Result<()> {
    run(&Args::parse())
}

fn run(args: &Args) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { model: demo_model(), training_frames: 60, live_frames: 60 };
    let prepared = prepare(dir.path(), &options)?;
    let footage = prepared.live.parent().context("a list lies in a folder")?;
    let port = ports::lasting();
    let live = Stream::start(footage, dir.path(), FPS, port)?;
    let url = live.url();
    let mut stream = Some(live);
    let mut server = prepared.serve(dir.path(), "127.0.0.1:0")?;
    let mut agent = prepared.agent(dir.path(), &server.address, &["--source", &url])?;
    let lines = reader(&mut agent)?;

    let total = Duration::from_secs(args.seconds);
    let (down_at, up_at) = (total / 2, total / 2 + Duration::from_secs(args.outage));
    let started = Instant::now();
    let mut memory: Vec<(Duration, f64, f64)> = Vec::new();
    let mut answers: Vec<Duration> = Vec::new();
    let mut report = Duration::ZERO;
    while started.elapsed() < total {
        let now = started.elapsed();
        if stream.is_some() && now >= down_at && now < up_at {
            println!("{:>4} s  stream server stopped", now.as_secs());
            stream = None;
        } else if stream.is_none() && now >= up_at {
            stream = Some(Stream::start(footage, dir.path(), FPS, port)?);
            println!("{:>4} s  stream server started", now.as_secs());
        }
        memory.push((now, agent.resident_bytes()? as f64, server.encoder.resident_bytes()? as f64));
        let next = Instant::now() + Duration::from_secs(1);
        while let Ok(line) = lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
            if line?.is_answer() {
                answers.push(started.elapsed());
            }
        }
        if now >= report {
            report = now + Duration::from_secs(15);
            if let Some((_, agent, server)) = memory.last() {
                let (agent, server) = (agent / 1e6, server / 1e6);
                println!(
                    "{:>4} s  {} answers, agent {agent:.1} MB, encoder {server:.1} MB",
                    now.as_secs(),
                    answers.len()
                );
            }
        }
    }
    let status = agent.stop(Duration::from_secs(15))?;
    if !status.success() {
        bail!("edge-agent ended with {status}:\n{}", agent.log());
    }
    server.encoder.stop(Duration::from_secs(15))?;
    verdicts(&agent, &memory, &answers, total, up_at)
}

/// The agent's lines, read on a thread so that waiting for them can end.
fn reader(agent: &mut Running) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Line>>> {
    let stdout = agent.stdout().context("the output is piped")?;
    let (sender, receiver) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for text in BufReader::new(stdout).lines() {
            let line = text.map_err(Into::into).and_then(|text| Ok(Line::parse(&text)?));
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn verdicts(
    agent: &Running,
    memory: &[(Duration, f64, f64)],
    answers: &[Duration],
    total: Duration,
    up_at: Duration,
) -> anyhow::Result<()> {
    let log = agent.log();
    let ledger =
        log.lines().rev().find(|line| line.contains("captured=")).context("the agent printed no ledger")?;
    println!("\n{ledger}");
    let after = answers.iter().filter(|at| **at > up_at).count();
    goal("answers after the outage", "> 0", &after.to_string(), after > 0);
    let unaccounted = balanced(ledger)?;
    goal("frames unaccounted for", "= 0", &unaccounted.to_string(), unaccounted == 0);
    let part = total / PARTS;
    for (name, pick) in [("edge-agent", 1), ("dc-encoder", 2)] {
        let median = |from: Duration, to: Duration| {
            let inside = memory.iter().filter(|(at, ..)| *at >= from && *at < to);
            let values: Vec<f64> = inside.map(|(_, a, e)| if pick == 1 { *a } else { *e }).collect();
            quantile(&values, 0.5).context("no memory samples")
        };
        let (early, late) = (median(part, part * 2)?, median(total - part, total)?);
        let met = late <= early * GROWTH_RATIO + GROWTH_BYTES;
        goal(
            &format!("{name} resident memory flat"),
            &format!("(late <= {GROWTH_RATIO} x early + {} MB)", GROWTH_BYTES / 1e6),
            &format!("{:.1} MB early, {:.1} MB late", early / 1e6, late / 1e6),
            met,
        );
    }
    Ok(())
}

/// Captured minus answered minus dropped, from the agent's last line.
fn balanced(ledger: &str) -> anyhow::Result<i64> {
    let field = |name: &str| -> anyhow::Result<i64> {
        let start = ledger.find(&format!("{name}=")).with_context(|| format!("no {name}= in: {ledger}"))?;
        let digits: String =
            ledger[start + name.len() + 1..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("no number after {name}= in: {ledger}"))
    };
    Ok(field("captured")? - field("answered")? - field("dropped")?)
}
