//! Frames that go: forgotten, too old, or too many.

use std::time::Duration;

use jiff::Timestamp;

use super::intent::Intent;
use super::{Archive, ArchiveError, Query, Record};

/// Frames removed in one transaction: a retention run must not hold up those who add.
const AT_ONCE: usize = 500;

/// What a camera may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Frames older than this go, labelled or not: a promise about privacy knows no exception.
    pub age: Option<Duration>,
    /// Beyond so many bytes the oldest frames without labels go.
    pub bytes: Option<u64>,
}

impl Keep {
    /// Each limit where only one has it, else the smaller one: nothing stays because somebody else allows more.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.into_iter().chain(b).min()
        }
        Self { age: least(self.age, other.age), bytes: least(self.bytes, other.bytes) }
    }
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes still beyond [`Keep::bytes`], because all that is left carries labels.
    pub beyond: u64,
}

impl Archive {
    /// Removes these frames with their embeddings and labels, out of batches, too: nothing of them can be found again, and
    /// their files are gone. What the index's file still holds of them goes with [`erase_traces`](Self::erase_traces).
    ///
    /// # Errors
    /// A disk that cannot be written. What was removed until then is removed.
    pub fn remove(&self, records: &[Record]) -> Result<Removed, ArchiveError> {
        let mut removed = Removed::default();
        for part in records.chunks(AT_ONCE) {
            let intent = Intent::declare(&self.dir, part.iter().map(|it| it.path.as_str()))?;
            let gone = self.index.write(|tables| {
                let mut gone = Vec::new();
                let ids: Vec<_> = part.iter().map(|it| it.id).collect();
                tables.remove_from_batches(&ids)?;
                tables.leave_traces()?;
                for record in part {
                    // Somebody else may have removed it meanwhile.
                    if tables.record(record.id)?.is_some() {
                        tables.remove(record)?;
                        gone.push(record.bytes);
                    }
                }
                Ok(gone)
            })?;
            self.settle(part.iter().map(|it| it.path.as_str()))?;
            intent.done()?;
            removed.frames += gone.len();
            removed.bytes += gone.iter().sum::<u64>();
        }
        Ok(removed)
    }

    /// Whether the index's file holds something of frames that were removed.
    ///
    /// # Errors
    /// An index that fails.
    pub fn has_traces(&self) -> Result<bool, ArchiveError> {
        self.index.has_traces()
    }

    /// Writes the index anew, so that its file holds nothing of frames that were removed. Takes as long as copying it does;
    /// others read on meanwhile and wait with writing.
    ///
    /// # Errors
    /// A disk without room for a second index; the first one stays then.
    pub fn erase_traces(&self) -> Result<(), ArchiveError> {
        self.index.rewrite()
    }

    /// What a camera may keep: the stricter of what the archive's settings say and `also`.
    pub fn keep(&self, camera: &str, also: Keep) -> Keep {
        self.settings.keep(camera).stricter(also)
    }

    /// [`retain`](Self::retain) of a camera that may have no frames yet.
    pub(crate) fn retain_if_known(
        &self,
        camera: &str,
        keep: Keep,
        now: Timestamp,
    ) -> Result<Removed, ArchiveError> {
        let known = self.totals()?.iter().any(|(name, ..)| name == camera);
        if known { self.retain(camera, keep, now) } else { Ok(Removed::default()) }
    }

    /// Removes what a camera keeps too long or too much of, by `keep` and by the archive's settings.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn retain(&self, camera: &str, keep: Keep, now: Timestamp) -> Result<Removed, ArchiveError> {
        let (keep, mut removed) = (self.keep(camera, keep), Removed::default());
        if let Some(age) = keep.age {
            let until = now.checked_sub(age).unwrap_or(Timestamp::MIN);
            let query = Query { camera: Some(camera.to_owned()), until: Some(until), ..Query::default() };
            let old: Vec<Record> = self.find(&query)?.into_iter().map(|it| it.record).collect();
            removed = self.remove(&old)?;
        }
        let Some(limit) = keep.bytes else { return Ok(removed) };
        let total =
            self.totals()?.into_iter().find(|(name, ..)| name == camera).map_or(0, |(.., bytes)| bytes);
        let mut beyond = total.saturating_sub(limit);
        if beyond == 0 {
            return Ok(removed);
        }
        let query = Query { camera: Some(camera.to_owned()), ..Query::default() };
        let mut excess = Vec::new();
        for found in self.find(&query)?.into_iter().filter(|it| it.labels.is_empty()) {
            if beyond == 0 {
                break;
            }
            beyond = beyond.saturating_sub(found.record.bytes);
            excess.push(found.record);
        }
        let more = self.remove(&excess)?;
        Ok(Removed { frames: removed.frames + more.frames, bytes: removed.bytes + more.bytes, beyond })
    }
}
