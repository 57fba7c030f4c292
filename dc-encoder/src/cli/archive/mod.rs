//! `dc-encoder archive`: frames, their embeddings and their labels.

use std::path::PathBuf;

use jiff::Timestamp;
use shared::frames;
use shared::head::Task;

use crate::archive::{Query, task_name};

mod add;
mod init;
mod look;
mod take;

pub use add::{AddArgs, EmbedArgs};
pub use init::InitArgs;
pub use look::{FindArgs, StatsArgs, VerifyArgs};
pub use take::{ExportArgs, ForgetArgs, GcArgs, KeepArgs};

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
    /// Make an archive; its frames in its folder, or in a bucket
    #[command(after_help = "Examples:\n  dc-encoder archive init --archive archive\n  \
        AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… dc-encoder archive init --frames s3://frames/site-1 --endpoint https://minio.example:9000")]
    Init(InitArgs),
    /// Add a folder or list of frames, with their labels if asked
    #[command(
        after_help = "Example:\n  dc-encoder archive add --camera plaza-1 --frames labels.jsonl --task count --zone Europe/Zurich"
    )]
    Add(AddArgs),
    /// Embed the frames that have no embedding of this encoder yet
    #[command(after_help = "Example:\n  dc-encoder archive embed --model model")]
    Embed(EmbedArgs),
    /// What the archive holds, camera by camera
    #[command(after_help = "Example:\n  dc-encoder archive stats --archive archive")]
    Stats(StatsArgs),
    /// Find frames by camera, time and labels
    #[command(
        after_help = "Example:\n  dc-encoder archive find --camera plaza-1 --since 2026-06-01T06:00:00Z --unlabelled count"
    )]
    Find(FindArgs),
    /// Write a folder that `embed`, `head train` and `evaluate` read, or a table of embeddings and labels
    #[command(
        after_help = "Example:\n  dc-encoder archive export --camera plaza-1 --task count --out plaza\n  \
        dc-encoder archive export --task count --format parquet --out plaza.parquet"
    )]
    Export(ExportArgs),
    /// Compare index and files; fails when something is lost, altered or unlinked
    #[command(after_help = "Example:\n  dc-encoder archive verify --archive archive")]
    Verify(VerifyArgs),
    /// Remove what is too old or too much, and files that the index does not know
    #[command(
        after_help = "Example:\n  dc-encoder archive gc --camera plaza-1 --keep-days 30 --keep-bytes 20GB"
    )]
    Gc(GcArgs),
    /// Delete frames with everything that is known of them, and write the index anew without a trace of them
    #[command(
        after_help = "Example:\n  dc-encoder archive forget --camera plaza-1 --since 2026-06-01T12:00:00Z --until 2026-06-01T12:10:00Z --yes"
    )]
    Forget(ForgetArgs),
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the archive from doing it; each says what to do.
pub fn run(command: Command) -> anyhow::Result<()> {
    shared::telemetry::init("info", shared::telemetry::Format::Text)?;
    match command {
        Command::Init(args) => init::init(args),
        Command::Add(args) => add::add(args),
        Command::Embed(args) => add::embed(&args),
        Command::Stats(args) => look::stats(&args),
        Command::Find(args) => look::find(&args),
        Command::Export(args) => take::export(&args),
        Command::Verify(args) => look::verify(&args),
        Command::Gc(args) => take::gc(&args),
        Command::Forget(args) => take::forget(&args),
    }
}
