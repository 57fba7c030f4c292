//! Frames on their way into the archive.

use std::collections::HashSet;

use bytes::Bytes;
use jiff::Timestamp;
use shared::image::{Limits, jpeg};
use shared::tls::check_camera_name;

use super::intent::Intent;
use super::record::{Embedding, Record, Zone, digest, hex, to_micros};
use super::{Archive, ArchiveError, FrameId, frames};

/// A frame that is to be kept.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The camera, by a name that a certificate could have.
    pub camera: String,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// The camera's time zone.
    pub zone: Zone,
    /// How far the time may be off, either way, in milliseconds.
    pub uncertainty_ms: u64,
    /// Where it came from, credentials removed.
    pub source: String,
    /// The picture.
    pub jpeg: Bytes,
    /// What an encoder said of it.
    pub embedding: Option<Embedding>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is in the archive now, durably.
    New(FrameId),
    /// The camera's archive holds these very bytes already, as this frame.
    Same(FrameId),
}

impl Added {
    /// The frame in the archive that has these bytes.
    pub fn id(self) -> FrameId {
        match self {
            Self::New(id) | Self::Same(id) => id,
        }
    }
}

/// A frame with all that follows from it.
struct Ready {
    record: Record,
    digest: [u8; 32],
    jpeg: Bytes,
    embedding: Option<Embedding>,
}

impl Ready {
    fn new(frame: Incoming, added_at: Timestamp) -> Result<Self, ArchiveError> {
        let Incoming { camera, captured_at, zone, uncertainty_ms, source, jpeg, embedding } = frame;
        check_camera_name(&camera).map_err(|_| ArchiveError::CameraName(camera.clone()))?;
        let header = jpeg::check(&jpeg, &Limits::default())?;
        let (digest, captured_at) = (digest(&jpeg), to_micros(captured_at));
        let id = FrameId::of(&camera, captured_at, &digest);
        let path = frames::path(&camera, captured_at, id);
        let (zone, sha256, bytes) = (zone.to_string(), hex(&digest), jpeg.len() as u64);
        let (width, height) = (header.width, header.height);
        let record = Record {
            id,
            camera,
            captured_at,
            zone,
            uncertainty_ms,
            source,
            width,
            height,
            bytes,
            sha256,
            path,
            added_at,
        };
        Ok(Self { record, digest, jpeg, embedding })
    }
}

impl Archive {
    /// Keeps a batch of frames: all of it is durable when this returns, or nothing is there. Frames with bytes that their
    /// camera has already are not stored again.
    ///
    /// # Errors
    /// A frame that is no JPEG, a camera without a proper name, a disk that is full or cannot be written.
    pub fn add(&self, batch: Vec<Incoming>) -> Result<Vec<Added>, ArchiveError> {
        let now = to_micros(Timestamp::now());
        let batch: Vec<Ready> = batch.into_iter().map(|it| Ready::new(it, now)).collect::<Result<_, _>>()?;
        loop {
            match self.add_ready(&batch) {
                Err(ArchiveError::Vanished) => {}
                added => return added,
            }
        }
    }

    fn add_ready(&self, batch: &[Ready]) -> Result<Vec<Added>, ArchiveError> {
        let settlements = self.index.settlements()?;
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        for Ready { record, digest, jpeg, .. } in batch {
            let known = self.same_bytes(&record.camera, digest)?.is_some();
            if !known && seen.insert((record.camera.as_str(), *digest)) {
                files.push((record.path.clone(), jpeg.clone()));
            }
        }
        let paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
        let intent = match paths.is_empty() {
            true => None,
            false => Some(Intent::declare(&self.dir, paths.iter().map(String::as_str))?),
        };
        let added = self.frames.put(&files).and_then(|()| self.commit(batch, &paths, settlements));
        // What the index does not name goes: after a failure, or where another process was faster.
        let lost_race = |added: &Vec<Added>| added.iter().any(|it| matches!(it, Added::Same(_)));
        let settled = match added.as_ref().map_or(true, lost_race) {
            true => self.settle(paths.iter().map(String::as_str)),
            false => Ok(()),
        };
        // What could not be settled is left to whoever opens the archive next.
        if let Some(intent) = intent.filter(|_| settled.is_ok()) {
            intent.done()?;
        }
        let added = added?;
        settled.map(|()| added)
    }

    /// `stored`: whose files were written, when so many `settlements` had been.
    fn commit(
        &self,
        batch: &[Ready],
        stored: &[String],
        settlements: u32,
    ) -> Result<Vec<Added>, ArchiveError> {
        let stored: HashSet<&str> = stored.iter().map(String::as_str).collect();
        self.index.write(|tables| {
            // Somebody removed files since: these may be among them.
            if !stored.is_empty() && tables.settlements()? != settlements {
                return Err(ArchiveError::Vanished);
            }
            let mut added = Vec::with_capacity(batch.len());
            for Ready { record, digest, embedding, .. } in batch {
                if let Some(id) = tables.same_bytes(&record.camera, digest)? {
                    added.push(Added::Same(id));
                    continue;
                }
                // It was there when the files were written, and somebody removed it since.
                if !stored.contains(record.path.as_str()) {
                    return Err(ArchiveError::Vanished);
                }
                tables.insert(record)?;
                if let Some(Embedding { space, values }) = embedding {
                    tables.embed(record, *space, values)?;
                }
                added.push(Added::New(record.id));
            }
            Ok(added)
        })
    }

    /// Adds embeddings to frames that are there: of a newer encoder, or where there were none.
    ///
    /// # Errors
    /// A frame that is not in the archive, an embedding of another length than its space has.
    pub fn embed(&self, embeddings: &[(FrameId, Embedding)]) -> Result<(), ArchiveError> {
        self.index.write(|tables| {
            embeddings.iter().try_for_each(|(id, Embedding { space, values })| {
                let record = tables.record(*id)?.ok_or(ArchiveError::UnknownFrame(*id))?;
                tables.embed(&record, *space, values)
            })
        })
    }

    fn same_bytes(&self, camera: &str, digest: &[u8; 32]) -> Result<Option<FrameId>, ArchiveError> {
        let table = self.index.read()?.open_table(super::index::HASHES).map_err(ArchiveError::database)?;
        let found = table.get((camera, digest)).map_err(ArchiveError::database)?;
        Ok(found.map(|id| FrameId(*id.value())))
    }

    /// Records without files, for measuring an index of millions: `verify` would call each of them lost.
    #[doc(hidden)]
    pub fn add_synthetic(&self, records: &[(Record, Option<Embedding>)]) -> Result<(), ArchiveError> {
        self.index.write(|tables| {
            records.iter().try_for_each(|(record, embedding)| {
                tables.insert(record)?;
                embedding.iter().try_for_each(|it| tables.embed(record, it.space, &it.values))
            })
        })
    }
}
