//! The index anew, with what is in it and nothing of what was: a database's free pages, and the keys that lead through its
//! pages, keep what was removed for as long as nothing else needs the room.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use redb::{Key, ReadableTable as _, TableDefinition, Value, WriteTransaction};
use serde_json::Value as Json;

use super::{
    BATCHES, EMBEDDINGS, FRAMES, HASHES, Index, LABELS, META, SPACES, TIMES, TOTALS, TRACES, Tables, current,
};
use crate::archive::intent::sync;
use crate::archive::{ArchiveError, FrameId};

impl Index {
    /// Copies everything that is in the index into a new file, and puts that in the old one's place. Others read on and wait
    /// with writing; whoever has the old file open goes over to the new one.
    pub(in crate::archive) fn rewrite(&self) -> Result<(), ArchiveError> {
        let (open, from) = self.begin()?;
        let new = self.path.with_extension("redb.new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ArchiveError::io("remove", &new)(error));
            }
            _ => {}
        }
        let copied = copy_all(&from, &new).and_then(|()| self.replace(&new));
        if copied.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        from.abort().map_err(ArchiveError::database)?;
        drop(open);
        copied?;
        self.current.get().map(drop)
    }

    /// The new file has the old one's owner and rights: a person's command may have made it for a service.
    fn replace(&self, new: &Path) -> Result<(), ArchiveError> {
        let failed = ArchiveError::io("write", new);
        let (old, own) = (
            std::fs::metadata(&self.path).map_err(ArchiveError::io("look at", &self.path))?,
            std::fs::metadata(new).map_err(&failed)?,
        );
        std::fs::set_permissions(new, old.permissions()).map_err(&failed)?;
        if (old.uid(), old.gid()) != (own.uid(), own.gid()) {
            std::os::unix::fs::chown(new, Some(old.uid()), Some(old.gid())).map_err(&failed)?;
        }
        File::open(new).and_then(|file| file.sync_all()).map_err(&failed)?;
        std::fs::rename(new, &self.path).map_err(&failed)?;
        sync(self.path.parent().unwrap_or(Path::new(".")))
    }
}

fn copy_all(from: &WriteTransaction, new: &Path) -> Result<(), ArchiveError> {
    let database = current::database(new)?;
    let to = database.begin_write().map_err(ArchiveError::database)?;
    copy(from, &to, META)?;
    copy(from, &to, FRAMES)?;
    copy(from, &to, TIMES)?;
    copy(from, &to, HASHES)?;
    copy(from, &to, TOTALS)?;
    copy(from, &to, EMBEDDINGS)?;
    copy(from, &to, SPACES)?;
    copy(from, &to, LABELS)?;
    copy(from, &to, BATCHES)?;
    to.open_table(META)
        .map_err(ArchiveError::database)?
        .remove(TRACES)
        .map(drop)
        .map_err(ArchiveError::database)?;
    to.commit().map_err(ArchiveError::database)?;
    database.close().map_err(ArchiveError::database)
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &WriteTransaction,
    to: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), ArchiveError> {
    let source = from.open_table(table).map_err(ArchiveError::database)?;
    let mut copy = to.open_table(table).map_err(ArchiveError::database)?;
    for entry in source.iter().map_err(ArchiveError::database)? {
        let (key, value) = entry.map_err(ArchiveError::database)?;
        copy.insert(key.value(), value.value()).map_err(ArchiveError::database)?;
    }
    Ok(())
}

impl Tables<'_> {
    /// Takes frames out of everything that was sent out to be labelled, however a platform wrote them down there.
    pub(in crate::archive) fn remove_from_batches(&self, ids: &[FrameId]) -> Result<(), ArchiveError> {
        let ids: HashSet<String> = ids.iter().map(ToString::to_string).collect();
        let mut table = self.transaction.open_table(BATCHES).map_err(ArchiveError::database)?;
        let mut changed = Vec::new();
        for entry in table.iter().map_err(ArchiveError::database)? {
            let (name, json) = entry.map_err(ArchiveError::database)?;
            let mut batch: Json = super::from_json("batch", json.value())?;
            if without(&mut batch, &ids) {
                changed.push((name.value().to_owned(), batch.to_string()));
            }
        }
        for (name, json) in changed {
            table.insert(name.as_str(), json.as_str()).map_err(ArchiveError::database)?;
        }
        Ok(())
    }
}

/// Removes what is one of these ids, and lists and objects that name one; whether there was any.
fn without(json: &mut Json, ids: &HashSet<String>) -> bool {
    let is = |json: &Json| json.as_str().is_some_and(|text| ids.contains(text));
    let names = |json: &Json| match json {
        Json::Array(items) => items.iter().any(is),
        Json::Object(fields) => fields.values().any(is),
        other => is(other),
    };
    match json {
        Json::Array(items) => {
            let before = items.len();
            // A list of ids loses those; a list of lists or objects loses each that names one.
            items.retain(|item| !names(item));
            let removed = items.len() < before;
            items.iter_mut().fold(removed, |removed, item| without(item, ids) | removed)
        }
        Json::Object(fields) => {
            let before = fields.len();
            fields.retain(|key, value| !ids.contains(key) && !is(value));
            let removed = fields.len() < before;
            fields.values_mut().fold(removed, |removed, value| without(value, ids) | removed)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_go_wherever_they_are_written() {
        let ids = ["aa", "bb"].map(str::to_owned).into();
        for (before, after) in [
            (json!({ "frames": ["aa", "cc", "bb"] }), json!({ "frames": ["cc"] })),
            (
                json!({ "tasks": [{ "frame": "aa", "n": 1 }, { "frame": "cc" }] }),
                json!({ "tasks": [{ "frame": "cc" }] }),
            ),
            (json!({ "tasks": [["aa", 7], ["cc", 8]] }), json!({ "tasks": [["cc", 8]] })),
            (json!({ "tasks": { "aa": 7, "cc": "bb", "dd": 1 } }), json!({ "tasks": { "dd": 1 } })),
        ] {
            let mut batch = before.clone();
            assert!(without(&mut batch, &ids), "{before}");
            assert_eq!(batch, after);
            assert!(!without(&mut batch, &ids), "{after}");
        }
    }
}
