//! The kinds of list file, each read into entries with their line numbers.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use super::{Entry, ListError, MAX_LIST_BYTES, time};

/// Reads a whole list as text, its length checked first. A byte-order mark is dropped.
fn read(path: &Path) -> Result<String, ListError> {
    let io = |source| ListError::Io { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > MAX_LIST_BYTES as u64 {
        return Err(ListError::TooLarge { path: path.into(), bytes: length });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LIST_BYTES as u64).read_to_end(&mut bytes).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() as u64;
        fail(path, line, "the text is not UTF-8; save the list as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}

fn fail(path: &Path, line: u64, why: impl Into<String>) -> ListError {
    ListError::Line { path: path.into(), line, why: why.into() }
}

pub(super) fn csv(path: &Path) -> Result<Vec<Entry>, ListError> {
    let text = read(path)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let broken = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        let why = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} columns where the header has {expected_len}; quote values that hold commas")
            }
            _ => error.to_string(),
        };
        fail(path, line, why)
    };
    let header = reader.headers().map_err(broken)?;
    let column = |name: &str| header.iter().position(|title| title == name);
    let (file, captured_at) = (column("file"), column("captured_at"));
    let Some(file) = file else {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let columns = header.iter().map(|title| format!("`{title}`")).collect::<Vec<_>>().join(", ");
        return Err(ListError::NoFileColumn { path: path.into(), columns });
    };
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let time = captured_at.and_then(|column| record.get(column)).filter(|text| !text.is_empty());
        let time = time.map(|text| parse_time(path, line, text)).transpose()?;
        entries.push(entry(path, line, record.get(file).unwrap_or_default(), time)?);
    }
    Ok(entries)
}

pub(super) fn jsonl(path: &Path) -> Result<Vec<Entry>, ListError> {
    /// The keys that matter; labels stand beside them.
    #[derive(serde::Deserialize)]
    struct Object {
        file: Option<String>,
        captured_at: Option<String>,
        t_s: Option<f64>,
    }
    let text = read(path)?;
    let mut entries = Vec::new();
    for (line, text) in numbered(&text) {
        let object: Object = serde_json::from_str(text)
            .map_err(|error| fail(path, line, format!("not a JSON object of a frame: {error}")))?;
        let file = object.file.ok_or_else(|| fail(path, line, "there is no key `file`"))?;
        let time = match (object.captured_at, object.t_s) {
            (Some(text), _) => Some(parse_time(path, line, &text)?),
            (None, Some(seconds)) => {
                let time = time::from_seconds(seconds);
                Some(time.ok_or_else(|| fail(path, line, format!("`t_s` {seconds} is out of range")))?)
            }
            (None, None) => None,
        };
        entries.push(entry(path, line, &file, time)?);
    }
    Ok(entries)
}

pub(super) fn txt(path: &Path) -> Result<Vec<Entry>, ListError> {
    let text = read(path)?;
    numbered(&text).map(|(line, file)| entry(path, line, file, None)).collect()
}

/// Lines that are not blank, with their numbers from 1.
fn numbered(text: &str) -> impl Iterator<Item = (u64, &str)> {
    text.lines().zip(1..).map(|(text, line)| (line, text.trim())).filter(|(_, text)| !text.is_empty())
}

fn entry(path: &Path, line: u64, file: &str, captured_at: Option<Timestamp>) -> Result<Entry, ListError> {
    if file.is_empty() {
        return Err(fail(path, line, "`file` is empty"));
    }
    Ok(Entry { line, file: file.into(), captured_at })
}

fn parse_time(path: &Path, line: u64, text: &str) -> Result<Timestamp, ListError> {
    time::parse(text).ok_or_else(|| {
        let why = format!(
            "`captured_at` is {text:?}; write it as 2023-06-13T03:11:46Z or with an offset such as +02:00"
        );
        fail(path, line, why)
    })
}
