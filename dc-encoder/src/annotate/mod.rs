//! From frames to labels: batches that people label, in a folder, on a page, or on a platform.
//!
//! ```text
//! suggest, form ─► Batch (in the archive) ─► push ─► Platform ─► people ─► pull ─► checked ─► archive.put_labels
//!                                             └ frame id and path travel with the picture and are checked on the way back
//! ```
//! A batch stands in the archive as sent before its first frame goes out, and each frame with the platform's name for it as
//! soon as that is acknowledged; a push that was cut off asks what is there and sends the rest. Labels that are pulled twice
//! count once, and everyone's answer is kept: see [`crate::archive::Archive::put_labels`].

mod batch;
mod config;
mod folder;
mod form;
mod guess;
mod http;
mod page;
mod plan;
mod platform;
mod scale;
mod secret;
mod send;
mod studio;
mod web;

pub use batch::{Batch, BatchError, Progress, Sent};
pub use config::{Config, ConfigFault};
pub use folder::Folder;
pub use form::{Form, Formed, form};
pub use guess::{Guess, GuessError, Guesses};
pub use page::{Page, PageError, Served};
pub use plan::{Budget, Held, Plan, Spent};
pub use platform::{Answered, Asked, Item, Keep, Outgoing, Platform, Pulled};
pub use scale::{Callback, Listening, Reply, Scale, ScaleConfig};
pub use secret::SecretError;
pub use send::{Lock, Pushed, Taking, pull, push, push_with};
pub use studio::{Studio, StudioConfig};
pub use web::{Patience, WebError};

use std::path::PathBuf;

use crate::archive::ArchiveError;

/// Why nothing was sent or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum AnnotateError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Web(#[from] WebError),
    #[error(transparent)]
    Config(#[from] ConfigFault),
    #[error(transparent)]
    Guess(#[from] GuessError),
    #[error("nothing was sent: {0}")]
    Held(#[from] Held),
    #[error("another `label push` is sending to {}: let it end", .0.display())]
    Busy(PathBuf),
    #[error("{0}")]
    Platform(String),
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
    /// Whether a platform may have taken what it did not acknowledge.
    pub(crate) fn in_doubt(&self) -> bool {
        matches!(self, Self::Web(error) if error.in_doubt())
    }

    /// Whether it may work a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Web(error) if error.may_pass())
    }

    pub(crate) fn io<'a>(
        what: &'static str,
        path: &'a std::path::Path,
    ) -> impl Fn(std::io::Error) -> Self + 'a {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}
