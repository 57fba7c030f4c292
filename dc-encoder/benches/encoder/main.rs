//! `make bench-encoder`: the encoder beside PyTorch and ONNX Runtime on this processor, in one run.
//!
//! ```text
//! ceiling   what the kernels reach on data in the first cache
//! speed     f32, bf16, int8 at batch 1 and 8, full size (seed-80m, 576x960, 240 tokens), two threads
//! stages    where the time goes: each stage's share, and how far its products are from the ceiling
//! nystrom   3600 and 8040 tokens: time and error against exact attention, rows and blocks; linear in tokens?
//! gpu       where there is an NVIDIA card: bf16 on it beside torch.compile, and beside its own matrix rate
//! ```
//! Both sides take turns, so that both see the same machine; a ratio is the median over turns. Ours begins at frames in
//! memory as bytes (normalising and cutting patches included), the peers at ready float tensors. A missed goal is
//! printed, not an error: the exit status says whether everything could be measured. `ONLY=speed` (or stages, nystrom, gpu) runs
//! one part; stages need no peer.
#![allow(missing_docs)]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use dc_encoder::backend::Precision;
use dc_encoder::backend::cpu::simd::{Format, Isa, Left, Panel, Pool, WIDTH, Words, tile};
use dc_encoder::backend::cpu::{Encoder, Setup};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{Config, cost, init};
use dc_encoder::parity::probe_frames;

mod gpu;
mod nystrom;
mod peer;
mod stages;

use peer::Peer;

pub(crate) const THREADS: usize = 2;

/// What is measured against what: our precision, the peer, and the goals at batch 1 and 8.
const DUELS: [(Precision, &str, f64); 3] = [
    (Precision::F32, "ort-f32", 1.0),
    (Precision::Bf16, "torch-bf16", 1.0),
    (Precision::Int8, "ort-int8", 1.5),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    println!("machine: {}, {THREADS} threads, load {}", processor(), load());
    let config = Config { decoder: None, ..Preset::find("seed-80m").context("a preset")?.config() };
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only == part;
    if wanted("speed") {
        speed(&python()?, &config)?;
    }
    if wanted("stages") {
        stages::run(&config)?;
    }
    if wanted("nystrom") {
        nystrom::run(&python()?, &config)?;
    }
    if wanted("gpu") {
        gpu::run(&config)?;
    }
    println!("took {:.0} s; load {}", started.elapsed().as_secs_f64(), load());
    Ok(())
}

pub(crate) fn python() -> anyhow::Result<String> {
    std::env::var("PYTHON").context("PYTHON must name a Python with torch and onnxruntime")
}

fn speed(python: &str, config: &Config) -> anyhow::Result<()> {
    let weights = init::random(config, 1)?;
    let flops = cost::flops(config).total() as f64;
    println!(
        "\n{:<6}{:>6}{:>12}{:>12}{:>8}{:>10}{:>10}  kernel",
        "", "batch", "ours ms", "peer ms", "ratio", "GFLOP/s", "ceiling"
    );
    let mut goals = Vec::new();
    for (precision, kind, goal) in DUELS {
        let setup = Setup { precision, isa: Isa::detect(), threads: THREADS, batch: 8 };
        let mut encoder = Encoder::new(config, &weights, setup)?;
        let kernel = active_kernel(&encoder)?;
        let mut peer = Peer::start(python, config, kind)?;
        let ceiling = ceiling(precision, THREADS)?;
        for batch in [1, 8] {
            let duel = duel(&mut encoder, &mut peer, batch)?;
            let rate = flops * batch as f64 / duel.ours / 1e6;
            println!(
                "{precision:<6}{batch:>6}{:>12.1}{:>12.1}{:>8.2}{rate:>10.0}{:>9.0}%  {kernel}; {} {}",
                duel.ours,
                duel.theirs,
                duel.ratio,
                100.0 * rate / ceiling,
                peer.version(),
                kind
            );
            goals.push((format!("{precision} over {kind}, batch {batch} >= {goal:.1}"), duel.ratio, goal));
        }
    }
    println!("(ceiling: share of what the same kernel reaches on data in the first cache)");
    for (what, ratio, goal) in goals {
        say(&what, &format!("{ratio:.2}"), ratio >= goal);
    }
    Ok(())
}

/// One goal as one line.
pub(crate) fn say(goal: &str, measured: &str, met: bool) {
    println!("goal={goal} measured={measured} {}", if met { "met" } else { "missed" });
}

/// The kernel in use; a processor that has AVX-512 must not have fallen back.
pub(crate) fn active_kernel(encoder: &Encoder) -> anyhow::Result<&'static str> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = encoder.kernel();
    ensure!(
        !flags.contains("avx512f") || kernel.starts_with("AVX"),
        "this processor has AVX-512, in use: {kernel}"
    );
    Ok(kernel)
}

/// Medians in milliseconds a batch.
struct Duel {
    ours: f64,
    theirs: f64,
    ratio: f64,
}

fn duel(encoder: &mut Encoder, peer: &mut Peer, batch: usize) -> anyhow::Result<Duel> {
    /// Turns of each side, and seconds of one: short enough that other load hits both.
    const TURNS: usize = 5;
    let seconds = if batch == 1 { 1.5 } else { 3.0 };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let mine = measure(encoder, batch, seconds);
        let other = peer.measure(batch, seconds)?;
        ratios.push(other / mine);
        ours.push(mine);
        theirs.push(other);
    }
    Ok(Duel { ours: median(&mut ours), theirs: median(&mut theirs), ratio: median(&mut ratios) })
}

/// The median milliseconds of a batch.
pub(crate) fn measure(encoder: &mut Encoder, batch: usize, seconds: f64) -> f64 {
    let frames = probe_frames(encoder.config(), batch);
    encoder.frames(&frames, false);
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.is_empty() || began.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        std::hint::black_box(encoder.frames(&frames, false));
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    median(&mut times)
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// GFLOP/s of a precision's kernel on some threads, on operands that stay in the first cache; the best of several.
pub(crate) fn ceiling(precision: Precision, threads: usize) -> anyhow::Result<f64> {
    const ROWS: usize = 12;
    const STEPS: usize = 96;
    const TIMES: usize = 4000;
    let format = match precision {
        Precision::F32 => Format::F32,
        Precision::Bf16 => Format::Bf16,
        Precision::Int8 => Format::Int8,
    };
    let scratch = || (Words::zeroed(ROWS * STEPS), Words::zeroed(STEPS * WIDTH), Words::zeroed(ROWS * WIDTH));
    let mut pool = Pool::new((0..threads).map(|_| scratch()).collect())?;
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        pool.run(threads * 4, |(left, panel, sums), _| {
            for _ in 0..TIMES / 4 {
                let left = Left { words: left, rows: ROWS, stride: STEPS };
                let panel = Panel { words: panel, format, steps: STEPS, width: WIDTH };
                tile(Isa::detect(), left, panel, false, sums.floats_mut());
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    let flops = 2 * ROWS * WIDTH * STEPS * format.per_word() * TIMES * threads;
    Ok(flops as f64 / best / 1e9)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name")).unwrap_or("unknown processor");
    line.split(": ").last().unwrap_or(line).to_owned()
}

pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
