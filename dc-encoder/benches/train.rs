//! `make bench-train`: images a second of a training step, beside PyTorch's in the same run.
//!
//! The shape is a tiny model at full input size: 576x960, patch 48 (240 tokens), encoder 192x6, decoder 96x2, 16 frames
//! a step, f32. Both sides take turns, so that both see the same machine. Ours begins at frames in memory as bytes
//! (changes of light, patches and targets included); PyTorch's begins at ready float tensors. `BENCH_SECONDS` is the
//! length of a turn.
//!
//! The clock is only fair on a quiet machine: where other work shares the cores, a side that waits by spinning loses
//! more. What the processor spent on an image, all threads together, is printed beside it.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use dc_encoder::model::Config;
use dc_encoder::model::config::{Decoder, Pooling, TargetKind};
use dc_encoder::model::preset::Preset;
use dc_encoder::pretrain::{self, Event, Length, Options, Start};
use serde::Deserialize;
use shared::image::{Chroma, Rgb, jpeg};

/// Ours over PyTorch's.
const GOAL: f64 = 1.0;
const BATCH: usize = 16;
const THREADS: usize = 2;
/// Turns that each side takes.
const TURNS: usize = 3;
/// Seconds of one turn, if the environment does not say.
const SECONDS: f64 = 15.0;

#[derive(Debug, Deserialize)]
struct Peer {
    version: String,
    median: f64,
    best: f64,
    processor_s: f64,
}

/// What one turn of ours gave.
struct Turn {
    /// Images a second of the median step.
    median: f64,
    /// Seconds of the processor an image, all threads together.
    processor_s: f64,
}

fn main() -> ExitCode {
    dc_encoder::backend::sleep_when_idle();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn config() -> Config {
    let mut config = Preset::find("seed-80m").expect("a preset").config();
    (config.dim, config.depth, config.heads, config.dim_head, config.mlp) = (192, 6, 6, 32, 768);
    config.pooling = Pooling::Mean { version: 1 };
    let target = TargetKind::Normalised;
    config.decoder = Some(Decoder { dim: 96, depth: 2, heads: 3, dim_head: 32, mlp: 384, target });
    config
}

fn run() -> anyhow::Result<()> {
    let seconds = match std::env::var("BENCH_SECONDS") {
        Ok(text) => {
            text.parse::<f64>().ok().filter(|s| *s > 0.0).context("BENCH_SECONDS is no number above 0")?
        }
        Err(_) => SECONDS,
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS)
        .build_global()
        .context("setting the number of threads")?;
    let python = std::env::var("PYTHON").ok();
    let dir = tempfile::tempdir()?;
    frames(dir.path())?;
    let (mut ratios, mut processor) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        let Turn { median, processor_s } = train(dir.path(), turn, seconds)?;
        println!(
            "turn {turn}: dc-encoder   {median:5.1} images/s (median step), {processor_s:.3} s of processor an image  load {}",
            load()
        );
        let Some(python) = &python else { continue };
        let peer = peer(python, seconds)?;
        println!(
            "turn {turn}: PyTorch {} {:5.1} images/s (median step; best {:.1}), {:.3} s of processor an image  load {}",
            peer.version,
            peer.median,
            peer.best,
            peer.processor_s,
            load()
        );
        ratios.push(median / peer.median);
        processor.push(processor_s / peer.processor_s);
    }
    if ratios.is_empty() {
        println!("no PYTHON: measured without a peer");
        return Ok(());
    }
    // Of each turn by itself: what else runs on the machine changes from turn to turn.
    let (least, most) = ratios.iter().fold((f64::INFINITY, 0f64), |(l, m), r| (l.min(*r), m.max(*r)));
    println!(
        "processor time an image over PyTorch's: {:.2} (median of the turns; less is better)",
        middle(processor)
    );
    let ratio = middle(ratios);
    let verdict = if ratio >= GOAL { "met" } else { "missed" };
    println!(
        "goal=training-speed-over-PyTorch>={GOAL:.2} measured={ratio:.2} [{least:.2}, {most:.2} over {TURNS} turns] {verdict}"
    );
    Ok(())
}

/// Pictures at input size: what they show does not matter to the clock.
fn frames(dir: &Path) -> anyhow::Result<()> {
    for number in 0..2 * BATCH {
        let data = (0..576 * 960 * 3).map(|at| ((at / 7 * (number + 3)) ^ (at >> 9)) as u8).collect();
        let image = Rgb::new(960, 576, data).context("a picture of this size")?;
        std::fs::write(dir.join(format!("{number:03}.jpg")), jpeg::encode(&image, 80, Chroma::C420))?;
    }
    Ok(())
}

/// One turn, its first two steps left out.
fn train(frames: &Path, turn: usize, seconds: f64) -> anyhow::Result<Turn> {
    let out = tempfile::tempdir()?;
    let start = Start::Config { name: "tiny".into(), config: config().into() };
    let mut options = Options::new(frames, start, out.path().join(turn.to_string()), Length::Steps(100_000));
    options.batch = BATCH;
    options.validations = 1;
    let (mut times, mut last, mut began) = (Vec::new(), None, None);
    let (mut first, mut spent) = (None, 0.0);
    let enough = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pretrain::run(&options, &mut |event| {
            let Event::Step { row, .. } = event else { return };
            let now = Instant::now();
            if let Some(last) = last.filter(|_| row.step > 2) {
                times.push(now.duration_since(last).as_secs_f64());
                spent = processor_time() - first.unwrap_or(0.0);
            } else {
                first = Some(processor_time());
            }
            last = Some(now);
            if now.duration_since(*began.get_or_insert(now)).as_secs_f64() > seconds {
                std::panic::resume_unwind(Box::new("enough"));
            }
        })
    }));
    if let Ok(ended) = enough {
        ended?;
    }
    ensure!(!times.is_empty(), "a step takes longer than {seconds} s: nothing was measured");
    let processor_s = spent / (BATCH * times.len()) as f64;
    Ok(Turn { median: BATCH as f64 / middle(times), processor_s })
}

/// Seconds that this process's threads have run, user and system.
fn processor_time() -> f64 {
    /// The kernel counts in hundredths of a second for programs.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; after it come state, eleven numbers, utime and stime.
    let after = text.rsplit(')').next().unwrap_or_default();
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / TICKS
}

fn peer(python: &str, seconds: f64) -> anyhow::Result<Peer> {
    let config = config();
    let decoder = config.decoder.as_ref().context("a decoder")?;
    let shape = serde_json::json!({
        "height": config.height, "width": config.width, "patch": config.patch,
        "encoder": { "dim": config.dim, "depth": config.depth, "heads": config.heads, "dim_head": config.dim_head, "mlp": config.mlp },
        "decoder": { "dim": decoder.dim, "depth": decoder.depth, "heads": decoder.heads, "dim_head": decoder.dim_head, "mlp": decoder.mlp },
        "batch": BATCH, "mask_ratio": 0.7, "threads": THREADS, "seconds": seconds,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/train.py");
    let output =
        Command::new(python).arg(&script).arg(shape.to_string()).output().context(python.to_owned())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {error}", script.display());
    serde_json::from_slice(&output.stdout).with_context(|| format!("{}: {error}", script.display()))
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
