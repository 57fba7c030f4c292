//! `dc-encoder model …`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use candle_core::Device;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use shared::uplink::Uplink;

use crate::backend::{self, ChoiceArgs, Opened};
use crate::calibrate;
use crate::model::config::{Attention, LandmarkKind, Origin};
use crate::model::file::{self, Precision};
use crate::model::import::{self, ClassToken};
use crate::model::inspect::Report;
use crate::model::preset::{PRESETS, Preset};
use crate::model::{init, tensors};

/// Subcommands of `dc-encoder model`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a model with random weights from a preset and a seed
    #[command(after_help = "Example:\n  dc-encoder model init --preset seed-80m --seed 1 --out model")]
    Init(Init),
    /// Print what a model is and what a frame costs
    #[command(after_help = "Example:\n  dc-encoder model inspect model")]
    Inspect(Inspect),
    /// Convert a transformers ViT-MAE checkpoint
    #[command(after_help = "Example:\n  dc-encoder model import vit-mae-base --out model")]
    Import(Import),
    /// Give an encoder latent tokens with addresses, from frames without labels
    ///
    /// Fits the last linear layer in closed form so that each latent token says the log-colour of the cells of its
    /// patch: the numbers that heads need to compare neighbours and to see what departs from a background. The
    /// embedding becomes the means and the texture of 8x16 regions, 512 numbers.
    #[command(
        after_help = "Example:\n  dc-encoder model calibrate --model model --frames frames/ --out calibrated"
    )]
    Calibrate(Calibrate),
}

/// Arguments of `model init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Shape of the model: demo, seed-80m, hires, hires-fine, or a FILE.json like theirs
    #[arg(long, value_parser = parse_preset)]
    preset: Preset,
    /// Seed of the weights: the same seed gives the same weights on every machine
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write config.json and model.safetensors to
    #[arg(long)]
    out: PathBuf,
    /// How the weights are stored
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Also make the decoder that pretraining uses
    #[arg(long)]
    with_decoder: bool,
}

/// Arguments of `model inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The model folder
    model: PathBuf,
    #[command(flatten)]
    on: ChoiceArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Arguments of `model import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The checkpoint: a folder with config.json and model.safetensors
    checkpoint: PathBuf,
    /// Folder to write config.json and model.safetensors to
    #[arg(long)]
    out: PathBuf,
    /// Keep the class token (the numbers of transformers) or drop it
    #[arg(long, value_enum, default_value_t)]
    class_token: ClassToken,
    /// Attention of the converted encoder
    #[arg(long, value_enum, default_value_t)]
    attention: Attention,
    /// Landmarks of Nyström attention [default: 256]
    #[arg(long)]
    landmarks: Option<usize>,
    /// What a landmark is the mean of
    #[arg(long, value_enum, default_value_t)]
    landmark_kind: LandmarkKind,
    /// Another input size, as HEIGHTxWIDTH: positions are interpolated bicubically
    #[arg(long, value_parser = parse_size)]
    size: Option<(usize, usize)>,
    /// Leave the pretraining decoder behind
    #[arg(long)]
    encoder_only: bool,
    /// How the weights are stored
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
}

/// Arguments of `model calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The model folder
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: PathBuf,
    /// Folder of pictures, or a list of them (.csv, .jsonl, .txt); labels are not looked at
    #[arg(long, value_name = "DIR|LIST")]
    frames: PathBuf,
    /// Folder to write [default: the model folder itself]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Most frames used, evenly spread
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..))]
    max_frames: u32,
    /// Cells along a patch's side, where the model has none yet
    #[arg(long, value_name = "N", default_value_t = 4)]
    cells: usize,
    /// What frames pass through first: the agent's own setting, as `edge-agent check` prints it
    #[arg(long, value_name = "ID", default_value_t = Uplink::default())]
    uplink: Uplink,
    /// How the weights are stored
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Init(args) => run_init(&args, out),
        Command::Inspect(args) => run_inspect(&args, out),
        Command::Import(args) => run_import(args, out),
        Command::Calibrate(args) => run_calibrate(args, out),
    }
}

pub(super) fn parse_preset(name: &str) -> Result<Preset, String> {
    if Path::new(name).extension().is_some_and(|extension| extension == "json") {
        return Preset::read(Path::new(name)).map_err(|error| error.to_string());
    }
    Preset::find(name).ok_or_else(|| {
        let known: Vec<String> =
            PRESETS.iter().map(|preset| format!("  {:<11} {}", preset.name, preset.about)).collect();
        format!("unknown preset; the presets are\n{}\nor a FILE.json like them", known.join("\n"))
    })
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let (height, width) = text.split_once('x').ok_or("want HEIGHTxWIDTH, for example 576x960")?;
    let side = |text: &str| text.parse::<usize>().map_err(|error| format!("{text:?}: {error}"));
    Ok((side(height)?, side(width)?))
}

fn run_init(args: &Init, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut config = args.preset.config();
    if !args.with_decoder {
        config.decoder = None;
    }
    config.weights = Some(Origin::Random { seed: args.seed });
    let weights = init::random(&config, args.seed)?;
    file::save(&args.out, &config, &weights, args.precision, false)?;
    let (encoder, decoder) = tensors::parameters(&config);
    let millions = (encoder + decoder) as f64 / 1e6;
    writeln!(
        out,
        "{}: {} with {} ({millions:.1}M parameters): good for tests and timing, not for answers",
        args.out.display(),
        args.preset.name,
        config.note()
    )?;
    Ok(())
}

fn run_inspect(args: &Inspect, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = file::load_config(&args.model)?;
    let info = backend::open(&args.model, args.on)?.info();
    let opened = Opened { device: Device::Cpu, name: info.device, path: info.path, reason: info.reason };
    let report = Report::new(&config, info.space, &opened);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).context("writing the report")?;
        writeln!(out)?;
    } else {
        report.write(out)?;
    }
    Ok(())
}

fn run_import(args: Import, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.landmarks == Some(0) {
        bail!("--landmarks 0 leaves nothing to attend to: use --attention exact instead");
    }
    let options = import::Options {
        class_token: args.class_token,
        attention: args.attention,
        landmarks: args.landmarks,
        landmark_kind: args.landmark_kind,
        size: args.size,
        encoder_only: args.encoder_only,
    };
    let (config, weights) = import::vit_mae(&args.checkpoint, &options)?;
    file::save(&args.out, &config, &weights, args.precision, false)?;
    let (encoder, _) = tensors::parameters(&config);
    writeln!(
        out,
        "{}: {:.1}M parameters, {}x{} pixels, {} tokens; the embedding is the mean of the {}-wide tokens",
        args.out.display(),
        encoder as f64 / 1e6,
        config.height,
        config.width,
        config.tokens(),
        config.dim
    )?;
    Ok(())
}

fn run_calibrate(args: Calibrate, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = args.out.unwrap_or_else(|| args.model.clone());
    let config = calibrate::Config {
        model: args.model,
        out: folder,
        frames: args.frames,
        max_frames: args.max_frames as usize,
        cells: args.cells,
        uplink: args.uplink,
        precision: args.precision,
    };
    calibrate_with_progress(&config, out)
}

/// Calibrates with progress on standard error, and says what came of it.
pub(super) fn calibrate_with_progress(config: &calibrate::Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let started = Instant::now();
    let bar = ProgressBar::new(0).with_style(progress_style());
    let summary = calibrate::run(config, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let summary = summary?;
    let [luma, red_blue, red_green] = summary.explained.map(|share| match share {
        Some(share) => format!("{:.1} %", 100.0 * share),
        None => "nothing changed".to_owned(),
    });
    writeln!(
        out,
        "{}: latent tokens calibrated on {} frames in {:.1} s\nexplained of what changes at each place, on the last {} \
         frames held out: brightness {luma}, red against blue {red_blue}, red against green {red_green}",
        config.out.display(),
        summary.used,
        started.elapsed().as_secs_f64(),
        summary.held_out,
    )?;
    for (file, why) in &summary.skipped {
        writeln!(out, "left out {file}: {why}")?;
    }
    Ok(())
}

/// Shown on a terminal only.
fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:32} {pos} of {len} frames, {eta} left")
        .expect("the template is a constant")
}
