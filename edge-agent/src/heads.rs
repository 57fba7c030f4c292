//! The loaded heads: every embedding goes to every head.
//!
//! ```text
//! files ─► load, self-test ─► HeadSet ─► (swapped as a whole) ─► answer(embedding) ─► one result per head
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use protocol::SpaceId;
use shared::head::{Head, HeadError, Input, LoadError, Prediction, SpaceMismatch};

use crate::sinks::HeadInfo;

/// Why a set of heads was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The file is no usable head.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// This machine does not compute what the head's file says it should.
    #[error("{}: {source}", path.display())]
    SelfTest {
        /// The file.
        path: PathBuf,
        /// What differed.
        source: Box<HeadError>,
    },
    /// Two files hold the same release.
    #[error("heads = {}: the same head (release {release}) is already loaded from another file; name it once", path.display())]
    Twice {
        /// The second file.
        path: PathBuf,
        /// Its release, 12 hex digits.
        release: String,
    },
    /// The manifest's space is not one.
    #[error("{}: embedding space {space:?} is not 64 hex digits; train the head again", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        space: String,
    },
}

/// What one head made of a frame.
#[derive(Debug)]
pub struct Outcome {
    /// The head.
    pub head: Arc<HeadInfo>,
    /// Its answer, or why there is none.
    pub result: Result<Prediction, NoAnswer>,
}

/// Why a head did not answer a frame.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The embedding is of another space.
    #[error(transparent)]
    Space(#[from] SpaceMismatch),
    /// The head failed.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// A frame's embedding as it came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The space it is in.
    pub space: SpaceId,
    /// The pooled embedding, `[embed_dim]`.
    pub embedding: Vec<f32>,
    /// The latent-token grid, `[tokens, dim]`, if it was asked for.
    pub tokens: Option<Vec<f32>>,
}

/// One head and what lines say about it.
#[derive(Debug)]
pub struct Loaded {
    /// Name, release, unit and classes.
    pub info: Arc<HeadInfo>,
    /// The space it reads.
    pub space: SpaceId,
    /// The head itself.
    pub head: Head,
}

impl Loaded {
    /// Reads, checks and self-tests one head file.
    ///
    /// # Errors
    /// [`HeadsError`] naming the file.
    pub fn load(path: &Path) -> Result<Self, HeadsError> {
        let head = Head::load(path)?;
        head.self_test()
            .map_err(|source| HeadsError::SelfTest { path: path.to_owned(), source: Box::new(source) })?;
        let manifest = head.manifest();
        let space = manifest
            .input
            .space
            .parse()
            .map_err(|_| HeadsError::Space { path: path.to_owned(), space: manifest.input.space.clone() })?;
        let info = HeadInfo {
            name: manifest.name.clone(),
            release: head.short_release().to_owned(),
            unit: manifest.output.unit.clone(),
            classes: manifest.output.kind.classes().to_vec(),
        };
        Ok(Self { info: Arc::new(info), space, head })
    }
}

/// Heads that answer together.
#[derive(Debug, Default)]
pub struct HeadSet(Vec<Loaded>);

impl HeadSet {
    /// Loads head files; all or none.
    ///
    /// # Errors
    /// [`HeadsError`] for the first file that cannot be used.
    pub fn load(paths: &[PathBuf]) -> Result<Self, HeadsError> {
        let mut set = Self::default();
        for path in paths {
            let loaded = Loaded::load(path)?;
            if set.0.iter().any(|other| other.head.release() == loaded.head.release()) {
                return Err(HeadsError::Twice { path: path.clone(), release: loaded.info.release.clone() });
            }
            set.0.push(loaded);
        }
        Ok(set)
    }

    /// The heads, in the order they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Loaded> {
        self.0.iter()
    }

    /// The spaces the heads read, each once.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceId> {
        let spaces: BTreeSet<_> = self.0.iter().map(|loaded| loaded.space.0).collect();
        spaces.into_iter().map(SpaceId).collect()
    }

    /// Whether a head reads the latent-token grid.
    #[must_use]
    pub fn needs_tokens(&self) -> bool {
        self.0.iter().any(|loaded| loaded.head.needs_tokens())
    }

    /// Runs every head. One that fails does not keep the others from answering.
    #[must_use]
    pub fn answer(&self, embedding: &Embedding) -> Vec<Outcome> {
        let input = Input { embedding: &embedding.embedding, tokens: embedding.tokens.as_deref() };
        let run = |loaded: &Loaded| -> Result<Prediction, NoAnswer> {
            loaded.head.check_space(&embedding.space)?;
            Ok(loaded.head.run(&input)?)
        };
        self.0.iter().map(|loaded| Outcome { head: Arc::clone(&loaded.info), result: run(loaded) }).collect()
    }
}

/// The current set. It is replaced as a whole, between two frames.
#[derive(Debug, Default)]
pub struct Heads(ArcSwap<HeadSet>);

impl Heads {
    /// Starts with `set`.
    #[must_use]
    pub fn new(set: HeadSet) -> Self {
        Self(ArcSwap::from_pointee(set))
    }

    /// The set now; it stays as it is while the caller holds it.
    #[must_use]
    pub fn current(&self) -> Arc<HeadSet> {
        self.0.load_full()
    }

    /// Takes `set` for all frames answered from now on.
    pub fn replace(&self, set: HeadSet) {
        self.0.store(Arc::new(set));
    }
}
