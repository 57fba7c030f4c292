//! `dc-encoder archive`: frames, their embeddings and their labels.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use bytesize::ByteSize;
use jiff::Timestamp;
use serde_json::json;
use shared::frames::{self, FrameRef};
use shared::head::Task;
use shared::image::{self, Chroma, Limits, jpeg};

use crate::archive::{
    Added, Answer, Archive, Consensus, Embedder, Export, Exported, Format, Found, FrameId, Incoming, Keep, Label,
    Query, Record, Returned, Zone, task_name,
};
use crate::backend::ChoiceArgs;
use crate::heads::Labels;

/// Frames of one transaction while a folder is added: their syncs are shared, and so is the index's.
const BATCH: usize = 64;

/// Quality of a picture that was no JPEG before.
const QUALITY: u8 = 95;

/// Where the archive is.
#[derive(Debug, Clone, clap::Args)]
pub struct At {
    /// Folder of the archive
    #[arg(long, env = "FTH_ARCHIVE", value_name = "DIR", default_value = "archive")]
    pub(super) archive: PathBuf,
}

/// Which frames.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Of this camera alone
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Captured then or later: 2026-06-01T12:00:00Z, or with an offset such as +02:00
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Captured before then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
}

impl Which {
    fn query(&self) -> Query {
        Query { camera: self.camera.clone(), since: self.since, until: self.until, ..Query::default() }
    }
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    frames::parse_time(text).ok_or_else(|| "write it as 2026-06-01T12:00:00Z or with an offset".to_owned())
}

pub(super) fn parse_task(text: &str) -> Result<Task, String> {
    let all = [Task::Count, Task::TimeOfDay, Task::Scalar, Task::Class];
    let found = all.into_iter().find(|task| task_name(*task) == text);
    found.ok_or_else(|| "one of count, time-of-day, scalar, class".to_owned())
}

/// Subcommands of `dc-encoder archive`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a folder or list of frames, with their labels if asked
    #[command(after_help = "Example:\n  dc-encoder archive add --camera plaza-1 --frames labels.jsonl --task count --zone Europe/Zurich")]
    Add(AddArgs),
    /// Embed the frames that have no embedding of this encoder yet
    #[command(after_help = "Example:\n  dc-encoder archive embed --model model")]
    Embed(EmbedArgs),
    /// What the archive holds, camera by camera
    #[command(after_help = "Example:\n  dc-encoder archive stats --archive archive")]
    Stats(StatsArgs),
    /// Find frames by camera, time and labels
    #[command(after_help = "Example:\n  dc-encoder archive find --camera plaza-1 --since 2026-06-01T06:00:00Z --unlabelled count")]
    Find(FindArgs),
    /// Write a folder that `embed`, `head train` and `evaluate` read, or a table of embeddings and labels
    #[command(after_help = "Example:\n  dc-encoder archive export --camera plaza-1 --task count --out plaza\n  \
        dc-encoder archive export --task count --format parquet --out plaza.parquet")]
    Export(ExportArgs),
    /// Compare index and files; fails when something is lost, altered or unlinked
    #[command(after_help = "Example:\n  dc-encoder archive verify --archive archive")]
    Verify(VerifyArgs),
    /// Remove what is too old or too much, and files that the index does not know
    #[command(after_help = "Example:\n  dc-encoder archive gc --camera plaza-1 --keep-days 30 --keep-bytes 20GB")]
    Gc(GcArgs),
    /// Delete frames with everything that is known of them
    #[command(after_help = "Example:\n  dc-encoder archive forget --camera plaza-1 --since 2026-06-01T12:00:00Z --until 2026-06-01T12:10:00Z --yes")]
    Forget(ForgetArgs),
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the archive from doing it; each says what to do.
pub fn run(command: Command) -> anyhow::Result<()> {
    shared::telemetry::init("info", shared::telemetry::Format::Text)?;
    match command {
        Command::Add(args) => add(args),
        Command::Embed(args) => embed(&args),
        Command::Stats(args) => stats(&args),
        Command::Find(args) => find(&args),
        Command::Export(args) => export(&args),
        Command::Verify(args) => verify(&args),
        Command::Gc(args) => gc(&args),
        Command::Forget(args) => forget(&args),
    }
}

/// Arguments of `archive add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    at: At,
    /// Folder of pictures, or a list of them (.csv, .jsonl, .txt)
    #[arg(long, value_name = "DIR|LIST")]
    frames: PathBuf,
    /// The camera they are of
    #[arg(long, value_name = "NAME")]
    camera: String,
    /// The camera's time zone: UTC, an offset such as +02:00, or a name such as Europe/Zurich
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: Zone,
    /// How far capture times may be off, either way
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    uncertainty: Duration,
    /// Take the list's labels of this task, too: count, time-of-day, scalar or class
    #[arg(long, value_name = "TASK", value_parser = parse_task)]
    task: Option<Task>,
    /// Who made these labels
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    who: String,
    /// Embed them with this model
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    on: ChoiceArgs,
    /// Frames of one transaction
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = batch)]
    batch: usize,
    /// One JSON line a frame, with its id, as soon as it is durable
    #[arg(long)]
    json: bool,
}

fn batch(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|it| (1..=4096).contains(it)).ok_or_else(|| "a number from 1 to 4096".to_owned())
}

fn add(args: AddArgs) -> anyhow::Result<()> {
    let list = frames::list(&args.frames)?;
    let labels = args.task.map(|task| Labels::read(&args.frames, task)).transpose()?;
    let archive = Archive::open(&args.at.archive)?;
    let mut embedder = args.model.as_deref().map(|model| Embedder::open(model, args.on.into())).transpose()?;
    let (mut new, mut same, mut taken) = (0, 0, 0);
    for batch in list.chunks(args.batch) {
        let incoming = batch.iter().map(|it| incoming(it, &args)).collect::<anyhow::Result<Vec<_>>>()?;
        let added = archive.add(embedded(incoming, embedder.as_mut())?)?;
        new += added.iter().filter(|it| matches!(it, Added::New(_))).count();
        same += added.iter().filter(|it| matches!(it, Added::Same(_))).count();
        if let (Some(labels), Some(task)) = (&labels, args.task) {
            let returned = returned(batch, &added, (labels, task), &args);
            taken += returned.len();
            archive.put_labels(&returned)?;
        }
        if args.json {
            let mut out = io::stdout().lock();
            for (frame, added) in batch.iter().zip(&added) {
                let new = matches!(added, Added::New(_));
                writeln!(out, "{}", json!({ "file": frame.id, "id": added.id(), "new": new }))?;
            }
            out.flush()?;
        }
    }
    eprintln!("{new} frames added to {}, {same} were there, {taken} labels taken", args.at.archive.display());
    Ok(())
}

fn incoming(frame: &FrameRef, args: &AddArgs) -> anyhow::Result<Incoming> {
    let limits = Limits::default();
    let bytes = image::read(&frame.path, &limits)?;
    let jpeg = if image::is_png(&bytes) {
        jpeg::encode(&image::load(&frame.path, &limits)?, QUALITY, Chroma::C444)
    } else {
        bytes
    };
    Ok(Incoming {
        camera: args.camera.clone(),
        captured_at: frame.captured_at.with_context(|| format!("{} has no time", frame.path.display()))?,
        zone: args.zone.clone(),
        uncertainty_ms: u64::try_from(args.uncertainty.as_millis()).unwrap_or(u64::MAX),
        source: frame.path.display().to_string(),
        jpeg: jpeg.into(),
        embedding: None,
    })
}

/// The same frames with embeddings, if there is an encoder.
pub(super) fn embedded(
    mut frames: Vec<Incoming>,
    embedder: Option<&mut Embedder>,
) -> anyhow::Result<Vec<Incoming>> {
    if let Some(embedder) = embedder {
        let jpegs: Vec<Bytes> = frames.iter().map(|it| it.jpeg.clone()).collect();
        for (frame, embedding) in frames.iter_mut().zip(embedder.embed(&jpegs)?) {
            frame.embedding = embedding;
        }
    }
    Ok(frames)
}

fn returned(batch: &[FrameRef], added: &[Added], (labels, task): (&Labels, Task), args: &AddArgs) -> Vec<Returned> {
    let label = |(frame, added): (&FrameRef, &Added)| {
        let row = labels.rows.iter().find(|row| row.file == frame.id)?;
        let answer = match task {
            Task::Count => Answer::Count { value: row.value, boxes: Vec::new() },
            Task::TimeOfDay => Answer::TimeOfDay(row.value),
            Task::Scalar => Answer::Scalar(row.value),
            Task::Class => Answer::Class(labels.classes.get(row.value as usize)?.clone()),
        };
        let label = Label { answer, who: args.who.clone(), at: Timestamp::now(), from: "archive add".to_owned() };
        let place = format!("{} line {}", args.frames.display(), row.line);
        Some(Returned { place, id: added.id(), path: None, label })
    };
    batch.iter().zip(added).filter_map(label).collect()
}

/// Arguments of `archive embed`.
#[derive(Debug, clap::Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// Model folder
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    on: ChoiceArgs,
}

fn embed(args: &EmbedArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let mut embedder = Embedder::open(&args.model, args.on.into())?;
    let mut missing = Vec::new();
    for found in archive.find(&args.which.query())? {
        if !archive.is_embedded(&found.record, embedder.space())? {
            missing.push(found.record);
        }
    }
    let mut done = 0;
    for batch in missing.chunks(BATCH) {
        let jpegs = batch.iter().map(|it| archive.jpeg(it).map(Bytes::from)).collect::<Result<Vec<_>, _>>()?;
        let embedded = embedder.embed(&jpegs)?;
        let pairs: Vec<_> =
            batch.iter().zip(embedded).filter_map(|(record, it)| Some((record.id, it?))).collect();
        archive.embed(&pairs)?;
        done += pairs.len();
    }
    println!("{done} frames embedded in space {}", embedder.space().short());
    Ok(())
}

/// Arguments of `archive stats`.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    at: At,
    /// One JSON object a camera
    #[arg(long)]
    json: bool,
}

fn stats(args: &StatsArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let mut out = io::stdout().lock();
    let totals = archive.totals()?;
    if totals.is_empty() && !args.json {
        writeln!(out, "no frames in {}", archive.dir().display())?;
    }
    for (camera, frames, bytes) in totals {
        let span = archive.span(&camera)?;
        let spaces = archive.spaces(&camera)?;
        let mut labelled = Vec::new();
        for task in [Task::Count, Task::TimeOfDay, Task::Scalar, Task::Class] {
            let labels = archive.labelled(Some(&camera), task)?;
            let disputed =
                labels.iter().filter_map(|(_, it)| Consensus::of(it)).filter(|it| !it.agree).count();
            if !labels.is_empty() {
                labelled.push((task, labels.len(), disputed));
            }
        }
        if args.json {
            let labels: Vec<_> = labelled
                .iter()
                .map(|(task, n, disputed)| json!({ "task": task_name(*task), "frames": n, "disputed": disputed }))
                .collect();
            let spaces: Vec<_> =
                spaces.iter().map(|(space, n)| json!({ "space": space.to_string(), "frames": n })).collect();
            let (first, last) = span.unzip();
            writeln!(
                out,
                "{}",
                json!({ "camera": camera, "frames": frames, "bytes": bytes, "first": first, "last": last,
                    "embedded": spaces, "labelled": labels })
            )?;
            continue;
        }
        write!(out, "{camera}: {frames} frames, {}", ByteSize(bytes))?;
        if let Some((first, last)) = span {
            write!(out, ", {first:.0} to {last:.0}")?;
        }
        writeln!(out)?;
        for (space, n) in spaces {
            writeln!(out, "  {n} embedded in space {}", space.short())?;
        }
        for (task, n, disputed) in labelled {
            write!(out, "  {n} labelled ({})", task_name(task))?;
            writeln!(out, "{}", if disputed > 0 { format!(", {disputed} of them disputed") } else { String::new() })?;
        }
    }
    Ok(())
}

/// Arguments of `archive find`.
#[derive(Debug, clap::Args)]
pub struct FindArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// With a label of this task
    #[arg(long, value_name = "TASK", value_parser = parse_task, conflicts_with = "unlabelled")]
    labelled: Option<Task>,
    /// Without a label of this task
    #[arg(long, value_name = "TASK", value_parser = parse_task)]
    unlabelled: Option<Task>,
    /// At most so many, the newest ones; 0: all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// One JSON object a frame, with its labels
    #[arg(long)]
    json: bool,
}

fn find(args: &FindArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let labelled = args.labelled.map(|it| (it, true)).or(args.unlabelled.map(|it| (it, false)));
    let newest = (args.limit > 0).then_some(args.limit);
    let found = archive.find(&Query { labelled, newest, ..args.which.query() })?;
    let mut out = io::stdout().lock();
    for it in &found {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(it)?)?;
        } else {
            writeln!(out, "{}", line(it))?;
        }
    }
    if newest == Some(found.len()) {
        eprintln!("the newest {}; more with --limit", found.len());
    }
    Ok(())
}

/// One frame for people: local time with what it may be off, id, size, what is said of it.
fn line(found: &Found) -> String {
    let Record { id, camera, captured_at, zone, uncertainty_ms, width, height, path, .. } = &found.record;
    let zone: Zone = zone.parse().unwrap_or_else(|_| Zone::utc());
    let off = humantime::format_duration(Duration::from_millis(*uncertainty_ms));
    let said: Vec<String> = found
        .labels
        .iter()
        .map(|it| format!("{} {} ({})", task_name(it.answer.task()), it.answer.value(), it.who))
        .collect();
    let local = zone.local(*captured_at);
    format!("{id} {camera} {local} ±{off} {width}×{height} {path} {}", said.join(", ")).trim_end().to_owned()
}

/// Arguments of `archive export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// Which labels: count, time-of-day (from the camera's clock unless somebody said otherwise), scalar or class
    #[arg(long, value_name = "TASK", value_parser = parse_task)]
    task: Task,
    /// Folder or file to make
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// A folder, or one table
    #[arg(long, value_enum, default_value = "folder")]
    format: Format,
    /// Share of the labelled frames, the latest ones, to test on
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, value_parser = share)]
    test: f64,
    /// Labelled frames left out between those to learn from and those to test on
    #[arg(long, value_name = "N", default_value_t = 0)]
    gap: usize,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|it| (0.0..1.0).contains(it));
    value.ok_or_else(|| "a number from 0 to below 1".to_owned())
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let export = Export { query: args.which.query(), task: args.task, test: args.test, gap: args.gap };
    let Exported { frames, labelled, undecided, disputed, split } = match args.format {
        Format::Folder => archive.export(&export, &args.out)?,
        Format::Parquet => archive.export_table(&export, &args.out)?,
    };
    println!("{}: {frames} frames, {labelled} labelled ({})", args.out.display(), task_name(args.task));
    if disputed + undecided > 0 {
        println!(
            "{disputed} disputed: the median or the most frequent answer was taken; {undecided} undecided: left out"
        );
    }
    match (args.format, split) {
        (Format::Parquet, _) => {}
        (_, Some((pool, test))) => println!("split.toml: {pool} to learn from, the later {test} to test on"),
        (_, None) => println!("no split.toml: it takes 10 labelled frames to learn from and 10 to test on"),
    }
    Ok(())
}

/// Arguments of `archive verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    at: At,
    /// Compare lengths instead of hashes
    #[arg(long)]
    quick: bool,
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let report = archive.verify(args.quick)?;
    for fault in &report.faults {
        println!("{fault}");
    }
    println!(
        "{} frames ({}), {} embeddings, {} labels: {} faults",
        report.frames,
        ByteSize(report.bytes),
        report.embeddings,
        report.labels,
        report.faults.len()
    );
    if !report.faults.is_empty() {
        bail!("the archive is not whole; `archive gc` removes unlinked files, `archive forget --id` lost frames");
    }
    Ok(())
}

/// Arguments of `archive gc`.
#[derive(Debug, clap::Args)]
pub struct GcArgs {
    #[command(flatten)]
    at: At,
    /// This camera alone
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    #[command(flatten)]
    keep: KeepArgs,
}

/// What a camera may keep.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct KeepArgs {
    /// Delete frames older than this, labelled or not
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    /// Delete the oldest frames without labels beyond so many bytes a camera: 500MB, 20GB
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<ByteSize>,
}

impl From<KeepArgs> for Keep {
    fn from(args: KeepArgs) -> Self {
        /// A day, in seconds.
        const DAY: u64 = 24 * 3600;
        let age = args.keep_days.map(|days| Duration::from_secs(u64::from(days) * DAY));
        Self { age, bytes: args.keep_bytes.map(|it| it.as_u64()) }
    }
}

fn gc(args: &GcArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let mut cameras: Vec<String> = archive.totals()?.into_iter().map(|(camera, ..)| camera).collect();
    if let Some(camera) = &args.camera {
        cameras.retain(|it| it == camera);
        if cameras.is_empty() {
            bail!("camera {camera:?} has no frames in {}", archive.dir().display());
        }
    }
    for camera in cameras {
        let removed = archive.retain(&camera, args.keep.into(), Timestamp::now())?;
        println!("{camera}: {} frames removed, {}", removed.frames, ByteSize(removed.bytes));
        if removed.beyond > 0 {
            println!("  still {} beyond: what is left carries labels", ByteSize(removed.beyond));
        }
    }
    for path in archive.sweep()? {
        println!("removed {path}, which the index does not know");
    }
    Ok(())
}

/// Arguments of `archive forget`.
#[derive(Debug, clap::Args)]
#[group(id = "forgotten", required = true, multiple = true, args = ["id", "camera", "since", "until"])]
pub struct ForgetArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// These frames, by id
    #[arg(long, value_name = "ID", conflicts_with_all = ["camera", "since", "until"])]
    id: Vec<FrameId>,
    /// Really do it; without it, says what would go
    #[arg(long)]
    yes: bool,
}

fn forget(args: &ForgetArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let found = match args.id.is_empty() {
        true => archive.find(&args.which.query())?,
        false => args.id.iter().map(|id| archive.get(*id)).collect::<Result<_, _>>()?,
    };
    let labels: usize = found.iter().map(|it| it.labels.len()).sum();
    let records: Vec<Record> = found.into_iter().map(|it| it.record).collect();
    let bytes = ByteSize(records.iter().map(|it| it.bytes).sum());
    if !args.yes {
        println!("{} frames ({bytes}) and {labels} labels would be deleted; say --yes to do it", records.len());
        return Ok(());
    }
    let removed = archive.remove(&records)?;
    println!("{} frames ({bytes}) and {labels} labels deleted", removed.frames);
    Ok(())
}
