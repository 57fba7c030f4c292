//! `issued.jsonl`: one line for every certificate, written before the certificate is.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::tls::Role;

use super::{PkiError, files};

/// Largest journal: a record is about 250 bytes, so 250,000 certificates.
const MAX_JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// One issued certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Serial number, lowercase hex.
    pub serial: String,
    /// What its holder may do.
    pub role: Role,
    /// Camera, operator or first host name.
    pub name: String,
    /// All host names and addresses of a server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// The file of records.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(super) fn at(dir: &Path) -> Self {
        Self { path: dir.join("issued.jsonl") }
    }

    /// A journal that is elsewhere.
    pub(super) fn file(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All records, oldest first. A last line without its line end is one whose writing was cut short: the
    /// certificate it would have announced was never made.
    pub(super) fn read(&self) -> Result<Vec<Record>, PkiError> {
        let text = files::read(&self.path, MAX_JOURNAL_BYTES)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let parse = |(i, line)| {
            serde_json::from_str(line).map_err(|source| PkiError::Record {
                path: self.path.clone(),
                line: i + 1,
                source,
            })
        };
        whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
    }

    /// Appends one record and waits until it is on disk. The caller holds the authority's lock.
    pub(super) fn append(&self, record: &Record) -> Result<(), PkiError> {
        let failed = |source| PkiError::io("append to", &self.path)(source);
        self.drop_torn_line()?;
        let mut line = serde_json::to_string(record).expect("strings and times always serialise");
        line.push('\n');
        let mut file = OpenOptions::new().append(true).open(&self.path).map_err(failed)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    fn drop_torn_line(&self) -> Result<(), PkiError> {
        let text = files::read(&self.path, MAX_JOURNAL_BYTES)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole == text.len() {
            return Ok(());
        }
        tracing::warn!(path = %self.path.display(), "dropping a last line whose writing was cut short");
        let file = File::options().write(true).open(&self.path);
        file.and_then(|file| file.set_len(whole as u64)).map_err(PkiError::io("mend", &self.path))
    }
}
