//! The index: one redb file that any number of processes may have open; one of them writes at a time.
//!
//! Records and labels are JSON, so that a person can read them and a field can be added; keys are what is searched by.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::SpaceId;
use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{Record, bytes_of_hex};
use super::{ArchiveError, FrameId, Label};
use current::{Current, Open};

mod current;
mod rewrite;

/// Version of the tables below. A change that an older program would misread is a new one.
const SCHEMA: u32 = 1;

/// The same tables, of an archive whose frames are in a bucket: an older program would look for them in the folder.
const SCHEMA_OF_BUCKET: u32 = 2;

/// Key of the version.
const VERSION: &str = "schema";

/// Key that says whether pages hold what was removed.
const TRACES: &str = "traces";

/// Key of a number that changes whenever files were removed.
const SETTLEMENTS: &str = "settlements";

/// [`VERSION`], [`TRACES`] and [`SETTLEMENTS`].
pub(super) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
pub(super) const FRAMES: TableDefinition<'_, &[u8; 16], &str> = TableDefinition::new("frames");
/// By camera and capture time in microseconds since the Unix epoch.
pub(super) const TIMES: TableDefinition<'_, (&str, i64, &[u8; 16]), ()> = TableDefinition::new("times");
/// By camera and SHA-256 of the JPEG: the first frame with these bytes.
pub(super) const HASHES: TableDefinition<'_, (&str, &[u8; 32]), &[u8; 16]> = TableDefinition::new("hashes");
/// Frames and bytes of each camera.
pub(super) const TOTALS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("totals");
/// By space, camera and capture time, so that one camera's are read in one go; `[dim]` f32, little-endian.
pub(super) const EMBEDDINGS: TableDefinition<'_, EmbeddingKey<'_>, &[u8]> =
    TableDefinition::new("embeddings");
/// Numbers in an embedding of each space.
pub(super) const SPACES: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("spaces");
/// By frame, task and who labelled it.
pub(super) const LABELS: TableDefinition<'_, (&[u8; 16], &str, &str), &str> = TableDefinition::new("labels");
/// What was sent out to be labelled.
pub(super) const BATCHES: TableDefinition<'_, &str, &str> = TableDefinition::new("batches");

/// Space, camera, microseconds, frame.
pub(super) type EmbeddingKey<'a> = (&'a [u8; 32], &'a str, i64, &'a [u8; 16]);

/// An open index. What it is read through changes when another process rewrote the file.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    current: Current,
}

impl Index {
    /// Opens the index, or makes one; `remote`: of an archive whose frames are in a bucket.
    pub(super) fn open(path: &Path, remote: bool) -> Result<Self, ArchiveError> {
        let index = Self { path: path.to_owned(), current: Current::open(path)? };
        let want = if remote { SCHEMA_OF_BUCKET } else { SCHEMA };
        let dir = || path.parent().unwrap_or(path).to_owned();
        match index.schema()? {
            Some(got) if got == want => Ok(index),
            Some(SCHEMA_OF_BUCKET) => Err(ArchiveError::NoBucket(dir())),
            Some(SCHEMA) => Err(ArchiveError::NotInBucket(dir())),
            Some(got) => Err(ArchiveError::Newer { path: path.to_owned(), got, known: SCHEMA_OF_BUCKET }),
            None => index.create(want).map(|()| index),
        }
    }

    fn schema(&self) -> Result<Option<u32>, ArchiveError> {
        self.meta(VERSION)
    }

    /// Whether pages hold what was removed; [`rewrite`](Self::rewrite) ends that.
    pub(super) fn has_traces(&self) -> Result<bool, ArchiveError> {
        Ok(self.meta(TRACES)? == Some(1))
    }

    /// A number that changes whenever files were removed.
    pub(super) fn settlements(&self) -> Result<u32, ArchiveError> {
        Ok(self.meta(SETTLEMENTS)?.unwrap_or(0))
    }

    fn meta(&self, key: &str) -> Result<Option<u32>, ArchiveError> {
        let read = self.read()?;
        let Some(table) = there(read.open_table(META))? else { return Ok(None) };
        Ok(table.get(key).map_err(ArchiveError::database)?.map(|value| value.value()))
    }

    /// All tables, so that readers find them.
    fn create(&self, schema: u32) -> Result<(), ArchiveError> {
        self.write(|tables| {
            let transaction = tables.transaction;
            let mut meta = transaction.open_table(META).map_err(ArchiveError::database)?;
            meta.insert(VERSION, schema).map_err(ArchiveError::database)?;
            macro_rules! make {
                ($($table:expr),*) => {
                    $(transaction.open_table($table).map(drop).map_err(ArchiveError::database)?;)*
                };
            }
            make!(FRAMES, TIMES, HASHES, TOTALS, EMBEDDINGS, SPACES, LABELS, BATCHES);
            Ok(())
        })
    }

    pub(super) fn read(&self) -> Result<ReadTransaction, ArchiveError> {
        self.current.get()?.database.begin_read().map_err(ArchiveError::database)
    }

    /// One transaction: durable when this returns, without a trace if `change` fails.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&Tables<'_>) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let (_open, transaction) = self.begin()?;
        let done = change(&Tables { transaction: &transaction });
        let done = done.and_then(|done| transaction.commit().map(|()| done).map_err(ArchiveError::database));
        if matches!(done, Err(ArchiveError::Database(_))) {
            // After a disk's failure redb refuses everything until it is opened anew; the disk may have room again.
            self.current.distrust();
        }
        done
    }

    /// The one write transaction there can be, on the file that bears the name.
    fn begin(&self) -> Result<(Arc<Open>, WriteTransaction), ArchiveError> {
        loop {
            let open = self.current.get()?;
            let transaction = open.database.begin_write().map_err(|error| {
                self.current.distrust();
                ArchiveError::database(error)
            })?;
            // Whoever held it before may have put another file in this one's place.
            if self.current.is(&open)? {
                return Ok((open, transaction));
            }
            transaction.abort().map_err(ArchiveError::database)?;
        }
    }

    pub(super) fn record(&self, id: FrameId) -> Result<Option<Record>, ArchiveError> {
        let table = self.read()?.open_table(FRAMES).map_err(ArchiveError::database)?;
        let found = table.get(&id.0).map_err(ArchiveError::database)?;
        found.map(|json| from_json("record", json.value())).transpose()
    }
}

/// A table that no transaction made yet is empty.
fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, ArchiveError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(ArchiveError::database(error)),
    }
}

/// The tables within a write transaction.
pub(super) struct Tables<'a> {
    pub(super) transaction: &'a WriteTransaction,
}

impl Tables<'_> {
    /// Whether the camera has a frame with these bytes, and which.
    pub(super) fn same_bytes(
        &self,
        camera: &str,
        digest: &[u8; 32],
    ) -> Result<Option<FrameId>, ArchiveError> {
        let table = self.transaction.open_table(HASHES).map_err(ArchiveError::database)?;
        let found = table.get((camera, digest)).map_err(ArchiveError::database)?;
        Ok(found.map(|id| FrameId(*id.value())))
    }

    pub(super) fn record(&self, id: FrameId) -> Result<Option<Record>, ArchiveError> {
        let table = self.transaction.open_table(FRAMES).map_err(ArchiveError::database)?;
        let found = table.get(&id.0).map_err(ArchiveError::database)?;
        found.map(|json| from_json("record", json.value())).transpose()
    }

    /// A frame that is not there yet.
    pub(super) fn insert(&self, record: &Record) -> Result<(), ArchiveError> {
        let (db, camera, id) =
            (ArchiveError::database::<redb::StorageError>, record.camera.as_str(), &record.id.0);
        let open = ArchiveError::database::<TableError>;
        let digest = digest_of(record)?;
        self.transaction
            .open_table(FRAMES)
            .map_err(open)?
            .insert(id, to_json(record).as_str())
            .map_err(db)?;
        let at = record.captured_at.as_microsecond();
        self.transaction.open_table(TIMES).map_err(open)?.insert((camera, at, id), ()).map_err(db)?;
        self.transaction.open_table(HASHES).map_err(open)?.insert((camera, &digest), id).map_err(db)?;
        self.count(camera, |(frames, bytes)| (frames + 1, bytes + record.bytes))
    }

    /// Everything that is known of a frame goes.
    pub(super) fn remove(&self, record: &Record) -> Result<(), ArchiveError> {
        let (db, camera, id) =
            (ArchiveError::database::<redb::StorageError>, record.camera.as_str(), &record.id.0);
        let open = ArchiveError::database::<TableError>;
        let digest = digest_of(record)?;
        self.transaction.open_table(FRAMES).map_err(open)?.remove(id).map_err(db)?;
        let at = record.captured_at.as_microsecond();
        self.transaction.open_table(TIMES).map_err(open)?.remove((camera, at, id)).map_err(db)?;
        self.transaction.open_table(HASHES).map_err(open)?.remove((camera, &digest)).map_err(db)?;
        let mut embeddings = self.transaction.open_table(EMBEDDINGS).map_err(open)?;
        for space in self.spaces()? {
            embeddings.remove((&space.0, camera, at, id)).map_err(db)?;
        }
        let mut labels = self.transaction.open_table(LABELS).map_err(open)?;
        labels.retain_in(labels_of(&record.id), |_, _| false).map_err(db)?;
        self.count(camera, |(frames, bytes)| (frames.saturating_sub(1), bytes.saturating_sub(record.bytes)))
    }

    /// See [`Index::settlements`].
    pub(super) fn settlements(&self) -> Result<u32, ArchiveError> {
        let meta = self.transaction.open_table(META).map_err(ArchiveError::database)?;
        Ok(meta.get(SETTLEMENTS).map_err(ArchiveError::database)?.map_or(0, |number| number.value()))
    }

    pub(super) fn count_settlement(&self) -> Result<(), ArchiveError> {
        let next = self.settlements()?.wrapping_add(1);
        let mut meta = self.transaction.open_table(META).map_err(ArchiveError::database)?;
        meta.insert(SETTLEMENTS, next).map(drop).map_err(ArchiveError::database)
    }

    /// Notes that pages hold what was removed.
    pub(super) fn leave_traces(&self) -> Result<(), ArchiveError> {
        let mut meta = self.transaction.open_table(META).map_err(ArchiveError::database)?;
        meta.insert(TRACES, 1).map(drop).map_err(ArchiveError::database)
    }

    fn count(&self, camera: &str, change: impl FnOnce((u64, u64)) -> (u64, u64)) -> Result<(), ArchiveError> {
        let mut table = self.transaction.open_table(TOTALS).map_err(ArchiveError::database)?;
        let before = table.get(camera).map_err(ArchiveError::database)?.map_or((0, 0), |it| it.value());
        match change(before) {
            (0, _) => table.remove(camera).map(drop),
            after => table.insert(camera, after).map(drop),
        }
        .map_err(ArchiveError::database)
    }

    fn spaces(&self) -> Result<Vec<SpaceId>, ArchiveError> {
        let table = self.transaction.open_table(SPACES).map_err(ArchiveError::database)?;
        let all = table.iter().map_err(ArchiveError::database)?;
        all.map(|entry| Ok(SpaceId(*entry.map_err(ArchiveError::database)?.0.value()))).collect()
    }

    /// An embedding of a frame that is there; one of the same space is replaced.
    pub(super) fn embed(&self, record: &Record, space: SpaceId, values: &[f32]) -> Result<(), ArchiveError> {
        let mut spaces = self.transaction.open_table(SPACES).map_err(ArchiveError::database)?;
        let (got, known) =
            (values.len(), spaces.get(&space.0).map_err(ArchiveError::database)?.map(|it| it.value()));
        match known {
            Some(want) if want != got as u64 => {
                let (space, want) = (space.short(), usize::try_from(want).unwrap_or(usize::MAX));
                return Err(ArchiveError::Dim { space, got, want });
            }
            Some(_) => {}
            None => {
                spaces.insert(&space.0, got as u64).map_err(ArchiveError::database)?;
            }
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let key = (&space.0, record.camera.as_str(), record.captured_at.as_microsecond(), &record.id.0);
        let mut table = self.transaction.open_table(EMBEDDINGS).map_err(ArchiveError::database)?;
        table.insert(key, bytes.as_slice()).map_err(ArchiveError::database)?;
        Ok(())
    }

    pub(super) fn label(&self, id: FrameId, task: &str, who: &str) -> Result<Option<Label>, ArchiveError> {
        let table = self.transaction.open_table(LABELS).map_err(ArchiveError::database)?;
        let found = table.get((&id.0, task, who)).map_err(ArchiveError::database)?;
        found.map(|json| from_json("label", json.value())).transpose()
    }

    pub(super) fn put_label(&self, id: FrameId, task: &str, label: &Label) -> Result<(), ArchiveError> {
        let mut table = self.transaction.open_table(LABELS).map_err(ArchiveError::database)?;
        let json = to_json(label);
        table.insert((&id.0, task, label.who.as_str()), json.as_str()).map_err(ArchiveError::database)?;
        Ok(())
    }
}

/// Bounds of the keys of all labels of a frame: task and annotator are names, and no name is as high as the end.
pub(super) fn labels_of(id: &FrameId) -> std::ops::Range<(&[u8; 16], &str, &str)> {
    (&id.0, "", "")..(&id.0, "\u{10ffff}", "")
}

fn digest_of(record: &Record) -> Result<[u8; 32], ArchiveError> {
    bytes_of_hex(&record.sha256).ok_or_else(|| ArchiveError::Corrupt {
        what: "record",
        detail: format!("{}: `sha256` is {:?}", record.id, record.sha256),
    })
}

pub(super) fn to_json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("names, numbers and times always serialise")
}

pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, ArchiveError> {
    serde_json::from_str(json).map_err(|error| ArchiveError::Corrupt { what, detail: error.to_string() })
}
