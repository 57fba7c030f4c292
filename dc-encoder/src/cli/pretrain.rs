//! `dc-encoder pretrain` and `dc-encoder reconstruct`

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use shared::uplink::Uplink;

use super::model::parse_preset;
use crate::backend::{DeviceChoice, select};
use crate::model::config::TargetKind;
use crate::model::file::Precision;
use crate::model::preset::Preset;
use crate::pretrain::{
    self, Event, Length, Options, PrecisionChoice, Reconstructed, Reconstruction, Start, Summary, Tried,
    Validation,
};

/// Where nobody sees a progress bar, a line appears this often.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Frames left out that are listed.
const LISTED_SKIPPED: usize = 5;

/// Arguments of `dc-encoder pretrain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of pictures, or a list of them (.csv, .jsonl, .txt); no labels are read
    #[arg(long, value_name = "DIR|LIST")]
    frames: PathBuf,
    #[command(flatten)]
    start: StartArgs,
    /// Model folder to make; an interrupted run keeps its work in DIR/pretrain and the same command continues it
    #[arg(long, value_name = "DIR", required_unless_present = "find_lr")]
    out: Option<PathBuf>,
    #[command(flatten)]
    length: LengthArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Number format of products and activations while training; weights and their updates are f32 always
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionChoice,
    /// How the finished model is stored
    #[arg(long, value_enum, default_value_t)]
    dtype: Precision,
    /// Leave the decoder out of the finished model: smaller, and enough to serve
    #[arg(long)]
    drop_decoder: bool,
    /// Time between checkpoints: the most that a kill loses
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    checkpoint_every: Duration,
    /// auto, cpu or cuda:N; trains through candle, whose CUDA needs a build with `--features cuda`
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

/// Where the weights begin.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct StartArgs {
    /// Begin from random weights of this shape: demo, seed-80m, hires, hires-fine, or a FILE.json like theirs
    #[arg(long, value_parser = parse_preset)]
    preset: Option<Preset>,
    /// Begin from this model folder, which has a decoder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// How long to train.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct LengthArgs {
    /// Train for so many steps
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Train for about this long, for example 30m: a few steps are timed, and their number is fixed and recorded
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Try learning rates in one short run, print them, and suggest one
    #[arg(long)]
    find_lr: bool,
}

/// How to train.
#[derive(Debug, clap::Args)]
struct RecipeArgs {
    /// Frames in a batch
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulate: usize,
    /// Highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    lr: f64,
    /// Steps in which the learning rate rises [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// AdamW's weight decay, of matrices alone
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    weight_decay: f64,
    /// Longest gradient; a longer one is shortened to it
    #[arg(long, value_name = "LENGTH", default_value_t = 1.0)]
    clip: f64,
    /// Share of the patches that is hidden from the encoder
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    mask_ratio: f64,
    /// What the decoder predicts [default: what the model says; normalised for presets]
    #[arg(long, value_enum)]
    loss: Option<TargetKind>,
    /// Weight of the latent tokens' readout beside the reconstruction, where the pooling has one
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0)]
    latent_weight: f64,
    /// Seed of weights, order, masks and changes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use frames as they are, without mild changes of light and place
    #[arg(long)]
    no_augment: bool,
    /// End after so many validations (of 20) without a better held-out loss
    #[arg(long, value_name = "N")]
    early_stop: Option<u64>,
}

/// What to train on.
#[derive(Debug, clap::Args)]
struct InputArgs {
    /// What frames pass through first: the agent's own setting, as `edge-agent check` prints it
    #[arg(long, value_name = "ID", default_value_t = Uplink::default())]
    uplink: Uplink,
    /// Most memory for prepared frames; beyond it they are decoded again whenever they are used
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::gib(4))]
    cache: ByteSize,
    /// Stop at a frame that cannot be used, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// Share of the frames, the last ones, that is held out for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    hold_out: f64,
}

/// Arguments of `dc-encoder reconstruct`.
#[derive(Debug, clap::Args)]
pub struct ReconstructArgs {
    /// Model folder with its decoder, from `dc-encoder pretrain`
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: PathBuf,
    /// Picture to reconstruct
    #[arg(long, value_name = "FILE")]
    frame: PathBuf,
    /// PNG file to write: the frame, what the encoder saw, the reconstruction, and what the embedding alone says
    #[arg(long, value_name = "PNG")]
    out: PathBuf,
    /// What the frame passes through first
    #[arg(long, value_name = "ID", default_value_t = Uplink::default())]
    uplink: Uplink,
    /// Share of the patches that is hidden
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    mask_ratio: f64,
    /// Seed of the mask
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs `dc-encoder pretrain`.
///
/// # Errors
/// A device that cannot be opened, and everything in [`pretrain::PretrainError`].
pub fn run(args: Args) -> anyhow::Result<()> {
    let (find, device) = (args.length.find_lr, args.device);
    let options = options(args)?;
    if !find {
        return with_progress(options, device);
    }
    let options = on_device(options, device)?;
    let mut progress = Progress::new(io::stderr().is_terminal());
    let tried = pretrain::find_rate(&options, &mut |event| progress.show(&event));
    progress.end();
    Ok(print_rates(&mut io::stdout(), &tried?)?)
}

/// Pretrains with progress on standard error, and says what came of it.
///
/// # Errors
/// As [`run`].
pub(super) fn with_progress(options: Options, device: DeviceChoice) -> anyhow::Result<()> {
    let options = on_device(options, device)?;
    let mut progress = Progress::new(io::stderr().is_terminal());
    let result = pretrain::run(&options, &mut |event| progress.show(&event));
    progress.end();
    report(&mut io::stdout(), &options, &result?)?;
    Ok(())
}

/// The options with the device to train on, which is said.
fn on_device(options: Options, device: DeviceChoice) -> anyhow::Result<Options> {
    let opened = select(device)?;
    let precision = options.precision.on(&opened.device);
    writeln!(io::stderr(), "training on {} in {precision}", opened.name)?;
    if precision == pretrain::Precision::Bf16 && opened.device.is_cpu() {
        writeln!(
            io::stderr(),
            "WARNING: on the processor bf16 is computed by way of f32, and slower than --precision f32"
        )?;
    }
    Ok(Options { device: opened.device, ..options })
}

fn options(args: Args) -> anyhow::Result<Options> {
    let Args { frames, start, out, length, recipe, input, .. } = args;
    let start = match (start.preset, start.model) {
        (Some(preset), _) => Start::Preset(preset),
        (_, Some(model)) => Start::Model(model),
        _ => anyhow::bail!("name a --preset or a --model to begin from"),
    };
    let length = match (length.steps, length.time) {
        (Some(steps), _) => Length::Steps(steps),
        (_, Some(time)) => Length::For(time),
        _ => Length::Steps(1), // --find-lr has a number of its own
    };
    Ok(Options {
        batch: recipe.batch,
        accumulate: recipe.accumulate,
        rate: recipe.lr,
        warmup: recipe.warmup,
        decay: recipe.weight_decay,
        clip: recipe.clip,
        mask_ratio: recipe.mask_ratio,
        target: recipe.loss,
        latent_weight: recipe.latent_weight,
        augment: !recipe.no_augment,
        seed: recipe.seed,
        uplink: input.uplink,
        cache: input.cache,
        strict: input.strict,
        hold_out: input.hold_out,
        early_stop: recipe.early_stop,
        checkpoint_every: args.checkpoint_every,
        precision: args.precision,
        dtype: args.dtype,
        drop_decoder: args.drop_decoder,
        command: command(),
        ..Options::new(frames, start, out.unwrap_or_default(), length)
    })
}

/// The command as it was given.
fn command() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("dc-encoder".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs `dc-encoder reconstruct`.
///
/// # Errors
/// Everything in [`pretrain::PretrainError`].
pub fn run_reconstruct(args: ReconstructArgs) -> anyhow::Result<()> {
    let ReconstructArgs { model, frame, out, uplink, mask_ratio, seed } = args;
    let what = Reconstruction { model, frame, out, uplink, mask_ratio, seed };
    let Reconstructed { caption, loss, loss_of_means } = pretrain::reconstruct(&what)?;
    writeln!(
        io::stdout(),
        "{}: {caption}; loss {loss:.4} (answering each patch with its mean colour: {loss_of_means:.4})",
        what.out.display()
    )?;
    Ok(())
}

fn print_rates(out: &mut impl Write, tried: &Tried) -> io::Result<()> {
    writeln!(out, "learning rate  loss (running mean)")?;
    for (rate, loss) in &tried.losses {
        writeln!(out, "{rate:<13.2e}  {loss:.4}")?;
    }
    writeln!(out, "try --lr {:.1e}", tried.suggested)
}

fn report(out: &mut impl Write, options: &Options, summary: &Summary) -> io::Result<()> {
    let folder = options.out.display();
    if summary.already_complete {
        return writeln!(out, "{folder} is complete already ({} steps); nothing was done", summary.steps);
    }
    let images = summary.steps as f64 * (options.batch * options.accumulate) as f64;
    writeln!(
        out,
        "{folder}: {} steps, {images} frames seen (drawn from {}) in {:.0} s, {:.1} a second",
        summary.steps,
        summary.frames,
        summary.seconds,
        images / summary.seconds.max(1e-9)
    )?;
    if let Some(Validation { loss, loss_of_means, rank, rank_of }) = summary.validation {
        writeln!(
            out,
            "held-out loss {loss:.4} (each patch's mean colour: {loss_of_means:.4}), effective rank {rank:.1} over \
             {rank_of} frames"
        )?;
    }
    writeln!(out, "look at it with: tensorboard --logdir {folder}/{}", pretrain::RUN_FOLDER)
}

/// A bar on a terminal, lines elsewhere; both on standard error.
struct Progress {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
    /// When this run's first step was seen, and how many were done before it.
    began: Option<(Instant, u64)>,
}

impl Progress {
    fn new(terminal: bool) -> Self {
        let template = "{bar:32} {pos} of {len} {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        Self { bar: terminal.then(|| ProgressBar::new(0).with_style(style)), last: None, began: None }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Read { done, total } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                    bar.set_message("frames read");
                }
            }
            Event::Step { .. } => self.step(event),
            Event::Saved(_) => {}
            Event::Frames { usable, training, kept, skipped } => {
                self.say(&format!(
                    "{usable} frames: {training} to train on, {} held out; {kept} kept in memory",
                    usable - training
                ));
                if !skipped.is_empty() {
                    self.say(&format!("{} frames cannot be used and are left out:", skipped.len()));
                }
                for frame in skipped.iter().take(LISTED_SKIPPED) {
                    self.say(&format!("  {}: {}", frame.file, frame.reason));
                }
                if skipped.len() > LISTED_SKIPPED {
                    self.say(&format!("  and {} more", skipped.len() - LISTED_SKIPPED));
                }
            }
            Event::Calibrated { steps, step } => {
                self.say(&format!("a step takes {step:.2} s: {steps} steps fit, and are fixed"));
            }
            Event::Continuing { step, steps } => {
                self.say(&format!("continuing after step {step} of {steps}"));
            }
            Event::Warning(warning) if warning.is_relief() => self.say(&warning.to_string()),
            Event::Warning(warning) => self.say(&format!("WARNING: {warning}")),
            Event::StoppedEarly { step } => {
                self.say(&format!("the held-out loss falls no more: stopped after step {step}"));
            }
        }
    }

    fn step(&mut self, event: &Event<'_>) {
        let Event::Step { row, steps, validation } = event else { return };
        let now = Instant::now();
        let (began, before) = *self.began.get_or_insert((now, row.step));
        let pace = now.duration_since(began).as_secs_f64() / (row.step - before).max(1) as f64;
        let left = humantime::format_duration(Duration::from_secs((pace * (steps - row.step) as f64) as u64));
        let text = format!("loss {:.4}, {:.1} images/s, {left} left", row.loss, row.images_per_s);
        if let Some(Validation { loss, rank, .. }) = validation {
            self.say(&format!("step {}: held-out loss {loss:.4}, effective rank {rank:.1}", row.step));
        }
        match &self.bar {
            Some(bar) => {
                bar.set_length(*steps);
                bar.set_position(row.step);
                bar.set_message(text);
            }
            None if self.last.is_none_or(|last| now.duration_since(last) >= LINE_EVERY) => {
                self.last = Some(now);
                self.say(&format!("step {} of {steps}: {text}", row.step));
            }
            None => {}
        }
    }

    /// A line on standard error; nobody listening is no reason to stop.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
