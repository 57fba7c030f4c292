//! `dc-encoder evaluate`: everything from frames to a verdict, for one folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use shared::patches::Policy;
use shared::uplink::Uplink;

use super::eval::{self, Heads};
use super::model::parse_preset;
use crate::backend::DeviceChoice;
use crate::calibrate;
use crate::evaluate::{Bench, Evaluation, Folder, Plan, Split, Style};
use crate::model::file::Precision;
use crate::model::preset::Preset;
use crate::pretrain::{self, Length, Start};

/// What embedding, training and testing may take besides pretraining.
const BESIDES: Duration = Duration::from_secs(30 * 60);

/// Frames the encoder is calibrated on, and cells along a patch's side where its pooling has none: the defaults of
/// `dc-encoder model calibrate`.
const CALIBRATION_FRAMES: usize = 500;
const CELLS: usize = 4;

/// Kept back for the contact sheet and the files.
const LAST: Duration = Duration::from_secs(60);

/// Arguments of `dc-encoder evaluate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with labels.csv or labels.jsonl, split.toml and the frames
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Model folder to use as it is, instead of pretraining one on the pool's frames
    #[arg(long, value_name = "DIR", conflicts_with = "steps")]
    model: Option<PathBuf>,
    /// Time to pretrain for
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// Pretrain for so many steps instead, however long they take: the same work on any machine
    #[arg(long, value_name = "N", conflicts_with = "budget", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Shape of the model that is pretrained: demo, seed-80m, hires, hires-fine, or a FILE.json like theirs
    #[arg(long, default_value = "demo", value_parser = parse_preset)]
    preset: Preset,
    /// Folder for the model, embeddings, tables, JSON and the pictures of the worst answers (worst-10.png and so on)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// auto, cpu or cuda:N; trains through candle, whose CUDA needs a build with `--features cuda`
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    #[command(flatten)]
    heads: Heads,
}

/// Runs the command. Success means that everything was measured, whatever the scores.
///
/// # Errors
/// A folder or model that cannot be used, a training that fails, a file that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let folder = Folder::open(&args.data)?;
    let frames = folder.frames()?;
    let Split { pool, test, .. } = &folder.split;
    eprintln!("{}: {} frames, pool {pool:?}, test {test:?}", folder.name, frames.len());
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => pretrained(args, &frames[pool.clone()])?,
    };
    let pretraining = match (&args.model, args.steps) {
        (Some(_), _) => Duration::ZERO,
        (None, Some(_)) => started.elapsed(),
        (None, None) => args.budget,
    };
    let embeddings = eval::embed(
        &model,
        args.device.into(),
        Policy::All,
        (&folder.list, &out.join("embeddings.safetensors")),
    )?;
    let bench = Bench::new(folder, embeddings)?;
    let plan = Plan { deadline: Some(started + pretraining + BESIDES - LAST), ..args.heads.plan() };
    let evaluation = Evaluation::measure(&bench, &plan, &mut eval::progress)?;
    write(out, &bench, &evaluation)?;
    print!("{}", evaluation.render(Style::Text));
    for goal in &evaluation.goals {
        println!("{goal}");
    }
    println!("{} ({:.0} s)", evaluation.summary(), started.elapsed().as_secs_f64());
    Ok(())
}

/// An encoder pretrained and calibrated on the pool's frames alone, without their labels.
fn pretrained(args: &Args, pool: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let (list, raw, model) = (args.out.join("pool.txt"), args.out.join("pretrained"), args.out.join("model"));
    write_list(&list, pool)?;
    let seed = args.heads.seed();
    let (length, flag) = match args.steps {
        Some(steps) => (Length::Steps(steps), format!("--steps {steps}")),
        None => (Length::For(args.budget), format!("--for {}", humantime::format_duration(args.budget))),
    };
    let options = pretrain::Options {
        seed,
        command: format!(
            "dc-encoder pretrain --frames {} --preset {} {flag} --out {} --seed {seed}",
            list.display(),
            args.preset.name,
            raw.display()
        ),
        ..pretrain::Options::new(&list, Start::Preset(args.preset.clone()), &raw, length)
    };
    super::pretrain::with_progress(options, args.device)?;
    let config = calibrate::Config {
        model: raw,
        out: model.clone(),
        frames: list,
        max_frames: CALIBRATION_FRAMES,
        cells: CELLS,
        uplink: Uplink::default(),
        precision: Precision::default(),
    };
    super::model::calibrate_with_progress(&config, &mut std::io::stderr())?;
    Ok(model)
}

/// A list of frames by their whole paths, which hold wherever the list stands.
fn write_list(list: &Path, frames: &[PathBuf]) -> anyhow::Result<()> {
    let mut text = String::new();
    for frame in frames {
        let whole = frame.canonicalize().with_context(|| format!("cannot find {}", frame.display()))?;
        let whole = whole.to_str().with_context(|| format!("{} is not UTF-8", whole.display()))?;
        text.push_str(whole);
        text.push('\n');
    }
    std::fs::write(list, text).with_context(|| format!("cannot write {}", list.display()))
}

/// The table in Markdown, everything in JSON, and the pictures.
fn write(out: &Path, bench: &Bench, evaluation: &Evaluation) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(evaluation)?;
    for (name, text) in [("results.md", evaluation.render(Style::Markdown)), ("results.json", json + "\n")] {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    eval::write_sheets(&out.join("worst.png"), bench, evaluation)
}
