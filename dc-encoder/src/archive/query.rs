//! Finding frames: by camera, time and labels.

use jiff::Timestamp;
use protocol::SpaceId;
use redb::ReadableTable as _;
use serde::Serialize;
use shared::head::Task;

use super::index::{self, from_json};
use super::label::task_name;
use super::{Archive, ArchiveError, FrameId, Label, Record};

/// Which frames.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// Of this camera; of all without one.
    pub camera: Option<String>,
    /// Captured then or later.
    pub since: Option<Timestamp>,
    /// Captured before then.
    pub until: Option<Timestamp>,
    /// With a label of this task (`true`), or without one (`false`).
    pub labelled: Option<(Task, bool)>,
    /// At most so many, the newest ones.
    pub newest: Option<usize>,
}

/// A frame with its labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// What is known of it.
    #[serde(flatten)]
    pub record: Record,
    /// Everyone's labels, of all tasks.
    pub labels: Vec<Label>,
}

impl Found {
    /// The labels of one task.
    pub fn labels_of(&self, task: Task) -> Vec<Label> {
        self.labels.iter().filter(|it| it.answer.task() == task).cloned().collect()
    }
}

/// Embeddings of one camera in one space, in time order.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The space.
    pub space: SpaceId,
    /// The frames, `[n]`.
    pub ids: Vec<FrameId>,
    /// When each was captured, `[n]`.
    pub captured_at: Vec<Timestamp>,
    /// Numbers in one embedding.
    pub dim: usize,
    /// The embeddings, `[n, dim]`.
    pub values: Vec<f32>,
}

impl Embedded {
    /// The embedding of frame `index`, `[dim]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }
}

impl Archive {
    /// Frames in time order, each camera's after the other's.
    ///
    /// # Errors
    /// A camera without frames, or an index that fails.
    pub fn find(&self, query: &Query) -> Result<Vec<Found>, ArchiveError> {
        let cameras: Vec<String> = self.totals()?.into_iter().map(|(name, ..)| name).collect();
        let mut found = Vec::new();
        match &query.camera {
            Some(camera) if !cameras.contains(camera) => {
                return Err(ArchiveError::UnknownCamera { camera: camera.clone(), known: cameras });
            }
            Some(camera) => self.find_of(camera, query, &mut found)?,
            None => cameras.iter().try_for_each(|camera| self.find_of(camera, query, &mut found))?,
        }
        if let Some(newest) = query.newest.filter(|newest| found.len() > *newest) {
            found.sort_by_key(|it| it.record.captured_at);
            found.drain(..found.len() - newest);
        }
        Ok(found)
    }

    fn find_of(&self, camera: &str, query: &Query, found: &mut Vec<Found>) -> Result<(), ArchiveError> {
        let read = self.index.read()?;
        let times = read.open_table(index::TIMES).map_err(ArchiveError::database)?;
        let records = read.open_table(index::FRAMES).map_err(ArchiveError::database)?;
        let labels = read.open_table(index::LABELS).map_err(ArchiveError::database)?;
        let micros = |at: Option<Timestamp>, default| at.map_or(default, Timestamp::as_microsecond);
        let first = (camera, micros(query.since, i64::MIN), &[0; 16]);
        let end = (camera, micros(query.until, i64::MAX), &[0; 16]);
        if (first.1) >= (end.1) {
            return Ok(());
        }
        let start = found.len();
        let range = times.range(first..end).map_err(ArchiveError::database)?;
        for entry in range.rev() {
            if query.newest.is_some_and(|newest| found.len() - start >= newest) {
                break;
            }
            let key = entry.map_err(ArchiveError::database)?.0;
            let id = FrameId(*key.value().2);
            let labels = labels_in(&labels, id)?;
            let has = |task| labels.iter().any(|it| it.answer.task() == task);
            if query.labelled.is_some_and(|(task, want)| has(task) != want) {
                continue;
            }
            let json = records.get(&id.0).map_err(ArchiveError::database)?;
            let json = json.ok_or_else(|| ArchiveError::Corrupt {
                what: "index",
                detail: format!("{id} has a time and no record"),
            })?;
            found.push(Found { record: from_json("record", json.value())?, labels });
        }
        found[start..].reverse();
        Ok(())
    }

    /// One frame with its labels.
    ///
    /// # Errors
    /// [`ArchiveError::UnknownFrame`].
    pub fn get(&self, id: FrameId) -> Result<Found, ArchiveError> {
        let record = self.index.record(id)?.ok_or(ArchiveError::UnknownFrame(id))?;
        let table = self.index.read()?.open_table(index::LABELS).map_err(ArchiveError::database)?;
        Ok(Found { record, labels: labels_in(&table, id)? })
    }

    /// Each camera with its frames and their bytes.
    ///
    /// # Errors
    /// An index that fails.
    pub fn totals(&self) -> Result<Vec<(String, u64, u64)>, ArchiveError> {
        let table = self.index.read()?.open_table(index::TOTALS).map_err(ArchiveError::database)?;
        let entries = table.iter().map_err(ArchiveError::database)?;
        entries
            .map(|entry| {
                let (camera, total) = entry.map_err(ArchiveError::database)?;
                let (frames, bytes) = total.value();
                Ok((camera.value().to_owned(), frames, bytes))
            })
            .collect()
    }

    /// The first and the last capture time of a camera.
    ///
    /// # Errors
    /// An index that fails.
    pub fn span(&self, camera: &str) -> Result<Option<(Timestamp, Timestamp)>, ArchiveError> {
        let table = self.index.read()?.open_table(index::TIMES).map_err(ArchiveError::database)?;
        let bounds = (camera, i64::MIN, &[0; 16])..=(camera, i64::MAX, &[255; 16]);
        let mut range = table.range(bounds).map_err(ArchiveError::database)?;
        let mut time = |last: bool| {
            let Some(entry) = (if last { range.next_back() } else { range.next() }) else { return Ok(None) };
            let micros = entry.map_err(ArchiveError::database)?.0.value().1;
            Ok::<_, ArchiveError>(Timestamp::from_microsecond(micros).ok())
        };
        let first = time(false)?;
        let last = time(true)?.or(first);
        Ok(first.zip(last))
    }

    /// The spaces that a camera's frames have embeddings in, with how many; the one with the newest frame first.
    ///
    /// # Errors
    /// An index that fails.
    pub fn spaces(&self, camera: &str) -> Result<Vec<(SpaceId, usize)>, ArchiveError> {
        let read = self.index.read()?;
        let spaces = read.open_table(index::SPACES).map_err(ArchiveError::database)?;
        let table = read.open_table(index::EMBEDDINGS).map_err(ArchiveError::database)?;
        let mut found = Vec::new();
        for entry in spaces.iter().map_err(ArchiveError::database)? {
            let space = *entry.map_err(ArchiveError::database)?.0.value();
            let mut range = table.range(bounds(&space, camera)).map_err(ArchiveError::database)?;
            let Some(last) = range.next_back() else { continue };
            let newest = last.map_err(ArchiveError::database)?.0.value().2;
            found.push((newest, SpaceId(space), 1 + range.count()));
        }
        found.sort_by_key(|(newest, ..)| std::cmp::Reverse(*newest));
        Ok(found.into_iter().map(|(_, space, count)| (space, count)).collect())
    }

    /// A camera's embeddings; in the space that its newest embedded frame is in, unless one is named.
    ///
    /// # Errors
    /// [`ArchiveError::NoEmbeddings`] without any.
    pub fn embeddings(&self, camera: &str, space: Option<SpaceId>) -> Result<Embedded, ArchiveError> {
        let known = self.spaces(camera)?;
        let chosen = space.or(known.first().map(|(space, _)| *space));
        let Some((space, count)) = known.iter().find(|(it, _)| Some(*it) == chosen) else {
            let cameras: Vec<String> = self.totals()?.into_iter().map(|(name, ..)| name).collect();
            if !cameras.iter().any(|it| it == camera) {
                return Err(ArchiveError::UnknownCamera { camera: camera.to_owned(), known: cameras });
            }
            return Err(ArchiveError::NoEmbeddings(format!(
                "the frames of {camera} have no embeddings: `dc-encoder archive embed --model DIR` makes them"
            )));
        };
        let (mut ids, mut captured_at) = (Vec::with_capacity(*count), Vec::with_capacity(*count));
        let (mut values, mut dim) = (Vec::new(), 0);
        let table = self.index.read()?.open_table(index::EMBEDDINGS).map_err(ArchiveError::database)?;
        for entry in table.range(bounds(&space.0, camera)).map_err(ArchiveError::database)? {
            let (key, bytes) = entry.map_err(ArchiveError::database)?;
            let (.., micros, id) = key.value();
            ids.push(FrameId(*id));
            captured_at.push(Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH));
            let bytes = bytes.value();
            if dim == 0 {
                dim = bytes.len() / 4;
                values.reserve(dim * count);
            }
            values.extend(bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)));
        }
        Ok(Embedded { space: *space, ids, captured_at, dim, values })
    }

    /// Whether the frame has an embedding in this space.
    pub(crate) fn is_embedded(&self, record: &Record, space: SpaceId) -> Result<bool, ArchiveError> {
        let table = self.index.read()?.open_table(index::EMBEDDINGS).map_err(ArchiveError::database)?;
        let key = (&space.0, record.camera.as_str(), record.captured_at.as_microsecond(), &record.id.0);
        Ok(table.get(key).map_err(ArchiveError::database)?.is_some())
    }

    /// All labels of a task, of one camera or of all, by frame.
    ///
    /// # Errors
    /// An index that fails.
    pub fn labelled(
        &self,
        camera: Option<&str>,
        task: Task,
    ) -> Result<Vec<(FrameId, Vec<Label>)>, ArchiveError> {
        let read = self.index.read()?;
        let table = read.open_table(index::LABELS).map_err(ArchiveError::database)?;
        let mut found: Vec<(FrameId, Vec<Label>)> = Vec::new();
        for entry in table.iter().map_err(ArchiveError::database)? {
            let (key, json) = entry.map_err(ArchiveError::database)?;
            let (id, of, _) = key.value();
            if of != task_name(task) {
                continue;
            }
            let (id, label) = (FrameId(*id), from_json("label", json.value())?);
            match found.last_mut().filter(|(last, _)| *last == id) {
                Some((_, labels)) => labels.push(label),
                None => found.push((id, vec![label])),
            }
        }
        let Some(camera) = camera else { return Ok(found) };
        let of_camera = |id: FrameId| {
            Ok::<_, ArchiveError>(self.index.record(id)?.is_some_and(|record| record.camera == camera))
        };
        let mut kept = Vec::new();
        for (id, labels) in found {
            if of_camera(id)? {
                kept.push((id, labels));
            }
        }
        Ok(kept)
    }
}

fn bounds<'a>(space: &'a [u8; 32], camera: &'a str) -> std::ops::RangeInclusive<index::EmbeddingKey<'a>> {
    (space, camera, i64::MIN, &[0; 16])..=(space, camera, i64::MAX, &[255; 16])
}

type Labels = redb::ReadOnlyTable<(&'static [u8; 16], &'static str, &'static str), &'static str>;

fn labels_in(table: &Labels, id: FrameId) -> Result<Vec<Label>, ArchiveError> {
    let range = table.range(index::labels_of(&id)).map_err(ArchiveError::database)?;
    range.map(|entry| from_json("label", entry.map_err(ArchiveError::database)?.1.value())).collect()
}
