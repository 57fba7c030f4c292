//! Lists of frames on disk, with ids and capture times.
//!
//! ```text
//! folder ── every .jpg, .jpeg, .png below it, sorted ─┐
//! .csv   ── header; `file`, optional `captured_at` ───┤
//! .jsonl ── `file`, optional `captured_at` or `t_s` ──┼─► FrameRef { id, path, captured_at }
//! .txt   ── one path a line ──────────────────────────┘
//! ```
//! Paths in a list are relative to the list's folder. Columns and keys beyond those named are left alone: a labels
//! file is a list of frames. Capture time comes from the list, else from the file's name, else from the file's
//! modification time.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

mod lines;
mod time;

pub use time::{from_name, parse as parse_time};

/// Endings of the pictures that a folder is searched for, in any case.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Folders inside folders that are followed: more is a mistake, or a link that leads in a circle.
const MAX_DEPTH: usize = 32;

/// Longest list file that is read: a million frames take about 60 MB.
const MAX_LIST_BYTES: usize = 256 << 20;

/// One frame on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRef {
    /// Its name in labels and embeddings: the path relative to the list or folder, with `/`.
    pub id: String,
    /// Where to read it.
    pub path: PathBuf,
    /// When it was captured, as far as anything says so. From `t_s` (seconds since a recording's start) it is
    /// the Unix epoch plus that: order and spacing hold, the date means nothing.
    pub captured_at: Option<Timestamp>,
}

/// Why frames cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The list or folder is not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The list or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a folder, and no known ending.
    #[error("{} is neither a folder nor a list of frames: a list ends in .csv, .jsonl or .txt", path.display())]
    Kind {
        /// What was given.
        path: PathBuf,
    },
    /// Nothing to do.
    #[error("no frames in {}: {looked_for}", path.display())]
    Empty {
        /// The list or folder.
        path: PathBuf,
        /// What would have counted.
        looked_for: &'static str,
    },
    /// A list longer than the limit.
    #[error("{} is {bytes} bytes, a list is at most {MAX_LIST_BYTES}; split it", path.display())]
    TooLarge {
        /// The list.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A table without the one column that is needed.
    #[error("{}: there is no column `file`, only {columns}; name the column of paths `file`", path.display())]
    NoFileColumn {
        /// The list.
        path: PathBuf,
        /// The columns there are.
        columns: String,
    },
    /// A line that cannot be understood.
    #[error("{}, line {line}: {why}", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// One line of a list, before the file it names was looked for.
struct Entry {
    line: u64,
    file: String,
    captured_at: Option<Timestamp>,
}

/// Lists the frames of a folder (sorted by id) or a list file (in its order). Every file is opened once: one that
/// is missing or unreadable is found now, not after an hour of work.
pub fn list(path: &Path) -> Result<Vec<FrameRef>, ListError> {
    let io = |source| ListError::Io { path: path.into(), source };
    if std::fs::metadata(path).map_err(io)?.is_dir() {
        return list_folder(path);
    }
    let entries =
        match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => lines::csv(path)?,
            Some("jsonl" | "ndjson") => lines::jsonl(path)?,
            Some("txt") => lines::txt(path)?,
            _ => return Err(ListError::Kind { path: path.into() }),
        };
    if entries.is_empty() {
        return Err(ListError::Empty {
            path: path.into(),
            looked_for: "the list has no lines that name a file",
        });
    }
    resolve(path, entries)
}

/// Finds the files that a list names.
fn resolve(list: &Path, entries: Vec<Entry>) -> Result<Vec<FrameRef>, ListError> {
    let folder = list.parent().unwrap_or(Path::new(""));
    let mut seen: HashMap<String, u64> = HashMap::with_capacity(entries.len());
    let mut frames = Vec::with_capacity(entries.len());
    for Entry { line, file, captured_at } in entries {
        let fail = |why| ListError::Line { path: list.into(), line, why };
        let path = folder.join(&file);
        let modified =
            open(&path).map_err(|source| fail(format!("cannot read {}: {source}", path.display())))?;
        let id = id_of(Path::new(&file));
        if let Some(first) = seen.insert(id.clone(), line) {
            return Err(fail(format!("{id} is already on line {first}; every frame may be listed once")));
        }
        let captured_at = captured_at.or_else(|| from_name(&id)).or(modified);
        frames.push(FrameRef { id, path, captured_at });
    }
    Ok(frames)
}

fn list_folder(folder: &Path) -> Result<Vec<FrameRef>, ListError> {
    let mut paths = Vec::new();
    search(folder, 0, &mut paths)?;
    if paths.is_empty() {
        let looked_for = "looked for .jpg, .jpeg and .png files, in folders below it too";
        return Err(ListError::Empty { path: folder.into(), looked_for });
    }
    let mut frames = Vec::with_capacity(paths.len());
    for path in paths {
        let modified = open(&path).map_err(|source| ListError::Io { path: path.clone(), source })?;
        let id = id_of(path.strip_prefix(folder).unwrap_or(&path));
        let captured_at = from_name(&id).or(modified);
        frames.push(FrameRef { id, path, captured_at });
    }
    frames.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(frames)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ListError> {
    let io = |source| ListError::Io { path: folder.into(), source };
    if depth > MAX_DEPTH {
        return Err(io(std::io::Error::other(format!("more than {MAX_DEPTH} folders inside each other"))));
    }
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue; // thumbnail caches, copies that are still being written
        }
        if path.is_dir() {
            search(&path, depth + 1, found)?;
        } else if path
            .extension()
            .is_some_and(|it| ENDINGS.iter().any(|ending| it.eq_ignore_ascii_case(ending)))
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Opens a file to see that it can be; returns when it was last modified.
fn open(path: &Path) -> std::io::Result<Option<Timestamp>> {
    let metadata = File::open(path)?.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    // A modification time outside jiff's years is no capture time.
    Ok(metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()))
}

/// The path with `/` between its parts and without `./`.
fn id_of(path: &Path) -> String {
    if path.is_absolute() {
        return path.to_string_lossy().into_owned();
    }
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
