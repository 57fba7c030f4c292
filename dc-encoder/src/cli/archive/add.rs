//! Frames into the archive, and embeddings to those that are there.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use shared::frames::{self, FrameRef};
use shared::head::Task;
use shared::image::{self, Chroma, Limits, jpeg};

use super::{At, Which, parse_task};
use crate::archive::{Added, Answer, Archive, Embedder, Incoming, Label, Returned, Zone};
use crate::backend::ChoiceArgs;
use crate::heads::Labels;

/// Frames of one transaction while a folder is added: their syncs are shared, and so is the index's.
const BATCH: usize = 64;

/// Quality of a picture that was no JPEG before.
const QUALITY: u8 = 95;

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

pub(super) fn add(args: AddArgs) -> anyhow::Result<()> {
    let list = frames::list(&args.frames)?;
    let labels = args.task.map(|task| Labels::read(&args.frames, task)).transpose()?;
    let archive = Archive::open(&args.at.archive)?;
    let mut embedder =
        args.model.as_deref().map(|model| Embedder::open(model, args.on.into())).transpose()?;
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

fn returned(
    batch: &[FrameRef],
    added: &[Added],
    (labels, task): (&Labels, Task),
    args: &AddArgs,
) -> Vec<Returned> {
    let label = |(frame, added): (&FrameRef, &Added)| {
        let row = labels.rows.iter().find(|row| row.file == frame.id)?;
        let answer = match task {
            Task::Count => Answer::Count { value: row.value, boxes: Vec::new() },
            Task::TimeOfDay => Answer::TimeOfDay(row.value),
            Task::Scalar => Answer::Scalar(row.value),
            Task::Class => Answer::Class(labels.classes.get(row.value as usize)?.clone()),
        };
        let label = Label {
            answer,
            who: args.who.clone(),
            at: Timestamp::now(),
            from: "archive add".to_owned(),
            earlier: Vec::new(),
        };
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

pub(super) fn embed(args: &EmbedArgs) -> anyhow::Result<()> {
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
        let jpegs =
            batch.iter().map(|it| archive.jpeg(it).map(Bytes::from)).collect::<Result<Vec<_>, _>>()?;
        let embedded = embedder.embed(&jpegs)?;
        let pairs: Vec<_> =
            batch.iter().zip(embedded).filter_map(|(record, it)| Some((record.id, it?))).collect();
        archive.embed(&pairs)?;
        done += pairs.len();
    }
    println!("{done} frames embedded in space {}", embedder.space().short());
    Ok(())
}
