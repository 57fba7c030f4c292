//! The archive as a folder that `embed`, `head train` and `evaluate` read, and as a table for other tools.
//!
//! ```text
//! OUT/
//!   frames/CAMERA/DAY/TIME-ID.jpg
//!   frames.jsonl   every frame that was asked for: more of them make a better background
//!   labels.jsonl   those with a label of the task, in time order
//!   split.toml     earlier ones to learn from, later ones to test on; where there are enough
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use shared::head::Task;

use super::label::task_name;
use super::record::Zone;
use super::{Archive, ArchiveError, Consensus, Found, Query};
use crate::heads::labels::column;

mod parquet;
mod table;

/// Fewest labelled rows of the pool and of the test: what `evaluate` takes.
const MIN_ROWS: usize = 10;

/// Times that are off by more say nothing about the time of day, in milliseconds.
const CLOCK_MS: u64 = 5 * 60 * 1000;

/// What to export.
#[derive(Debug, Clone)]
pub struct Export {
    /// Which frames.
    pub query: Query,
    /// Which labels.
    pub task: Task,
    /// Share of the labelled frames, the last ones, that are for testing.
    pub test: f64,
    /// Labelled frames left out between pool and test: neighbours in time are nearly the same frame.
    pub gap: usize,
}

/// What a table is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A folder for `embed`, `head train` and `evaluate`
    Folder,
    /// Embeddings and labels in one Parquet file
    Parquet,
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Frames.
    pub frames: usize,
    /// Those with a label.
    pub labelled: usize,
    /// Those with labels that differ so that none could be taken.
    pub undecided: usize,
    /// Those that several people labelled differently; the median or most frequent answer was taken.
    pub disputed: usize,
    /// Rows of the pool and of the test, if there is a split.
    pub split: Option<(usize, usize)>,
}

impl Archive {
    /// Writes a folder; `out` must not be there, or be empty. Whole or not at all.
    ///
    /// # Errors
    /// Nothing to export, a folder that is in the way, a frame that is lost or altered, a disk that cannot be written.
    pub fn export(&self, export: &Export, out: &Path) -> Result<Exported, ArchiveError> {
        let mut found = self.find(&export.query)?;
        found.sort_by_key(|it| it.record.captured_at);
        let rows = Rows::new(&found, export)?;
        let part = prepare(out)?;
        for it in &found {
            let to = part.join(&it.record.path);
            let folder = to.parent().unwrap_or(&part);
            std::fs::create_dir_all(folder).map_err(ArchiveError::io("create the folder", folder))?;
            std::fs::write(&to, self.jpeg(&it.record)?).map_err(ArchiveError::io("write", &to))?;
        }
        write(&part.join("frames.jsonl"), &rows.frames)?;
        if rows.exported.labelled > 0 {
            write(&part.join("labels.jsonl"), &rows.labels)?;
        }
        if let Some((pool, test)) = rows.exported.split {
            let first = pool + export.gap;
            let text = format!(
                "task = \"{}\"\npool = [0, {pool}]\ntest = [{first}, {}]\n",
                task_name(export.task),
                first + test
            );
            write(&part.join("split.toml"), &text)?;
        }
        if out.exists() {
            std::fs::remove_dir(out).map_err(ArchiveError::io("replace", out))?;
        }
        std::fs::rename(&part, out).map_err(ArchiveError::io("write", out))?;
        Ok(rows.exported)
    }

    /// Writes embeddings and labels as one Parquet file.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    pub fn export_table(&self, export: &Export, out: &Path) -> Result<Exported, ArchiveError> {
        let mut found = self.find(&export.query)?;
        found.sort_by_key(|it| it.record.captured_at);
        let exported = Rows::new(&found, export)?.exported;
        table::write(self, &found, export.task, out)?;
        Ok(exported)
    }
}

/// The lines of the files.
struct Rows {
    frames: String,
    labels: String,
    exported: Exported,
}

impl Rows {
    fn new(found: &[Found], export: &Export) -> Result<Self, ArchiveError> {
        if found.is_empty() {
            let why = "no frames match: `dc-encoder archive find` with the same options shows what there is";
            return Err(ArchiveError::NothingToExport(why.to_owned()));
        }
        let mut rows = Self { frames: String::new(), labels: String::new(), exported: Exported::default() };
        rows.exported.frames = found.len();
        for it in found {
            let record = &it.record;
            let mut line = json!({
                "file": record.path, "id": record.id, "camera": record.camera, "captured_at": record.captured_at,
                "zone": record.zone, "uncertainty_ms": record.uncertainty_ms,
            });
            let _ = writeln!(rows.frames, "{line}");
            let labels = it.labels_of(export.task);
            let Some(value) = rows.value(it, export.task, Consensus::of(&labels)) else { continue };
            line[column(export.task)] = value;
            if !labels.is_empty() {
                line["labels"] = json!(labels);
            }
            let _ = writeln!(rows.labels, "{line}");
            rows.exported.labelled += 1;
        }
        let (n, gap) = (rows.exported.labelled, export.gap);
        // A small share of few labels is still enough of them to be tested on, or none.
        let least = if export.test > 0.0 { MIN_ROWS } else { 0 };
        let test = ((n as f64 * export.test).round() as usize).max(least);
        let pool = n.saturating_sub(test + gap);
        if pool >= MIN_ROWS && test >= MIN_ROWS {
            rows.exported.split = Some((pool, test));
        }
        Ok(rows)
    }

    /// The label that counts; of the time of day, what the camera's clock says unless somebody said otherwise.
    fn value(&mut self, it: &Found, task: Task, said: Option<Consensus>) -> Option<serde_json::Value> {
        match said {
            Some(Consensus { value, agree, .. }) => {
                self.exported.disputed += usize::from(!agree && value.is_some());
                self.exported.undecided += usize::from(value.is_none());
                value
            }
            None if task == Task::TimeOfDay && it.record.uncertainty_ms <= CLOCK_MS => {
                let zone: Zone = it.record.zone.parse().ok()?;
                Some(zone.minute_of_day(it.record.captured_at).into())
            }
            None => None,
        }
    }
}

/// `OUT.part`, new and empty.
fn prepare(out: &Path) -> Result<PathBuf, ArchiveError> {
    let taken = std::fs::read_dir(out).map(|mut entries| entries.next().is_some()).unwrap_or(out.exists());
    if taken {
        let why = format!("{} is there already: choose another --out, or remove it", out.display());
        return Err(ArchiveError::NothingToExport(why));
    }
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(ArchiveError::io("remove", &part))?;
    }
    std::fs::create_dir_all(&part).map_err(ArchiveError::io("create the folder", &part))?;
    Ok(part)
}

fn write(path: &Path, text: &str) -> Result<(), ArchiveError> {
    std::fs::write(path, text).map_err(ArchiveError::io("write", path))
}
