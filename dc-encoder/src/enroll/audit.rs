//! `audit.jsonl`: a line for every attempt to enrol, and for every command that changed something.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pki::{PkiError, files};

/// A full file makes way for a new one, and the one before goes: strangers cannot fill the disk.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What was tried or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attempt {
    /// A token was made.
    Created,
    /// A camera's tokens and renewals were withdrawn.
    Withdrawn,
    /// A box got its certificate.
    Granted,
    /// It got the same one again.
    Again,
    /// A certificate was renewed.
    Renewed,
    /// Someone got nothing.
    Refused,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Attempt,
    /// Address of the box, or `local` for a command.
    pub from: String,
    /// The camera, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// The first digits of the token's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Serial number of the certificate that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Line {
    /// A line without details.
    #[must_use]
    pub fn new(at: Timestamp, what: Attempt, from: &str) -> Self {
        Self { at, what, from: from.to_owned(), camera: None, token: None, serial: None, why: None }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("audit.jsonl")
}

/// Appends a line; the caller holds the folder's lock.
pub(super) fn append(dir: &Path, line: &Line) -> Result<(), PkiError> {
    let path = path(dir);
    let failed = |source| PkiError::io("append to", &path)(source);
    if path.metadata().is_ok_and(|file| file.len() >= MAX_BYTES) {
        std::fs::rename(&path, dir.join("audit.1.jsonl")).map_err(failed)?;
    }
    let mut text = serde_json::to_string(line).expect("strings and times always serialise");
    text.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)
}

/// The last lines, oldest first. Lines that were cut short are left out.
pub(super) fn last(dir: &Path, count: usize) -> Result<Vec<Line>, PkiError> {
    let path = path(dir);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = files::read(&path, 2 * MAX_BYTES)?;
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(lines[lines.len().saturating_sub(count)..].to_vec())
}
