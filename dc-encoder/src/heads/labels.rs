//! Labels: CSV with a header or JSON lines, one frame a row, checked as they are read.
//!
//! A row has `file` (the frame's path as it was embedded) and the task's column: `count`, a number from 0 up,
//! `minute_of_day`, a number in `[0, 1440)`, `value`, any number, or `class`, a name. Other columns are left alone. Rows
//! are in time order.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use shared::head::limits::{MAX_CLASS_CHARS, MAX_CLASSES};
use shared::head::{Task, is_class_name};

use super::target::DAY_MINUTES;

/// Largest labels file in bytes; 100,000 frames with boxes take about 30 MB.
const MAX_BYTES: u64 = 256 << 20;

/// One label.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The frame, as written.
    pub file: String,
    /// The value, in the task's unit; of a class its place in [`Labels::classes`].
    pub value: f64,
    /// Line in the labels file, from 1.
    pub line: usize,
}

/// A labels file.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// The rows, in the file's order.
    pub rows: Vec<Label>,
    /// Names of the classes in the file, sorted; empty for other tasks.
    pub classes: Vec<String>,
    /// SHA-256 of the file, 64 hex digits.
    pub digest: String,
}

/// Why a labels file was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The file could not be read.
    #[error("cannot read the labels {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// More bytes than labels take.
    #[error("{} is more than {MAX_BYTES} bytes: that is no labels file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{} is not UTF-8 text: labels are CSV with a header, or JSON lines", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A CSV header without a needed column.
    #[error("{}: there is no column `{column}`, only {columns}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column that is needed.
        column: &'static str,
        /// Those that are there.
        columns: String,
    },
    /// A row that is wrong.
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong in it.
        reason: String,
    },
    /// A frame with two labels.
    #[error("{}: `{file}` is labelled twice, in line {first} and line {second}; keep one", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The frame.
        file: String,
        /// The line of the first label.
        first: usize,
        /// The line of the second.
        second: usize,
    },
    /// More classes than a head can tell apart.
    #[error(
        "{} line {line}: `{class}` would be class number {got}, a head tells at most {MAX_CLASSES} apart: is `class` \
         the right column? If so, put rare classes together", path.display(), got = MAX_CLASSES + 1
    )]
    TooManyClasses {
        /// The file.
        path: PathBuf,
        /// The line of the first class too many.
        line: usize,
        /// Its name.
        class: String,
    },
    /// No rows.
    #[error("{} holds no labels", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Name of the column that holds a task's labels.
pub fn column(task: Task) -> &'static str {
    match task {
        Task::Count => "count",
        Task::TimeOfDay => "minute_of_day",
        Task::Scalar => "value",
        Task::Class => "class",
    }
}

impl Labels {
    /// Reads a labels file; JSON lines when its first character is `{`, else CSV.
    ///
    /// # Errors
    /// [`LabelError`], naming the file and the line.
    pub fn read(path: &Path, task: Task) -> Result<Self, LabelError> {
        let io = |source| LabelError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(LabelError::TooLarge { path: path.to_owned() });
        }
        let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let text = std::str::from_utf8(&bytes).map_err(|_| LabelError::NotText { path: path.to_owned() })?;
        // Spreadsheet programs put a byte order mark before the header.
        let text = text.trim_start_matches('\u{feff}');
        let reader = Reader { path, task };
        let texts = if text.trim_start().starts_with('{') { reader.json(text) } else { reader.csv(text) }?;
        let classes = reader.classes(&texts)?;
        let rows = texts.iter().map(|row| reader.label(row, &classes)).collect::<Result<Vec<_>, _>>()?;
        reader.check_duplicates(&rows)?;
        if rows.is_empty() {
            return Err(LabelError::Empty { path: path.to_owned() });
        }
        Ok(Self { rows, classes, digest })
    }
}

/// A row as written.
struct Row {
    file: String,
    value: Written,
    line: usize,
}

/// A label as written.
enum Written {
    Number(f64),
    Name(String),
}

struct Reader<'a> {
    path: &'a Path,
    task: Task,
}

impl Reader<'_> {
    fn csv(&self, text: &str) -> Result<Vec<Row>, LabelError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let broken = |error: csv::Error| {
            let line = error.position().map_or(1, |p| p.line() as usize);
            self.line(line, error.to_string())
        };
        let headers = reader.headers().map_err(broken)?.clone();
        let find = |column: &'static str| {
            headers.iter().position(|h| h == column).ok_or_else(|| LabelError::NoColumn {
                path: self.path.to_owned(),
                column,
                columns: headers.iter().map(|h| format!("`{h}`")).collect::<Vec<_>>().join(", "),
            })
        };
        let (file, value) = (find("file")?, find(column(self.task))?);
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, |p| p.line() as usize);
            let text = &record[value];
            let value = match self.task {
                Task::Class => Written::Name(text.to_owned()),
                _ => Written::Number(text.parse().map_err(|_| {
                    self.line(line, format!("`{}` is {text:?}, want a number", column(self.task)))
                })?),
            };
            rows.push(Row { file: record[file].to_owned(), value, line });
        }
        Ok(rows)
    }

    fn json(&self, text: &str) -> Result<Vec<Row>, LabelError> {
        let name = column(self.task);
        let mut rows = Vec::new();
        for (index, content) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line = index + 1;
            let object: serde_json::Value = serde_json::from_str(content)
                .map_err(|error| self.line(line, format!("not a JSON object ({error})")))?;
            let missing = |key: &str, want: &str, got: Option<&serde_json::Value>| match got {
                Some(got) => self.line(line, format!("`{key}` is {got}, want {want}")),
                None => self.line(line, format!("there is no `{key}`, want {want}")),
            };
            let file = object.get("file");
            let file =
                file.and_then(|f| f.as_str()).ok_or_else(|| missing("file", "the frame's path", file))?;
            let value = object.get(name);
            let (written, want) = match self.task {
                Task::Class => {
                    (value.and_then(|v| v.as_str()).map(|v| Written::Name(v.trim().to_owned())), "a name")
                }
                _ => (value.and_then(|v| v.as_f64()).map(Written::Number), "a number"),
            };
            let value = written.ok_or_else(|| missing(name, want, value))?;
            rows.push(Row { file: file.to_owned(), value, line });
        }
        Ok(rows)
    }

    /// Names of the classes, sorted.
    fn classes(&self, rows: &[Row]) -> Result<Vec<String>, LabelError> {
        let mut names: Vec<String> = Vec::new();
        for Row { value, line, .. } in rows {
            let Written::Name(name) = value else { continue };
            if !is_class_name(name) {
                let want = format!("a name of 1 to {MAX_CLASS_CHARS} printable characters");
                return Err(self.line(*line, format!("`class` is {name:?}, want {want}")));
            }
            if names.contains(name) {
                continue;
            }
            if names.len() == MAX_CLASSES {
                let (path, class) = (self.path.to_owned(), name.clone());
                return Err(LabelError::TooManyClasses { path, line: *line, class });
            }
            names.push(name.clone());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn label(&self, row: &Row, classes: &[String]) -> Result<Label, LabelError> {
        let line = row.line;
        let file = row.file.trim();
        if file.is_empty() {
            return Err(self.line(line, "`file` is empty".to_owned()));
        }
        let value = match &row.value {
            Written::Number(value) => *value,
            Written::Name(name) => classes.iter().position(|class| class == name).unwrap_or(0) as f64,
        };
        let (ok, want) = match self.task {
            Task::Scalar => (value.is_finite(), "a finite number".to_owned()),
            Task::Count => (value.is_finite() && value >= 0.0, "a number from 0 up".to_owned()),
            Task::Class => (true, String::new()),
            Task::TimeOfDay => {
                ((0.0..DAY_MINUTES).contains(&value), format!("a number from 0 to below {DAY_MINUTES}"))
            }
        };
        if !ok {
            return Err(self.line(line, format!("`{}` is {value}, want {want}", column(self.task))));
        }
        Ok(Label { file: normal(file).to_owned(), value, line })
    }

    fn check_duplicates(&self, rows: &[Label]) -> Result<(), LabelError> {
        let mut seen = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(first) = seen.insert(row.file.as_str(), row.line) {
                let (path, file) = (self.path.to_owned(), row.file.clone());
                return Err(LabelError::Duplicate { path, file, first, second: row.line });
            }
        }
        Ok(())
    }

    fn line(&self, line: usize, reason: String) -> LabelError {
        LabelError::Line { path: self.path.to_owned(), line, reason }
    }
}

/// A path without leading `./`.
pub(super) fn normal(path: &str) -> &str {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    path
}

/// Rows of a labels file, counted from 0, end exclusive: `A..B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows(pub Range<usize>);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start, self.0.end)
    }
}

/// Why a text is no [`Rows`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no range of rows: write A..B with A < B, counted from 0, B not included (0..300 is the first 300)"
)]
pub struct ParseRowsError(String);

impl FromStr for Rows {
    type Err = ParseRowsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (start, end) = text.split_once("..")?;
            let range = start.trim().parse().ok()?..end.trim().parse().ok()?;
            (range.start < range.end).then_some(Self(range))
        };
        parse().ok_or_else(|| ParseRowsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_half_open_range() {
        assert_eq!("0..300".parse(), Ok(Rows(0..300)));
        assert_eq!(Rows(3..5).to_string(), "3..5");
        for text in ["", "5", "5..", "..5", "5..5", "6..5", "-1..5", "0..=5", "a..b"] {
            assert!(text.parse::<Rows>().unwrap_err().to_string().contains("counted from 0"), "{text}");
        }
    }
}
