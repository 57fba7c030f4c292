//! From frames to labels: batches that people label, in a folder, on a page, or on a platform.
//!
//! ```text
//! suggest ─► Batch (in the archive) ─► push ─► Platform ─► people ─► pull ─► checked ─► archive.put_labels
//!                                       └ frame id and path travel with the picture and are checked on the way back
//! ```
//! Labels that are pulled twice count once, and everyone's answer is kept: see [`crate::archive::Archive::put_labels`].

mod batch;
mod folder;
mod page;

pub use batch::{Batch, BatchError, Progress, Sent};
pub use folder::Folder;
pub use page::{Page, PageError, Served};

use std::path::PathBuf;

use shared::head::Task;

use crate::archive::{Archive, ArchiveError, Record, Returned, Taken};

/// One frame that is sent out.
#[derive(Debug, Clone)]
pub struct Item {
    /// What is known of it.
    pub record: Record,
    /// Its file in the archive.
    pub file: PathBuf,
}

/// Why nothing was sent or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum AnnotateError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is there already: choose another folder, or `label pull` what is in it", .0.display())]
    InTheWay(PathBuf),
    #[error("{} holds no labels.csv or labels.jsonl: was it filled in and left there?", .0.display())]
    NoLabels(PathBuf),
    #[error("{}: {why}", path.display())]
    Table { path: PathBuf, why: String },
    #[error("{place}: {fault}")]
    Label { place: String, fault: crate::archive::LabelFault },
}

impl AnnotateError {
    pub(crate) fn io<'a>(
        what: &'static str,
        path: &'a std::path::Path,
    ) -> impl Fn(std::io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

/// Whoever lets people label frames: a folder here; a service, behind the same calls.
pub trait Platform {
    /// Its name, for records and messages.
    fn name(&self) -> &'static str;

    /// Where a batch goes, in words: a folder, an address.
    fn place(&self) -> String;

    /// Sends a batch: each frame's picture, id and path.
    ///
    /// # Errors
    /// A place that cannot be written or reached.
    fn push(&mut self, name: &str, task: Task, items: &[Item]) -> Result<(), AnnotateError>;

    /// Fetches what has been said so far, with ids and paths as they were sent; may be called any number of times.
    ///
    /// # Errors
    /// A place that cannot be read or reached, an answer that is none.
    fn pull(&mut self, name: &str, task: Task) -> Result<Vec<Returned>, AnnotateError>;
}

/// Sends a batch that the archive knows.
///
/// # Errors
/// A batch that is not there, a platform that fails.
pub fn push(archive: &Archive, name: &str, platform: &mut dyn Platform) -> Result<usize, AnnotateError> {
    let mut batch = Batch::get(archive, name)?;
    let items = batch.items(archive)?;
    platform.push(name, batch.task, &items)?;
    batch.sent = Some(Sent { to: platform.name().to_owned(), place: platform.place() });
    batch.put(archive, name)?;
    Ok(items.len())
}

/// Takes what a platform has for a batch: all of it, or nothing and says why.
///
/// # Errors
/// A batch that is not there, a platform that fails, an answer about an unknown frame or of a wrong type.
pub fn pull(archive: &Archive, name: &str, platform: &mut dyn Platform) -> Result<Taken, AnnotateError> {
    let batch = Batch::get(archive, name)?;
    let returned = platform.pull(name, batch.task)?;
    for it in &returned {
        if !batch.frames.contains(&it.id) {
            let (place, name) = (it.place.clone(), name.to_owned());
            return Err(BatchError::Stranger { place, id: it.id, name }.into());
        }
    }
    Ok(archive.put_labels(&returned)?)
}
