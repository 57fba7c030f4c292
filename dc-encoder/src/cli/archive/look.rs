//! What the archive holds, and whether it is whole.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::bail;
use bytesize::ByteSize;
use serde_json::json;
use shared::head::Task;

use super::{At, Which, parse_task};
use crate::archive::{Archive, Consensus, Found, Query, Record, Zone, task_name};

/// Arguments of `archive stats`.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    at: At,
    /// One JSON object a camera
    #[arg(long)]
    json: bool,
}

pub(super) fn stats(args: &StatsArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let mut out = io::stdout().lock();
    let totals = archive.totals()?;
    if totals.is_empty() && !args.json {
        writeln!(out, "no frames in {}", archive.dir().display())?;
    }
    if !args.json {
        writeln!(out, "frames in {}", archive.frames_at())?;
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
            writeln!(
                out,
                "{}",
                if disputed > 0 { format!(", {disputed} of them disputed") } else { String::new() }
            )?;
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

pub(super) fn find(args: &FindArgs) -> anyhow::Result<()> {
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

/// Arguments of `archive verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    at: At,
    /// Compare lengths instead of hashes
    #[arg(long)]
    quick: bool,
}

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
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
        bail!(
            "the archive is not whole; `archive gc` removes unlinked files, `archive forget --id` lost frames"
        );
    }
    Ok(())
}
