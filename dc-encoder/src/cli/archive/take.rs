//! What leaves the archive: copies, and frames that go for good.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use bytesize::ByteSize;
use jiff::Timestamp;
use shared::head::Task;

use super::{At, Which, parse_task};
use crate::archive::{Archive, Export, Exported, Format, FrameId, Keep, Record, task_name};

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

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<()> {
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
    /// Delete frames older than this, labelled or not; archive.toml may say so for each camera, and the stricter counts
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

pub(super) fn gc(args: &GcArgs) -> anyhow::Result<()> {
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
    if archive.has_traces()? {
        archive.erase_traces()?;
        println!("the index was written anew: nothing of what was removed is left in it");
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

pub(super) fn forget(args: &ForgetArgs) -> anyhow::Result<()> {
    let archive = Archive::open_existing(&args.at.archive)?;
    let found = match args.id.is_empty() {
        true => archive.find(&args.which.query())?,
        false => args.id.iter().map(|id| archive.get(*id)).collect::<Result<_, _>>()?,
    };
    let labels: usize = found.iter().map(|it| it.labels.len()).sum();
    let records: Vec<Record> = found.into_iter().map(|it| it.record).collect();
    let bytes = ByteSize(records.iter().map(|it| it.bytes).sum());
    if !args.yes {
        println!(
            "{} frames ({bytes}) and {labels} labels would be deleted; say --yes to do it",
            records.len()
        );
        return Ok(());
    }
    let removed = archive.remove(&records)?;
    println!("{} frames ({bytes}) and {labels} labels deleted", removed.frames);
    if archive.has_traces()? {
        archive.erase_traces()?;
        println!("the index was written anew: nothing of them is left in it");
    }
    Ok(())
}
