//! `make bench-heads`: 1, 10, 100 and 1000 signed heads of 512 → 10 numbers on one embedding, each count in a process of
//! its own.
//!
//! ```text
//! parent: keys, head files and signatures ─► child for each count: load (signature, self-test), memory, answers ─► goals
//! ```
//! A goal that is missed is a finding; only what could not be measured is an error.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use edge_agent::heads::{Embedding, HeadSet, USUAL_BUDGET};
use edge_agent::releases::gate::Gate;
use protocol::SpaceId;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use shared::head::{
    FORMAT, InputSpec, Kind, Manifest, Output, OutputKind, SelfTestTolerance, Task, TensorData, Trained, seal,
};
use shared::release::{self, KeyRing, KeyRole, RingKey, SigningKey, Trust, sign_head, signature_path};
use tests::answers::quantile;
use tests::goals::goal;

const COUNTS: [usize; 4] = [1, 10, 100, 1000];
const DIM: usize = 512;
const OUT: usize = 10;
const SPACE: SpaceId = SpaceId([7; 32]);
/// What a head's own numbers take: weights and bias in f32.
const WEIGHT_BYTES: usize = 4 * OUT * (DIM + 1);
/// Embeddings that are answered, and those before the clock counts.
const ROUNDS: usize = 200;
const WARM_UP: usize = 20;

const MAX_TIME_US: f64 = 20.0;
const MAX_MEMORY_KB: f64 = 50.0;
const MAX_LOAD_S: f64 = 1.0;
/// How much more a head of a thousand may take than one of ten.
const FLAT: f64 = 1.5;

/// Tells a child which part is its own.
const COUNT: &str = "BENCH_HEADS_COUNT";
const FOLDER: &str = "BENCH_HEADS_DIR";

/// What a child measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    load_s: f64,
    /// Resident memory that came with the heads, all of them.
    resident_bytes: f64,
    /// One embedding through all heads: median and 99th percentile.
    p50_us: f64,
    p99_us: f64,
}

fn main() -> anyhow::Result<()> {
    match (std::env::var(COUNT), std::env::var(FOLDER)) {
        (Ok(count), Ok(dir)) => {
            println!("{}", serde_json::to_string(&measure(Path::new(&dir), count.parse()?)?)?);
            Ok(())
        }
        _ => compare(),
    }
}

fn compare() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    make(dir.path(), COUNTS[COUNTS.len() - 1] + 1)?;
    println!(
        "heads of {DIM} -> {OUT} numbers, signed; each has {:.1} kB of weights",
        WEIGHT_BYTES as f64 / 1e3
    );
    println!("{:>6}{:>11}{:>18}{:>14}{:>14}", "heads", "load, ms", "kB beyond weights", "µs, p50", "µs, p99");
    let mut rows = Vec::new();
    for count in COUNTS {
        let measured = child(dir.path(), count)?;
        let each = |all: f64| all / count as f64;
        let memory = (each(measured.resident_bytes) - WEIGHT_BYTES as f64) / 1e3;
        let (p50, p99) = (each(measured.p50_us), each(measured.p99_us));
        println!("{count:>6}{:>11.1}{memory:>18.1}{p50:>14.2}{p99:>14.2}", measured.load_s * 1e3);
        rows.push((measured.load_s, memory, p50));
    }
    let [_, (_, _, ten), _, (load, memory, time)] = rows[..] else { bail!("a count was not measured") };
    goal("time-a-head-of-1000", "<= 20 µs", &format!("{time:.2} µs"), time <= MAX_TIME_US);
    goal("memory-a-head-of-1000", "<= 50 kB", &format!("{memory:.1} kB"), memory <= MAX_MEMORY_KB);
    goal("load-1000-heads", "< 1 s", &format!("{load:.2} s"), load < MAX_LOAD_S);
    let flat = time / ten;
    goal("time-a-head-of-1000-over-10", "<= 1.5", &format!("{flat:.2}"), flat <= FLAT);
    Ok(())
}

fn child(dir: &Path, count: usize) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.env(COUNT, count.to_string()).env(FOLDER, dir).output()?;
    if !output.status.success() {
        bail!("{count} heads: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{count} heads"))
}

fn head_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("{index}.head"))
}

/// Writes root, ring, and head files with random weights.
fn make(dir: &Path, count: usize) -> anyhow::Result<()> {
    let (root, key) = (SigningKey::generate(), SigningKey::generate());
    let entry = RingKey { name: "heads-1".into(), key: key.public(), role: KeyRole::Heads, revoked: false };
    let ring = KeyRing { format: release::FORMAT, version: 1, keys: vec![entry] };
    std::fs::write(dir.join("root.pub"), root.public().to_string())?;
    std::fs::write(dir.join("key-ring"), ring.sign(&root)?)?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for index in 0..count {
        let bytes = head(&format!("head-{index}"), &mut rng)?;
        let path = head_path(dir, index);
        std::fs::write(signature_path(&path), sign_head(&bytes, &key))?;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

fn head(name: &str, rng: &mut ChaCha8Rng) -> anyhow::Result<Vec<u8>> {
    let names = (0..OUT).map(|class| format!("class-{class}")).collect();
    let manifest = Manifest {
        format: FORMAT,
        name: name.into(),
        task: Task::Class,
        kind: Kind::Linear,
        input: InputSpec { space: SPACE.to_string(), dim: DIM as u32, grid: None },
        output: Output { kind: OutputKind::Classes { names }, unit: "probability".into(), min: None },
        interval: None,
        uplink: shared::uplink::Uplink::default().id(),
        trained: Trained { frames: 300, labels: None, seed: 1 },
        held_out: None,
        self_test: SelfTestTolerance { tolerance: 1e-3 },
    };
    let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let tensors = [
        ("norm.mean", vec![DIM], random(DIM)),
        ("norm.std", vec![DIM], vec![1.0; DIM]),
        ("weight", vec![OUT, DIM], random(OUT * DIM)),
        ("bias", vec![OUT], random(OUT)),
    ];
    let tensors = tensors.map(|(name, shape, values)| (name.to_owned(), TensorData::f32(&shape, &values)));
    Ok(seal(&manifest, tensors.into(), &random(DIM))?)
}

/// Loads as an agent does that was started with `--head` so many times, and answers.
fn measure(dir: &Path, count: usize) -> anyhow::Result<Measured> {
    let trust = Trust::load(&dir.join("root.pub"), &dir.join("key-ring"))?;
    let gate = Gate { trust: Some(trust), allow_unsigned: false };
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut embedding = move || Embedding {
        space: SPACE,
        embedding: (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect(),
        tokens: None,
    };
    // What a first head brings along that is not its own.
    drop(load(&gate, &[head_path(dir, count)])?.answer(&embedding()));

    let paths: Vec<_> = (0..count).map(|index| head_path(dir, index)).collect();
    let (before, start) = (resident_bytes()?, Instant::now());
    let set = load(&gate, &paths)?;
    let load_s = start.elapsed().as_secs_f64();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..WARM_UP + ROUNDS {
        let (embedding, start) = (embedding(), Instant::now());
        let outcomes = set.answer(&embedding);
        times.push(micros(start.elapsed()));
        if let Some(error) = outcomes.into_iter().find_map(|outcome| outcome.result.err()) {
            bail!("a head gave no answer: {error}");
        }
    }
    let resident_bytes = resident_bytes()? - before;
    let quantile = |q| quantile(&times[WARM_UP..], q).context("no answers");
    Ok(Measured { load_s, resident_bytes, p50_us: quantile(0.5)?, p99_us: quantile(0.99)? })
}

fn load(gate: &Gate, paths: &[PathBuf]) -> anyhow::Result<HeadSet> {
    let set = HeadSet::load(paths, USUAL_BUDGET)?;
    paths.iter().zip(set.iter()).try_for_each(|(path, loaded)| gate.check_file(path, loaded))?;
    Ok(set)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn resident_bytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0)
}
