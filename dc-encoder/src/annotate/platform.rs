//! What every platform does, and what is handed to it.

use std::path::PathBuf;

use jiff::Timestamp;
use shared::head::Task;

use super::{AnnotateError, Guesses, Sent};
use crate::archive::{Archive, FrameId, Record, Returned};

/// One frame that is sent out.
#[derive(Debug, Clone)]
pub struct Item {
    /// What is known of it.
    pub record: Record,
    /// Its file in the archive.
    pub file: PathBuf,
}

/// A batch on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The archive it is of.
    pub archive: &'a Archive,
    /// Its name.
    pub name: &'a str,
    /// When it was made: with the name, no other batch's.
    pub made_at: Timestamp,
    /// What is asked about each frame.
    pub task: Task,
    /// The frames.
    pub items: &'a [Item],
    /// What heads say about them.
    pub guesses: &'a Guesses,
}

impl Outgoing<'_> {
    /// A frame's JPEG; its hash is checked.
    ///
    /// # Errors
    /// A file that is gone or holds other bytes.
    pub fn jpeg(&self, item: &Item) -> Result<Vec<u8>, AnnotateError> {
        Ok(self.archive.jpeg(&item.record)?)
    }

    /// The frames that are not among these.
    pub(super) fn without(&self, there: impl Fn(FrameId) -> bool) -> Vec<&Item> {
        self.items.iter().filter(|it| !there(it.record.id)).collect()
    }
}

/// Writes down what the platform acknowledged: frames, and its names for them.
pub type Keep<'a> = dyn FnMut(&[(FrameId, String)]) -> Result<(), AnnotateError> + 'a;

/// A batch whose labels are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its name.
    pub name: &'a str,
    /// When it was made.
    pub made_at: Timestamp,
    /// What was asked about each frame.
    pub task: Task,
    /// Its frames.
    pub frames: &'a [FrameId],
    /// Where it was sent, if it was.
    pub sent: Option<&'a Sent>,
}

/// A label as a platform gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The label.
    pub returned: Returned,
    /// Columns and rows of the picture that was labelled, if the platform says so; checked.
    pub size: Option<[u32; 2]>,
}

/// What a platform has for a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pulled {
    /// Labels.
    pub answers: Vec<Answered>,
    /// What is no label, each with where it stands and why.
    pub refused: Vec<String>,
}

/// Whoever lets people label frames: a folder here; a service, behind the same calls.
pub trait Platform {
    /// Its name, for records and messages.
    fn name(&self) -> &'static str;

    /// Where a batch goes, in words: a folder, an address.
    fn place(&self) -> String;

    /// Whether one answer that is wrong makes all of them worthless: a table that a person can mend does; among the answers
    /// of many people the good ones count, and the others are named.
    fn all_or_nothing(&self) -> bool {
        false
    }

    /// Labels that each frame gets there, all of them paid.
    fn labels_each(&self) -> u64 {
        1
    }

    /// Sends a batch: each frame's picture, id and path. What is there already, also from a push that was cut off, is not sent
    /// again.
    ///
    /// # Errors
    /// A place that cannot be written or reached.
    fn push(&mut self, out: &Outgoing<'_>, keep: &mut Keep<'_>) -> Result<(), AnnotateError>;

    /// Fetches what has been said so far, with ids and paths as they were sent; may be called any number of times.
    ///
    /// # Errors
    /// A place that cannot be read or reached.
    fn pull(&mut self, asked: &Asked<'_>) -> Result<Pulled, AnnotateError>;
}
