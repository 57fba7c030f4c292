//! What was chosen to be labelled together.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::head::Task;

use super::{AnnotateError, Asked, Item};
use crate::archive::{Archive, ArchiveError, Consensus, FrameId, Label};

/// A batch, as the archive keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// What is asked about each frame.
    pub task: Task,
    /// The frames.
    pub frames: Vec<FrameId>,
    /// When it was made.
    pub made_at: Timestamp,
    /// Where it was sent, if it was.
    pub sent: Option<Sent>,
}

/// Where a batch was sent. It stands in the archive before the first frame goes out, so that what was begun is gone on with
/// and paid once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The platform.
    pub to: String,
    /// The folder or address.
    pub place: String,
    /// When it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What the platform calls each frame that it acknowledged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<FrameId, String>,
    /// Whether all of it is there.
    #[serde(default)]
    pub whole: bool,
    /// Labels that are paid for with it.
    #[serde(default)]
    pub labels: u64,
    /// What they cost, in the currency of the budget.
    #[serde(default)]
    pub money: f64,
}

/// Why a batch is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum BatchError {
    #[error("there is no batch {name:?}, {}; `dc-encoder label suggest` makes one", known(have))]
    Unknown { name: String, have: Vec<String> },
    #[error("there is a batch {0:?} already: choose another --batch")]
    Taken(String),
    #[error("{0:?} is no name of a batch: want 1 to 63 of a-z, 0-9, `.`, `_` and `-`")]
    Name(String),
    #[error(
        "{place}: frame {id} is not of batch {name:?}: it was forgotten, or labels of another batch were mixed in"
    )]
    Stranger { place: String, id: FrameId, name: String },
    #[error("batch {0:?} has no frames left: they were all forgotten")]
    Empty(String),
    #[error(
        "batch {name:?} was sent to {to} {place}: there its frames are labelled once; take them with `label pull --batch {name}`, \
         or make another batch"
    )]
    Elsewhere { name: String, to: String, place: String },
}

fn known(have: &[String]) -> String {
    if have.is_empty() { "and no other".to_owned() } else { format!("only {}", have.join(", ")) }
}

/// How far a batch is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Frames of the batch that are still in the archive.
    pub frames: usize,
    /// Those that somebody labelled.
    pub labelled: usize,
    /// Those that people labelled differently, with what they say together.
    pub disputed: Vec<(FrameId, Vec<Label>, Consensus)>,
    /// Labels that somebody changed, with what they said before.
    pub changed: Vec<(FrameId, Label)>,
}

impl Batch {
    /// A new batch under a name that is free.
    ///
    /// # Errors
    /// A name that is taken, or none.
    pub fn create(
        archive: &Archive,
        name: &str,
        (task, frames): (Task, Vec<FrameId>),
    ) -> Result<Self, AnnotateError> {
        shared::tls::check_camera_name(name).map_err(|_| BatchError::Name(name.to_owned()))?;
        if all(archive)?.iter().any(|(known, _)| known == name) {
            return Err(BatchError::Taken(name.to_owned()).into());
        }
        let batch = Self { task, frames, made_at: Timestamp::now(), sent: None };
        batch.put(archive, name)?;
        Ok(batch)
    }

    /// The batch of this name.
    ///
    /// # Errors
    /// [`BatchError::Unknown`], with the names there are.
    pub fn get(archive: &Archive, name: &str) -> Result<Self, AnnotateError> {
        let all = all(archive)?;
        match all.iter().find(|(known, _)| known == name) {
            Some((_, batch)) => Ok(batch.clone()),
            None => {
                let have = all.into_iter().map(|(name, _)| name).collect();
                Err(BatchError::Unknown { name: name.to_owned(), have }.into())
            }
        }
    }

    /// All batches, by name.
    ///
    /// # Errors
    /// An index that fails.
    pub fn all(archive: &Archive) -> Result<Vec<(String, Self)>, AnnotateError> {
        Ok(all(archive)?)
    }

    pub(super) fn put(&self, archive: &Archive, name: &str) -> Result<(), ArchiveError> {
        archive.put_batch(name, self)
    }

    /// Its frames with their files; those that were forgotten meanwhile are left out.
    ///
    /// # Errors
    /// [`BatchError::Empty`] if none is left.
    pub fn items(&self, archive: &Archive) -> Result<Vec<Item>, AnnotateError> {
        let mut items = Vec::with_capacity(self.frames.len());
        for id in &self.frames {
            match archive.get(*id) {
                Ok(found) => items.push(Item { file: archive.path_of(&found.record), record: found.record }),
                Err(ArchiveError::UnknownFrame(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if items.is_empty() {
            return Err(BatchError::Empty(self.made_at.to_string()).into());
        }
        Ok(items)
    }

    /// What a platform is asked about it.
    pub(super) fn asked<'a>(&'a self, name: &'a str) -> Asked<'a> {
        let Self { task, frames, made_at, sent } = self;
        Asked { name, made_at: *made_at, task: *task, frames, sent: sent.as_ref() }
    }

    /// How far it is.
    ///
    /// # Errors
    /// An index that fails.
    pub fn progress(&self, archive: &Archive) -> Result<Progress, AnnotateError> {
        let labels: HashMap<FrameId, Vec<Label>> = archive.labelled(None, self.task)?.into_iter().collect();
        let mut progress = Progress::default();
        for id in &self.frames {
            if matches!(archive.get(*id), Err(ArchiveError::UnknownFrame(_))) {
                continue;
            }
            progress.frames += 1;
            let Some(said) = labels.get(id) else { continue };
            progress.labelled += 1;
            let changed = said.iter().filter(|it| !it.earlier.is_empty());
            progress.changed.extend(changed.map(|it| (*id, it.clone())));
            if let Some(consensus) = Consensus::of(said).filter(|it| !it.agree) {
                progress.disputed.push((*id, said.clone(), consensus));
            }
        }
        Ok(progress)
    }
}

fn all(archive: &Archive) -> Result<Vec<(String, Batch)>, ArchiveError> {
    archive.batches()
}
