//! `dc-encoder head …`: train heads from embeddings and labels, sign and publish them, and look into head files.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use bytesize::ByteSize;
use clap::{Subcommand, ValueEnum};
use shared::head::{Grid, Head, Kind, Likeness, Manifest, MapShape, OutputKind, Task};

use super::{ablate, compare, eval, release, sign, status};
use crate::embed::EmbeddingsFile;
use crate::heads::report::{digits, held_out_words, task_name};
use crate::heads::{KindChoice, Labels, Options, Rows, listed, save, train};

/// Subcommands of `dc-encoder head`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a head from an embeddings file and labels
    ///
    /// Frames are taken to be in time order as they were embedded: by name for a folder, as written for a list.
    /// Strength and steps are chosen by cross-validation over stretches of time, because neighbouring frames are
    /// nearly the same frame.
    #[command(
        after_help = "Example:\n  dc-encoder head train --task count --embeddings embeddings.safetensors --labels labels.jsonl --out people-count.safetensors"
    )]
    Train(TrainArgs),
    /// Score heads trained on few labels on later frames, beside simple peers
    ///
    /// The folder holds labels.csv or labels.jsonl, the frames they name, and split.toml: which rows labels are drawn
    /// from, and which are tested on.
    #[command(
        after_help = "Example:\n  dc-encoder head eval --data plaza --embeddings embeddings.safetensors --kinds linear,mlp"
    )]
    Eval(eval::Args),
    /// Compare two heads on the same labelled frames
    #[command(
        after_help = "Example:\n  dc-encoder head compare a.safetensors b.safetensors --embeddings embeddings.safetensors --labels labels.jsonl --rows 320..600"
    )]
    Compare(compare::Args),
    /// Sweep the size of heads: how small can one be?
    #[command(
        after_help = "Example:\n  dc-encoder head ablate --data plaza --embeddings embeddings.safetensors"
    )]
    Ablate(ablate::Args),
    /// Sign a head file: FILE.sig beside it is what agents accept it by
    #[command(after_help = "Example:\n  dc-encoder head sign people-count.safetensors")]
    Sign(sign::SignArgs),
    /// Check a head file against its signature, the key ring and its self-test
    #[command(after_help = "Example:\n  dc-encoder head verify people-count.safetensors")]
    Verify(sign::VerifyArgs),
    /// Publish a signed head to a channel: connected cameras fetch it, check it and swap to it
    #[command(
        after_help = "Examples:\n  dc-encoder head publish people-count.safetensors --channel people-count@stable\n  dc-encoder head publish people-count.safetensors --channel people-count@stable --cameras 'plaza-*' --canary 10%"
    )]
    Publish(release::PublishArgs),
    /// Go back to an earlier release of a channel, by a new signed assignment
    #[command(after_help = "Example:\n  dc-encoder head rollback --channel people-count@stable")]
    Rollback(release::RollbackArgs),
    /// Steer a canary: hold, resume, abort, promote
    #[command(after_help = "Example:\n  dc-encoder head rollout hold --channel people-count@stable")]
    Rollout(release::RolloutArgs),
    /// Where channels stand, and how each camera does with its heads
    #[command(after_help = "Example:\n  dc-encoder head status --channel people-count@stable --watch")]
    Status(status::StatusArgs),
    /// Who changed what in a server's registry, and when
    #[command(after_help = "Example:\n  dc-encoder head audit --last 20")]
    Audit(status::AuditArgs),
    /// Print what a head file says about itself, and run its self-test
    #[command(after_help = "Example:\n  dc-encoder head inspect people-count.safetensors")]
    Inspect {
        /// The head file
        file: PathBuf,
        /// Check its signature with root.pub and key-ring of this folder
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
    },
}

/// Arguments of `dc-encoder head train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// What the labels mean: `count` reads the column `count`, `time-of-day` the column `minute_of_day`, `scalar`
    /// the column `value`, `class` the column `class`
    #[arg(long, value_enum)]
    task: TaskArg,
    /// Embeddings, as `dc-encoder embed` writes them
    #[arg(long, value_name = "FILE")]
    embeddings: PathBuf,
    /// Labels: CSV with a header or JSON lines, with `file` and the task's column
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Where to write the head
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which kind of head
    #[arg(long, value_enum, default_value = "auto")]
    kind: KindChoice,
    /// Rows of the labels file to train on, counted from 0, end exclusive [default: all]
    #[arg(long, value_name = "A..B")]
    rows: Option<Rows>,
    /// Rows to score on, never trained on [default: score by cross-validation]
    #[arg(long, value_name = "A..B")]
    test: Option<Rows>,
    /// Name of the head [default: people-count, time-of-day, value or class]
    #[arg(long)]
    name: Option<String>,
    /// Unit of the answers [default: people, min, units or probability]
    #[arg(long)]
    unit: Option<String>,
    /// Take the strongest ridge within one standard error of the best: steadier on frames unlike the labelled ones
    #[arg(long)]
    one_standard_error: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The tasks a head can be trained for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TaskArg {
    /// How many of something are in the picture
    Count,
    /// Local time of day
    TimeOfDay,
    /// Any one number
    Scalar,
    /// Which of a few named classes the picture is
    Class,
}

/// Runs the subcommand.
pub fn run(command: Command) -> anyhow::Result<()> {
    let text = match command {
        Command::Train(args) => train_head(&args)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Compare(args) => compare::run(&args)?,
        Command::Ablate(args) => ablate::run(&args)?,
        Command::Sign(args) => sign::sign(&args)?,
        Command::Verify(args) => sign::verify(&args)?,
        Command::Publish(args) => release::publish(args)?,
        Command::Rollback(args) => release::roll_back(&args)?,
        Command::Rollout(args) => release::roll_out(&args)?,
        Command::Status(args) => status::status(&args)?,
        Command::Audit(args) => status::audit(&args)?,
        Command::Inspect { file, keys } => {
            let head = Head::load(&file)?;
            print!("{}", inspect(&head, std::fs::metadata(&file)?.len()));
            println!("signature  {}", sign::in_words(&file, keys.as_deref()));
            head.self_test()?;
            "self-test  passed\n".to_owned()
        }
    };
    print!("{text}");
    Ok(())
}

fn train_head(args: &TrainArgs) -> anyhow::Result<String> {
    let started = Instant::now();
    let task = match args.task {
        TaskArg::Count => Task::Count,
        TaskArg::TimeOfDay => Task::TimeOfDay,
        TaskArg::Scalar => Task::Scalar,
        TaskArg::Class => Task::Class,
    };
    let defaults = Options::new(task);
    let labels = Labels::read(&args.labels, task)?;
    let embeddings = EmbeddingsFile::open(&args.embeddings)?;
    let options = Options {
        kind: args.kind,
        name: args.name.clone().unwrap_or(defaults.name.clone()),
        unit: args.unit.clone().unwrap_or(defaults.unit.clone()),
        rows: args.rows.clone(),
        test: args.test.clone(),
        one_standard_error: args.one_standard_error,
        seed: args.seed,
        ..defaults
    };
    let trained = train(&embeddings, &labels, &options)?;
    save(&args.out, &trained.bytes)?;
    let head = Head::from_bytes(&trained.bytes)?;
    Ok(format!(
        "{}wrote {} ({}, release {}) in {:.1} s\n",
        trained.report,
        args.out.display(),
        ByteSize(trained.bytes.len() as u64),
        head.short_release(),
        started.elapsed().as_secs_f64()
    ))
}

/// What a head says about itself, for people.
fn inspect(head: &Head, bytes: u64) -> String {
    let Manifest { name, task, kind, input, output, interval, uplink, trained, held_out, .. } =
        head.manifest();
    let mut lines: Vec<(&str, String)> = vec![
        ("head", name.clone()),
        ("release", head.release().to_owned()),
        ("task", task_name(*task).to_owned()),
        ("kind", kind_name(kind)),
        ("size", format!("{}, {} parameters", ByteSize(bytes), head.parameters())),
        ("space", input.space.clone()),
    ];
    lines.push((
        "input",
        match input.grid {
            Some(grid) => {
                let MapShape { maps, rows, cols } = grid.map_shape();
                let Grid { rows: tokens, cols: across, dim, .. } = grid;
                format!("latent tokens [{tokens}×{across}, {dim}]: {maps} maps of {rows}×{cols}")
            }
            None => format!("embedding [{}]", input.dim),
        },
    ));
    lines.push((
        "output",
        match (&output.kind, output.min) {
            (OutputKind::Circular { period }, _) => format!("{}, modulo {period}", output.unit),
            (OutputKind::Scalar, Some(min)) => format!("{}, at least {min}", output.unit),
            (OutputKind::Scalar, None) => output.unit.clone(),
            (OutputKind::Classes { names }, _) => {
                format!("one of {}, with its {}", listed(names), output.unit)
            }
        },
    ));
    let unit = &output.unit;
    lines.push((
        "interval",
        match interval {
            Some(i) => {
                let unit =
                    if matches!(kind, Kind::Kernel(_)) { "of the frame's own deviation" } else { unit };
                format!("{:.0} %: {} to +{} {unit}", 100.0 * i.level, digits(i.lower), digits(i.upper))
            }
            None if *task == Task::Class => "none, a class has a probability".to_owned(),
            None => "none, too few labels".to_owned(),
        },
    ));
    lines.push(("uplink", uplink.clone()));
    let labels = trained.labels.as_deref().map_or("unnamed", |digest| &digest[..12]);
    lines.push(("trained", format!("{} frames, labels {labels}, seed {}", trained.frames, trained.seed)));
    lines.push((
        "held out",
        match held_out {
            Some(score) => format!("{} ({})", held_out_words(score, *task, unit), score.method),
            None => "no score".to_owned(),
        },
    ));
    lines.into_iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key:<9}  {value}");
        text
    })
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Linear => "linear".to_owned(),
        Kind::Mlp => "mlp".to_owned(),
        Kind::Departures => "departures from the background".to_owned(),
        Kind::Trees(options) => {
            format!("trees (scales {}, {:?})", options.scales, options.combine).to_lowercase()
        }
        Kind::Kernel(Likeness::Gaussian) => "kernel (Gaussian likeness)".to_owned(),
        Kind::Kernel(Likeness::Laplace) => "kernel (Laplace likeness)".to_owned(),
        Kind::Tokens(options) => format!("tokens ({:?} response)", options.response).to_lowercase(),
    }
}
