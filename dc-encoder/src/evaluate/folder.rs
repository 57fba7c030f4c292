//! A folder of labelled frames and how it is split: `labels.csv` or `labels.jsonl`, and `split.toml`.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::frames;
use shared::head::Task;

use super::error::EvalError;
use crate::heads::target::Target;
use crate::heads::{Labels, Measure, Options};

/// Largest `split.toml` in bytes; three lines take about 200.
const MAX_SPLIT_BYTES: u64 = 64 << 10;

/// Fewest rows of the pool: as many as the smallest training takes.
const MIN_POOL: usize = 10;

/// Fewest test rows a score with an interval can be stated on.
const MIN_TEST: usize = 10;

/// Which rows of the labels may be learned from, and which are for testing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the labels mean.
    pub task: Task,
    /// Rows that labels may be drawn from, and whose frames may be used without labels.
    pub pool: Range<usize>,
    /// Rows that are only tested on.
    pub test: Range<usize>,
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    task: Task,
    // Not `[usize; 2]`, of which the parser takes the first two numbers of any.
    pool: Vec<usize>,
    test: Vec<usize>,
}

impl Split {
    /// Reads a `split.toml`: `task`, and `pool` and `test` as `[first, end]` rows of the labels file, counted from 0,
    /// the end not included.
    ///
    /// # Errors
    /// [`EvalError`], naming the file, the key and its value.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let io = |source| EvalError::Split { path: path.into(), source };
        let syntax = |reason: String| EvalError::Syntax { path: path.into(), reason };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_SPLIT_BYTES + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_SPLIT_BYTES {
            return Err(syntax(format!("more than {MAX_SPLIT_BYTES} bytes")));
        }
        let raw: Raw = toml::from_str(&text).map_err(|error| syntax(one_line(&error.to_string())))?;
        let pair = |key, got: Vec<usize>| match got[..] {
            [first, end] => Ok([first, end]),
            _ => Err(syntax(format!("{key} = {got:?}, want two numbers [first, end]"))),
        };
        let (pool, test) = (pair("pool", raw.pool)?, pair("test", raw.test)?);
        for (key, got) in [("pool", pool), ("test", test)] {
            if got[0] >= got[1] {
                let want = "[first, end] with first < end".to_owned();
                return Err(EvalError::Range { path: path.into(), key, got, want });
            }
        }
        if pool[0] < test[1] && test[0] < pool[1] {
            return Err(EvalError::Overlap { path: path.into(), pool, test });
        }
        Ok(Self { task: raw.task, pool: pool[0]..pool[1], test: test[0]..test[1] })
    }

    /// Checks that the rows are there, and enough.
    fn check(&self, path: &Path, rows: usize) -> Result<(), EvalError> {
        for (key, range, purpose, want) in
            [("pool", &self.pool, "training a head", MIN_POOL), ("test", &self.test, "a score", MIN_TEST)]
        {
            let (path, got) = (path.to_owned(), [range.start, range.end]);
            if range.end > rows {
                let want = format!("an end of at most {rows}: the labels have {rows} rows");
                return Err(EvalError::Range { path, key, got, want });
            }
            if range.len() < want {
                return Err(EvalError::TooFew { path, key, got, rows: range.len(), purpose, want });
            }
        }
        Ok(())
    }
}

/// Checks that every class of the test can be learned from the pool.
fn check_classes(path: &Path, split: &Split, labels: &Labels) -> Result<(), EvalError> {
    let has = |rows: &Range<usize>, class: usize| {
        labels.rows[rows.clone()].iter().any(|row| row.value as usize == class)
    };
    let unknown = |class: &usize| has(&split.test, *class) && !has(&split.pool, *class);
    match (0..labels.classes.len()).find(unknown) {
        Some(class) => {
            let (path, class) = (path.to_owned(), labels.classes[class].clone());
            Err(EvalError::UnknownClass { path, class, pool: [split.pool.start, split.pool.end] })
        }
        None => Ok(()),
    }
}

/// A parser's message, which shows the line and points at a column, in one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A folder of labelled frames.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder's name, for people.
    pub name: String,
    /// The labels file, which is also the list of frames.
    pub list: PathBuf,
    /// The labels, in time order.
    pub labels: Labels,
    /// How they are split.
    pub split: Split,
    /// What the labels mean.
    pub target: Target,
}

impl Folder {
    /// Opens a folder: finds the labels file, reads it and `split.toml`, and checks one against the other.
    ///
    /// # Errors
    /// [`EvalError`], naming the file and the remedy.
    pub fn open(dir: &Path) -> Result<Self, EvalError> {
        let split_path = dir.join("split.toml");
        let split = Split::read(&split_path)?;
        let candidates = ["labels.csv", "labels.jsonl"].map(|name| dir.join(name));
        let list = match [candidates[0].exists(), candidates[1].exists()] {
            [true, false] => candidates[0].clone(),
            [false, true] => candidates[1].clone(),
            [false, false] => return Err(EvalError::LabelsFile { dir: dir.into(), found: "neither" }),
            [true, true] => return Err(EvalError::LabelsFile { dir: dir.into(), found: "both" }),
        };
        let labels = Labels::read(&list, split.task)?;
        split.check(&split_path, labels.rows.len())?;
        let name =
            dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
        check_classes(&split_path, &split, &labels)?;
        let target = Target::of(split.task, &labels.classes);
        Ok(Self { name: name.unwrap_or_else(|| dir.display().to_string()), list, labels, split, target })
    }

    /// Where each row's frame is, `[rows]`; every file is opened once.
    ///
    /// # Errors
    /// A row whose frame is missing, with its line.
    pub fn frames(&self) -> Result<Vec<PathBuf>, EvalError> {
        Ok(frames::list(&self.list)?.into_iter().map(|frame| frame.path).collect())
    }

    /// The label of a row.
    pub fn truth(&self, row: usize) -> f64 {
        self.labels.rows[row].value
    }

    /// The labels of these rows alone, as if the file held no others.
    pub fn labels_of(&self, rows: &[usize]) -> Labels {
        Labels {
            rows: rows.iter().map(|row| self.labels.rows[*row].clone()).collect(),
            digest: self.labels.digest.clone(),
            classes: self.labels.classes.clone(),
        }
    }

    /// Unit of the answers.
    pub fn unit(&self) -> String {
        Options::new(self.split.task).unit
    }

    /// How scores on this folder are written.
    pub fn measure(&self) -> Measure {
        Measure::of(self.split.task, &self.unit())
    }

    /// A value as people read it, where it has a name: of a class.
    pub fn class_name(&self, value: f64) -> Option<&str> {
        self.labels.classes.get(value as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "task = \"count\"\npool = [0, 12]\ntest = [14, 30]\n";

    fn folder(split: Option<&str>, labels: &[(&str, &str)]) -> Result<Folder, String> {
        let dir = tempfile::tempdir().unwrap();
        if let Some(split) = split {
            std::fs::write(dir.path().join("split.toml"), split).unwrap();
        }
        for (name, text) in labels {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let place = format!("{}/", dir.path().display());
        let plain = |error: EvalError| {
            error.to_string().replace(&place, "").replace(place.trim_end_matches('/'), "DIR")
        };
        Folder::open(dir.path()).map_err(plain)
    }

    fn rows(n: usize) -> String {
        (0..n).fold("file,count\n".to_owned(), |text, i| text + &format!("{i}.jpg,{i}\n"))
    }

    #[test]
    fn a_split_is_read_with_its_gap() {
        let folder = folder(Some(GOOD), &[("labels.csv", &rows(30))]).unwrap();
        assert_eq!(folder.split, Split { task: Task::Count, pool: 0..12, test: 14..30 });
        assert_eq!(folder.labels_of(&[3, 20]).rows[1].value, 20.0);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        let csv = rows(30);
        let with = |split: &str| folder(Some(split), &[("labels.csv", &csv)]).unwrap_err();
        for (got, want) in [
            (folder(None, &[("labels.csv", &csv)]).unwrap_err(), "cannot read split.toml: No such file"),
            (with(&GOOD.replace("pool", "train")), "split.toml: TOML parse error"),
            (
                with(&GOOD.replace("pool", "train")),
                "unknown field `train`, expected one of `task`, `pool`, `test`",
            ),
            (with(&GOOD.replace("[0, 12]", "[0, 12, 13]")), "pool = [0, 12, 13], want two numbers"),
            (with(&GOOD.replace("count", "weather")), "unknown variant `weather`"),
            (with(&GOOD.replace("[0, 12]", "[12, 0]")), "pool = [12, 0], want [first, end] with first < end"),
            (with(&GOOD.replace("[0, 12]", "[0, 15]")), "pool = [0, 15] and test = [14, 30] overlap"),
            (with(&GOOD.replace("30", "31")), "test = [14, 31], want an end of at most 30"),
            (
                with(&GOOD.replace("[0, 12]", "[0, 9]")),
                "pool = [0, 9] has 9 rows, training a head takes at least 10",
            ),
            (with(&GOOD.replace("14", "25")), "test = [25, 30] has 5 rows, a score takes at least 10"),
            (
                with(&GOOD.replace("count", "time-of-day")),
                "labels.csv: there is no column `minute_of_day`, only",
            ),
            (
                folder(Some(GOOD), &[]).unwrap_err(),
                "DIR holds neither; an evaluation wants exactly one of labels.csv",
            ),
            (
                folder(Some(GOOD), &[("labels.csv", &csv), ("labels.jsonl", "{}")]).unwrap_err(),
                "DIR holds both; an evaluation wants exactly one",
            ),
        ] {
            assert!(got.contains(want), "{got}\nwant {want}");
        }
    }
}
