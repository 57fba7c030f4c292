//! A folder to hand to somebody: pictures, and a table to fill in.
//!
//! ```text
//! DIR/
//!   labels.csv    id, file, camera, captured_at, and the task's column, empty
//!   frames/…      the pictures, under the paths they have in the archive
//! ```
//! What comes back is this table, filled in, or `labels.jsonl` with the same keys and, for counts, `boxes`. `who` says who
//! labelled a row; without it, whoever pulls does.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use shared::head::Task;

use super::{AnnotateError, Answered, Asked, Item, Keep, Outgoing, Platform, Pulled};
use crate::archive::{Answer, Label, LabelFault, Returned};
use crate::heads::labels::column;

/// Largest table that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A folder as a platform.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder.
    pub dir: PathBuf,
    /// Who labels, where the table does not say.
    pub who: String,
}

impl Platform for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn all_or_nothing(&self) -> bool {
        true
    }

    fn push(&mut self, out: &Outgoing<'_>, _: &mut Keep<'_>) -> Result<(), AnnotateError> {
        let task = out.task;
        let table = self.dir.join("labels.csv");
        if table.exists() || self.dir.join("labels.jsonl").exists() {
            return Err(AnnotateError::InTheWay(self.dir.clone()));
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        let broken = |error: csv::Error| AnnotateError::Table { path: table.clone(), why: error.to_string() };
        writer.write_record(["id", "file", "camera", "captured_at", column(task), "who"]).map_err(broken)?;
        for Item { record, file } in out.items {
            let to = self.dir.join(&record.path);
            let folder = to.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder).map_err(AnnotateError::io("create the folder", folder))?;
            std::fs::copy(file, &to).map_err(AnnotateError::io("write", &to))?;
            let (id, at) = (record.id.to_string(), record.captured_at.to_string());
            writer.write_record([&id, &record.path, &record.camera, &at, "", ""]).map_err(broken)?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|error| AnnotateError::Table { path: table.clone(), why: error.to_string() })?;
        std::fs::write(&table, bytes).map_err(AnnotateError::io("write", &table))
    }

    fn pull(&mut self, asked: &Asked<'_>) -> Result<Pulled, AnnotateError> {
        let (name, task) = (asked.name, asked.task);
        let (csv, jsonl) = (self.dir.join("labels.csv"), self.dir.join("labels.jsonl"));
        // A table that was made of the one that was sent wins over it.
        let (path, lines) = match (jsonl.exists(), csv.exists()) {
            (true, _) => (jsonl.clone(), from_jsonl(&jsonl)?),
            (false, true) => (csv.clone(), from_csv(&csv, task)?),
            (false, false) => return Err(AnnotateError::NoLabels(self.dir.clone())),
        };
        let at = modified(&path);
        let mut answers = Vec::new();
        for (line, row) in lines {
            let place = format!("{} line {line}", path.display());
            let value = row.value(task);
            let empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
            if empty && row.boxes.is_empty() {
                continue; // not labelled yet
            }
            let refuse = |fault| AnnotateError::Label { place: place.clone(), fault };
            let id = row.id.trim().parse().map_err(|_| refuse(LabelFault::Id(row.id.clone())))?;
            let answer = Answer::read(task, &value, row.boxes.clone()).map_err(refuse)?;
            let who = row.who.clone().map(|who| who.trim().to_owned()).filter(|who| !who.is_empty());
            let who = who.unwrap_or_else(|| self.who.clone());
            let label = Label { answer, who, at, from: format!("folder {name}"), earlier: Vec::new() };
            let returned = Returned { place, id, path: row.file, label };
            answers.push(Answered { returned, size: None });
        }
        Ok(Pulled { answers, refused: Vec::new() })
    }
}

/// A row as it comes back; columns and keys that are not named here are left alone.
#[derive(Debug, Default, Deserialize)]
struct Row {
    id: String,
    file: Option<String>,
    #[serde(default)]
    count: Value,
    #[serde(default)]
    minute_of_day: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    class: Value,
    #[serde(default)]
    boxes: Vec<[f64; 4]>,
    who: Option<String>,
}

impl Row {
    fn value(&self, task: Task) -> Value {
        match task {
            Task::Count => &self.count,
            Task::TimeOfDay => &self.minute_of_day,
            Task::Scalar => &self.value,
            Task::Class => &self.class,
        }
        .clone()
    }
}

fn read(path: &Path) -> Result<String, AnnotateError> {
    let length = std::fs::metadata(path).map_err(AnnotateError::io("read", path))?.len();
    if length > MAX_BYTES {
        let why = format!("{length} bytes, a table of labels has at most {MAX_BYTES}");
        return Err(AnnotateError::Table { path: path.to_owned(), why });
    }
    let text = std::fs::read_to_string(path).map_err(AnnotateError::io("read", path))?;
    // Spreadsheet programs put a byte order mark before the header.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn from_jsonl(path: &Path) -> Result<Vec<(u64, Row)>, AnnotateError> {
    let text = read(path)?;
    let rows = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    rows.map(|(text, line)| {
        let row = serde_json::from_str(text).map_err(|error| AnnotateError::Table {
            path: path.to_owned(),
            why: format!("line {line}: {error}"),
        })?;
        Ok((line, row))
    })
    .collect()
}

fn from_csv(path: &Path, task: Task) -> Result<Vec<(u64, Row)>, AnnotateError> {
    let text = read(path)?;
    let broken = |error: csv::Error| AnnotateError::Table { path: path.to_owned(), why: error.to_string() };
    // Spreadsheet programs of half of Europe write semicolons.
    let header = text.lines().next().unwrap_or_default();
    let delimiter = if header.contains(';') && !header.contains(',') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).delimiter(delimiter).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(broken)?.clone();
    for name in ["id", column(task)] {
        if !headers.iter().any(|it| it == name) {
            let columns = headers.iter().collect::<Vec<_>>().join(", ");
            let why = format!("there is no column `{name}`, only {columns}");
            return Err(AnnotateError::Table { path: path.to_owned(), why });
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = |name: &str| {
            let at = headers.iter().position(|it| it == name)?;
            Some(record[at].to_owned()).filter(|text| !text.is_empty())
        };
        let value = |name: &str| text(name).map_or(Value::Null, Value::String);
        rows.push((
            line,
            Row {
                id: text("id").unwrap_or_default(),
                file: text("file"),
                count: value("count"),
                minute_of_day: value("minute_of_day"),
                value: value("value"),
                class: value("class"),
                boxes: Vec::new(),
                who: text("who"),
            },
        ));
    }
    Ok(rows)
}

fn modified(path: &Path) -> Timestamp {
    let time = std::fs::metadata(path).and_then(|it| it.modified()).ok();
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now)
}
