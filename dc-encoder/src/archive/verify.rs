//! Whether everything is where the index says, and nothing anywhere else.

use std::collections::{HashMap, HashSet};
use std::fmt;

use redb::ReadableTable as _;

use super::index::{self, from_json};
use super::record::sha256;
use super::{Archive, ArchiveError, FrameId, Record, frames, intent};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The index names a file that is not there.
    Lost(FrameId, String),
    /// A file holds other bytes than were stored.
    Altered(FrameId, String),
    /// A file that the index does not name.
    Unlinked(String),
    /// Id or path of a record do not follow from the rest of it.
    Inconsistent(FrameId),
    /// Something in the index belongs to no frame.
    Dangling(&'static str, FrameId),
    /// Frames and bytes of a camera were counted wrongly.
    Miscounted(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id, path) => write!(f, "lost: {path} of frame {id} is not there"),
            Self::Altered(id, path) => write!(f, "altered: {path} does not hold the bytes of frame {id}"),
            Self::Unlinked(path) => write!(f, "unlinked: the index does not know {path}"),
            Self::Inconsistent(id) => {
                write!(f, "inconsistent: id and path of {id} do not follow from its record")
            }
            Self::Dangling(what, id) => write!(f, "dangling: {what} of {id}, which is no frame here"),
            Self::Miscounted(camera) => write!(f, "miscounted: frames or bytes of {camera}"),
        }
    }
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames in the index.
    pub frames: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Labels.
    pub labels: usize,
    /// Embeddings.
    pub embeddings: usize,
    /// What is wrong; nothing, in an archive that is whole.
    pub faults: Vec<Fault>,
}

impl Archive {
    /// Compares index and files. `quick`: lengths instead of hashes. Others may add and remove meanwhile.
    ///
    /// # Errors
    /// A disk that cannot be read; what is wrong with the archive is in the [`Report`].
    pub fn verify(&self, quick: bool) -> Result<Report, ArchiveError> {
        // In this order: a file that is listed and not yet named is in an intent that is still there, or its transaction
        // is over before the records are read.
        let files: HashMap<String, u64> = self.frames.list()?.into_iter().collect();
        let under_way = intent::under_way(&self.dir)?;
        let (records, mut report) = self.verify_index()?;
        let named: HashSet<&str> = records.iter().map(|it| it.path.as_str()).collect();
        for path in files.keys() {
            if !named.contains(path.as_str()) && !under_way.contains(path) {
                report.faults.push(Fault::Unlinked(path.clone()));
            }
        }
        for record in &records {
            let fault = if quick {
                self.verify_length(record, files.get(&record.path).copied())?
            } else {
                self.verify_bytes(record)?
            };
            // It may have been removed since it was read.
            let fault = fault.filter(|_| !under_way.contains(&record.path));
            if let Some(fault) = fault
                && self.index.record(record.id)?.is_some()
            {
                report.faults.push(fault);
            }
        }
        Ok(report)
    }

    fn verify_length(&self, record: &Record, found: Option<u64>) -> Result<Option<Fault>, ArchiveError> {
        let found = match found {
            None => self.frames.length(&record.path)?,
            found => found,
        };
        Ok(match found {
            None => Some(Fault::Lost(record.id, record.path.clone())),
            Some(len) if len != record.bytes => Some(Fault::Altered(record.id, record.path.clone())),
            Some(_) => None,
        })
    }

    fn verify_bytes(&self, record: &Record) -> Result<Option<Fault>, ArchiveError> {
        let lost = || Some(Fault::Lost(record.id, record.path.clone()));
        Ok(match self.frames.get(&record.path) {
            Ok(None) => lost(),
            // A store that does not answer says nothing about its frames; a file that cannot be read is lost.
            Err(error) if self.frames.is_remote() => return Err(error),
            Err(_) => lost(),
            Ok(Some(bytes)) if sha256(&bytes) != record.sha256 => {
                Some(Fault::Altered(record.id, record.path.clone()))
            }
            Ok(Some(_)) => None,
        })
    }

    /// Reads all of the index, at one moment.
    fn verify_index(&self) -> Result<(Vec<Record>, Report), ArchiveError> {
        let db = ArchiveError::database::<redb::StorageError>;
        let read = self.index.read()?;
        let (mut report, mut records, mut counted) = (Report::default(), Vec::new(), HashMap::new());
        let mut ids = HashSet::new();
        let table = read.open_table(index::FRAMES).map_err(ArchiveError::database)?;
        for entry in table.iter().map_err(db)? {
            let (key, json) = entry.map_err(db)?;
            let record: Record = from_json("record", json.value())?;
            if record.id.0 != *key.value() || !record.is_consistent() {
                report.faults.push(Fault::Inconsistent(FrameId(*key.value())));
            }
            let total = counted.entry(record.camera.clone()).or_insert((0_u64, 0_u64));
            *total = (total.0 + 1, total.1 + record.bytes);
            report.bytes += record.bytes;
            ids.insert(record.id);
            records.push(record);
        }
        report.frames = records.len();
        let mut check = |what, id: &[u8; 16]| {
            if !ids.contains(&FrameId(*id)) {
                report.faults.push(Fault::Dangling(what, FrameId(*id)));
            }
        };
        let times = read.open_table(index::TIMES).map_err(ArchiveError::database)?;
        for entry in times.iter().map_err(db)? {
            check("a time", entry.map_err(db)?.0.value().2);
        }
        let hashes = read.open_table(index::HASHES).map_err(ArchiveError::database)?;
        for entry in hashes.iter().map_err(db)? {
            check("a hash", entry.map_err(db)?.1.value());
        }
        let embeddings = read.open_table(index::EMBEDDINGS).map_err(ArchiveError::database)?;
        for entry in embeddings.iter().map_err(db)? {
            check("an embedding", entry.map_err(db)?.0.value().3);
            report.embeddings += 1;
        }
        let labels = read.open_table(index::LABELS).map_err(ArchiveError::database)?;
        for entry in labels.iter().map_err(db)? {
            check("a label", entry.map_err(db)?.0.value().0);
            report.labels += 1;
        }
        let totals = read.open_table(index::TOTALS).map_err(ArchiveError::database)?;
        for entry in totals.iter().map_err(db)? {
            let (camera, total) = entry.map_err(db)?;
            if counted.remove(camera.value()) != Some(total.value()) {
                report.faults.push(Fault::Miscounted(camera.value().to_owned()));
            }
        }
        report.faults.extend(counted.into_keys().map(Fault::Miscounted));
        Ok((records, report))
    }

    /// Removes files that the index does not name, and says which. For archives that were copied or repaired by hand: what
    /// a killed process leaves is removed when the archive is opened.
    ///
    /// # Errors
    /// A disk that cannot be read or written.
    pub fn sweep(&self) -> Result<Vec<String>, ArchiveError> {
        let report = self.verify(true)?;
        let mut swept = Vec::new();
        for fault in report.faults {
            let Fault::Unlinked(path) = fault else { continue };
            if frames::id_in(&path).is_none() {
                continue; // not ours
            }
            self.frames.delete(&[&path])?;
            swept.push(path);
        }
        Ok(swept)
    }
}
