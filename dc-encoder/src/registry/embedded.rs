//! The registry in a folder: one database file and the releases beside it.
//!
//! ```text
//! registry/
//!   registry.redb      records, histories and the audit log; transactions of redb
//!   blobs/DIGEST       head files
//!   blobs/DIGEST.zlib  those that travel compressed
//!   blobs/incoming-*   on their way; swept away when the registry is opened
//! ```
//! A file is on disk under its digest before the transaction that names it: a crash in between leaves a file that
//! nothing names, which the next opening removes.

use std::fs::File;
use std::path::{Path, PathBuf};

use protocol::ReleaseId;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::release::{Channel, PublicKey};
use tempfile::NamedTempFile;

use super::{AuditRecord, Change, ChannelRecord, HistoryRecord, Registry, RegistryError, ReleaseRecord};

/// `root` and `key-ring`.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const RELEASES: TableDefinition<'_, &[u8; 32], &str> = TableDefinition::new("releases");
const CHANNELS: TableDefinition<'_, &str, &str> = TableDefinition::new("channels");
/// By channel and line.
const HISTORY: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("history");
/// By line; only ever inserted at the end.
const AUDIT: TableDefinition<'_, u64, &str> = TableDefinition::new("audit");

/// What the names of compressed files end with.
const PACKED: &str = ".zlib";

/// What the names of unfinished files start with.
const INCOMING: &str = "incoming-";

/// Pages kept in memory, in bytes: the whole database of a few thousand channels.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// An open registry folder. One process at a time has it.
#[derive(Debug)]
pub struct Embedded {
    database: Database,
    blobs: PathBuf,
}

impl Embedded {
    /// Opens the folder, or makes it, and removes what a crash left behind.
    ///
    /// # Errors
    /// [`RegistryError::InUse`] while another process has it; [`RegistryError::Io`], [`RegistryError::Database`].
    pub fn open(dir: &Path) -> Result<Self, RegistryError> {
        let blobs = dir.join("blobs");
        std::fs::create_dir_all(&blobs).map_err(RegistryError::io("create the folder", &blobs))?;
        let path = dir.join("registry.redb");
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => RegistryError::InUse(path.clone()),
            other => RegistryError::database(other),
        })?;
        sync(dir)?;
        let registry = Self { database, blobs };
        registry.sweep()?;
        Ok(registry)
    }

    fn sweep(&self) -> Result<(), RegistryError> {
        let failed = RegistryError::io("sweep", &self.blobs);
        for entry in std::fs::read_dir(&self.blobs).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digits = name.strip_suffix(PACKED);
            let id: Option<ReleaseId> = digits.unwrap_or(name).parse().ok();
            let orphan = match id.map(|id| self.release(id)).transpose()? {
                Some(Some(record)) => digits.is_some() && record.packed.is_none(),
                Some(None) => true,
                None => name.starts_with(INCOMING),
            };
            if orphan {
                tracing::info!(file = name, "removing what a publication that was cut short left behind");
                std::fs::remove_file(&path).map_err(RegistryError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<ReadTransaction, RegistryError> {
        self.database.begin_read().map_err(RegistryError::database)
    }

    fn meta(&self, key: &str) -> Result<Option<String>, RegistryError> {
        let Some(table) = there(self.read()?.open_table(META))? else { return Ok(None) };
        let value = table.get(key).map_err(RegistryError::database)?;
        Ok(value.map(|value| value.value().to_owned()))
    }

    fn packed_path(&self, id: ReleaseId) -> PathBuf {
        self.blobs.join(format!("{id}{PACKED}"))
    }

    /// Puts whole files under their names, on disk, before anything names them.
    fn keep(
        &self,
        id: ReleaseId,
        file: NamedTempFile,
        packed: Option<NamedTempFile>,
    ) -> Result<(), RegistryError> {
        let packed = packed.map(|packed| (self.packed_path(id), packed));
        for (path, file) in packed.into_iter().chain([(self.blobs.join(id.to_string()), file)]) {
            file.as_file().sync_all().map_err(RegistryError::io("write", &path))?;
            file.persist(&path).map_err(|error| RegistryError::io("write", &path)(error.error))?;
        }
        sync(&self.blobs)
    }
}

impl Registry for Embedded {
    fn root(&self) -> Result<Option<PublicKey>, RegistryError> {
        Ok(self.meta("root")?.map(|text| text.parse()).transpose()?)
    }

    fn key_ring(&self) -> Result<Option<String>, RegistryError> {
        self.meta("key-ring")
    }

    fn release(&self, id: ReleaseId) -> Result<Option<ReleaseRecord>, RegistryError> {
        let Some(table) = there(self.read()?.open_table(RELEASES))? else { return Ok(None) };
        let found = table.get(&id.0).map_err(RegistryError::database)?;
        found.map(|json| from_json("release", json.value())).transpose()
    }

    fn open_release(&self, id: ReleaseId) -> Result<File, RegistryError> {
        let path = self.blobs.join(id.to_string());
        File::open(&path).map_err(RegistryError::io("read", &path))
    }

    fn open_packed(&self, id: ReleaseId) -> Result<File, RegistryError> {
        let path = self.packed_path(id);
        File::open(&path).map_err(RegistryError::io("read", &path))
    }

    fn channels(&self) -> Result<Vec<ChannelRecord>, RegistryError> {
        let Some(table) = there(self.read()?.open_table(CHANNELS))? else { return Ok(Vec::new()) };
        let records = table.iter().map_err(RegistryError::database)?;
        records.map(|entry| from_json("channel", entry.map_err(RegistryError::database)?.1.value())).collect()
    }

    fn history(&self, channel: &Channel, limit: usize) -> Result<Vec<HistoryRecord>, RegistryError> {
        let Some(table) = there(self.read()?.open_table(HISTORY))? else { return Ok(Vec::new()) };
        let name = channel.to_string();
        let lines =
            table.range((name.as_str(), 0)..=(name.as_str(), u64::MAX)).map_err(RegistryError::database)?;
        lines
            .rev()
            .take(limit)
            .map(|entry| from_json("history", entry.map_err(RegistryError::database)?.1.value()))
            .collect()
    }

    fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, RegistryError> {
        let Some(table) = there(self.read()?.open_table(AUDIT))? else { return Ok(Vec::new()) };
        let lines = table.iter().map_err(RegistryError::database)?;
        lines
            .rev()
            .take(limit)
            .map(|entry| from_json("audit log", entry.map_err(RegistryError::database)?.1.value()))
            .collect()
    }

    fn incoming(&self) -> Result<NamedTempFile, RegistryError> {
        let made = tempfile::Builder::new().prefix(INCOMING).tempfile_in(&self.blobs);
        made.map_err(RegistryError::io("write in", &self.blobs))
    }

    fn commit(&self, change: Change<'_>, audit: &AuditRecord) -> Result<(), RegistryError> {
        let transaction = self.database.begin_write().map_err(RegistryError::database)?;
        match change {
            Change::Root(root) => put_meta(&transaction, "root", &root.to_string())?,
            Change::KeyRing(document) => put_meta(&transaction, "key-ring", document)?,
            Change::Release { id, file, packed, record } => {
                self.keep(id, file, packed)?;
                let mut table = transaction.open_table(RELEASES).map_err(RegistryError::database)?;
                table.insert(&id.0, to_json(record).as_str()).map_err(RegistryError::database)?;
            }
            Change::Channel { channel, after, record, entry } => {
                put_channel(&transaction, channel, after, record)?;
                add_history(&transaction, channel, entry)?;
            }
        }
        add_audit(&transaction, audit)?;
        transaction.commit().map_err(RegistryError::database)
    }
}

fn put_meta(transaction: &WriteTransaction, key: &str, value: &str) -> Result<(), RegistryError> {
    let mut table = transaction.open_table(META).map_err(RegistryError::database)?;
    table.insert(key, value).map_err(RegistryError::database)?;
    Ok(())
}

fn put_channel(
    transaction: &WriteTransaction,
    channel: &Channel,
    after: Option<u64>,
    record: &ChannelRecord,
) -> Result<(), RegistryError> {
    let name = channel.to_string();
    let mut table = transaction.open_table(CHANNELS).map_err(RegistryError::database)?;
    let found = table.get(name.as_str()).map_err(RegistryError::database)?;
    let there: Option<ChannelRecord> = found.map(|json| from_json("channel", json.value())).transpose()?;
    let have = there.map(|record| record.assignment()).transpose()?.map(|assignment| assignment.counter);
    if have != after {
        return Err(RegistryError::Conflict { channel: name, have: have.unwrap_or(0) });
    }
    table.insert(name.as_str(), to_json(record).as_str()).map_err(RegistryError::database)?;
    Ok(())
}

fn add_history(
    transaction: &WriteTransaction,
    channel: &Channel,
    entry: &HistoryRecord,
) -> Result<(), RegistryError> {
    let name = channel.to_string();
    let mut table = transaction.open_table(HISTORY).map_err(RegistryError::database)?;
    let last = table
        .range((name.as_str(), 0)..=(name.as_str(), u64::MAX))
        .map_err(RegistryError::database)?
        .next_back()
        .transpose()
        .map_err(RegistryError::database)?
        .map_or(0, |(key, _)| key.value().1);
    let json = to_json(entry);
    table.insert((name.as_str(), last + 1), json.as_str()).map_err(RegistryError::database)?;
    Ok(())
}

fn add_audit(transaction: &WriteTransaction, record: &AuditRecord) -> Result<(), RegistryError> {
    let mut table = transaction.open_table(AUDIT).map_err(RegistryError::database)?;
    let last = table.last().map_err(RegistryError::database)?.map_or(0, |(key, _)| key.value());
    table.insert(last + 1, to_json(record).as_str()).map_err(RegistryError::database)?;
    Ok(())
}

/// A table that no transaction made yet is empty.
fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, RegistryError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(RegistryError::database(error)),
    }
}

fn to_json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("names, numbers and times always serialise")
}

fn from_json<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, RegistryError> {
    serde_json::from_str(json).map_err(|error| RegistryError::Corrupt { what, detail: error.to_string() })
}

fn sync(dir: &Path) -> Result<(), RegistryError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(RegistryError::io("write", dir))
}
