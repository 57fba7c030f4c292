//! Everything the live part needs: certificates, a model, footage, embeddings, two heads.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Options, steps::Steps};
use crate::{
    plaza::{
        Clock,
        dataset::{self, Labelled, Plan},
    },
    process,
};

/// The demo's camera.
pub const CAMERA: &str = "plaza-1";
/// Seed of the plaza and of the model's random weights.
const SEED: u64 = 7;
/// Seconds between training frames: not a divisor of a day, so every day shows other minutes.
const TRAINING_STEP_S: f64 = 867.0;
/// Seconds between live frames: `live_frames` of them span about a day.
const DAY_S: f64 = 86_400.0;

/// Paths of what was made.
#[derive(Debug)]
pub struct Prepared {
    /// Folder of certificates.
    pub pki: PathBuf,
    /// Folder of the model.
    pub model: PathBuf,
    /// Labels of the training frames.
    pub training: Vec<Labelled>,
    /// List of the live frames.
    pub live: PathBuf,
    /// Truth of the live frames.
    pub truth: Vec<Labelled>,
    /// Head files: people count, time of day.
    pub heads: Vec<PathBuf>,
}

/// Runs the preparing commands, which are printed as a person would type them.
pub(super) fn prepare(dir: &Path, options: &Options) -> anyhow::Result<Prepared> {
    let mut steps = Steps::new(6);
    let pki = dir.join("pki");
    let model = dir.join("model");
    steps.run("certificates: an authority, a server, a camera (mutual TLS)", 0, |_| {
        command(&["pki", "init", "--dir", &shown(&pki)])?;
        command(&["pki", "issue", "--dir", &shown(&pki), "--server", "localhost,127.0.0.1"])?;
        command(&["pki", "issue", "--dir", &shown(&pki), "--camera", CAMERA])
    })?;
    steps.run(&format!("a {} encoder with random weights", options.preset), 0, |_| {
        command(&["model", "init", "--preset", &options.preset, "--seed", &SEED.to_string(), "--out", &shown(&model)])
    })?;
    let (training_dir, live_dir) = (dir.join("training"), dir.join("live"));
    let frames = u64::from(options.training_frames + options.live_frames);
    let live_day = (f64::from(options.training_frames) * TRAINING_STEP_S / DAY_S).ceil() as u32 + 1;
    let (training_list, live) = steps.run("footage of a synthetic plaza", frames, |done: &AtomicU64| {
        let count = || {
            done.fetch_add(1, Ordering::Relaxed);
        };
        let training =
            Plan { seed: SEED, start: Clock::at(0, 0.0), step_s: TRAINING_STEP_S, count: options.training_frames };
        let live = Plan {
            seed: SEED,
            start: Clock::at(live_day, 0.0),
            step_s: DAY_S / f64::from(options.live_frames.max(1)),
            count: options.live_frames,
        };
        Ok((dataset::render(&training_dir, &training, count)?, dataset::render(&live_dir, &live, count)?))
    })?;
    let embeddings = dir.join("embeddings.safetensors");
    steps.run(&format!("embeddings of {} training frames", options.training_frames), 0, |_| {
        command(&[
            "embed", "--model", &shown(&model), "--frames", &shown(&training_list), "--out", &shown(&embeddings), "--tokens",
        ])
    })?;
    let mut heads = Vec::new();
    for task in ["count", "time-of-day"] {
        let head = dir.join(format!("{task}.head.safetensors"));
        let report = steps.run(&format!("a {task} head from those embeddings and labels"), 0, |_| {
            command(&[
                "head", "train", "--task", task, "--embeddings", &shown(&embeddings), "--labels",
                &shown(&training_list), "--out", &shown(&head),
            ])
        })?;
        for line in report.lines().filter(|line| !line.trim().is_empty()) {
            println!("      {line}");
        }
        heads.push(head);
    }
    Ok(Prepared {
        pki,
        model,
        training: dataset::read(&training_list)?,
        truth: dataset::read(&live)?,
        live,
        heads,
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs `dc-encoder` with `args` after printing the command.
fn command(args: &[&str]) -> anyhow::Result<String> {
    println!("      $ dc-encoder {}", args.join(" "));
    process::run("dc-encoder", args)
}
