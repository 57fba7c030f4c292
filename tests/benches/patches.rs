//! `make bench-patches DATA=DIR`: what it saves to send some patches of each frame, and what heads lose by it.
//!
//! ```text
//! labels, frames ─► embed with each policy ─► bytes, patches ─► head eval ─► error with its interval
//! ```
//! Head by the project's defaults, on as many labels as goals are set for. `MODEL=DIR` takes another model than the demo's,
//! `POLICIES="changed(4,30) random(0.2)"` other policies beside whole frames. A goal that is missed is a finding.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dc_encoder::backend::{self, Backend, Choice};
use dc_encoder::embed::{self, Config, EmbeddingsFile, Summary};
use dc_encoder::evaluate::{Bench, Evaluation, Folder, Plan};
use dc_encoder::heads::KindChoice;
use dc_encoder::model::{self, cost};
use shared::head::Task;
use shared::patches::Policy;
use shared::uplink::Uplink;
use tests::goals::goal;
use tests::setup::demo_model;

const POLICIES: &str = "random(1) random(0.5) random(0.3) random(0.1) changed";
/// Draws of the labels, as `head eval` makes them.
const DRAWS: usize = 5;
const MAX_BYTES: f64 = 0.4;
const MAX_ADDED_ERROR: f64 = 0.1;

/// What one policy came to.
struct Row {
    policy: Policy,
    kb: f64,
    gflop: f64,
    kept: f64,
    error: f64,
    ci95: [f64; 2],
    median: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let data = PathBuf::from(std::env::var_os("DATA").context("name a folder with labels: DATA=DIR")?);
    let model =
        std::env::var_os("MODEL").filter(|dir| !dir.is_empty()).map_or_else(demo_model, PathBuf::from);
    let policies = std::env::var("POLICIES").ok().filter(|text| !text.is_empty());
    let policies: Vec<Policy> = policies
        .as_deref()
        .unwrap_or(POLICIES)
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("POLICIES")?;
    let mut backend = backend::open(&model, Choice::default())?;
    println!("{}: model {} on {}", data.display(), backend.info().model, backend.info().device);
    println!(
        "{:<18}{:>10}{:>9}{:>9}{:>9}{:>9}  95 % interval{:>10}",
        "patches", "kB/frame", "of whole", "GFLOP", "kept", "error", "median"
    );
    let work = tempfile::tempdir()?;
    let whole = measure(&data, &model, (backend.as_mut(), work.path()), Policy::All)?;
    show(&whole, &whole);
    let mut changed = None;
    for policy in policies {
        let row = measure(&data, &model, (backend.as_mut(), work.path()), policy)?;
        show(&row, &whole);
        if matches!(policy, Policy::Changed(_)) && changed.is_none() {
            changed = Some(row);
        }
    }
    if let (Some(changed), Task::Count) = (changed, Folder::open(&data)?.split.task) {
        let (bytes, added) = (changed.kb / whole.kb, changed.error / whole.error - 1.0);
        goal(
            "bytes-of-changed-patches-over-whole-frames",
            "<= 0.4",
            &format!("{bytes:.2}"),
            bytes <= MAX_BYTES,
        );
        let words = format!("{:+.1} %", 100.0 * added);
        goal("count-error-added-by-changed-patches", "<= 10 %", &words, added <= MAX_ADDED_ERROR);
    }
    Ok(())
}

fn measure(
    data: &Path,
    model: &Path,
    (backend, work): (&mut dyn Backend, &Path),
    patches: Policy,
) -> anyhow::Result<Row> {
    let folder = Folder::open(data)?;
    let out = work.join("embeddings");
    let uplink = Uplink { patches, ..Uplink::default() };
    let config = Config { tokens: true, uplink, ..Config::new(&folder.list, &out) };
    let Summary { bytes, kept, total, .. } = embed::run(&config, backend, &mut |_| {})?;
    let embeddings = EmbeddingsFile::open(&out)?;
    std::fs::remove_file(&out)?;
    let labels = if folder.split.task == Task::Count { 100 } else { 300 };
    let plan = Plan {
        kinds: vec![KindChoice::Auto],
        labels: vec![labels],
        draws: DRAWS,
        seed: 0,
        random_split: false,
        deadline: None,
    };
    let evaluation = Evaluation::measure(&Bench::new(folder, embeddings)?, &plan, &mut |_| {})?;
    let curve = evaluation.curves.first().context("no curve was measured")?;
    let score = curve.heads().next().and_then(|head| head.scores.first()).context("no head was measured")?;
    let (config, _) = model::file::load(model)?;
    let flops = match patches {
        Policy::All => cost::flops(&config),
        // At the mean number of patches: attention, the one part that is not in proportion, is a few per cent.
        _ => cost::flops_partial(&config, (kept * config.patches() as f64).round() as usize),
    };
    Ok(Row {
        policy: patches,
        kb: bytes as f64 / total.max(1) as f64 / 1e3,
        gflop: flops.total() as f64 / 1e9,
        kept,
        error: score.mean.value,
        ci95: score.mean.ci95,
        median: score.median.map(|median| median.value),
    })
}

fn show(row: &Row, whole: &Row) {
    let Row { policy, kb, gflop, kept, error, ci95: [low, high], median } = row;
    let name = if *policy == Policy::All { "whole JPEG".to_owned() } else { policy.to_string() };
    let median = median.map_or_else(String::new, |median| format!("{median:.2}"));
    println!(
        "{name:<18}{kb:>10.1}{:>9.2}{gflop:>9.2}{:>8.1}%{error:>9.3}  {low:.3} to {high:.3}{median:>8}",
        kb / whole.kb,
        100.0 * kept
    );
}
