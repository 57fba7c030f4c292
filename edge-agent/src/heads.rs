//! The loaded heads: every embedding goes to every head.
//!
//! ```text
//! files, releases ─► load, self-test ─► HeadSet ─► (swapped as a whole) ─► answer(embedding) ─► one result per head
//!                                                                             └─► Tally of each release
//! ```
//! A frame takes one [`HeadSet`] for all its way: a swap happens between two frames, never within one.

mod fault;
mod guard;
mod tally;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use protocol::{ReleaseId, SpaceId};
use shared::head::{Head, HeadError, Input, LoadError, OutputKind, Prediction, SpaceMismatch};
use tokio::sync::Notify;

pub use guard::{Panicked, guarded};
pub use tally::{Counts, Tally};

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
    /// The head's code failed in its self-test.
    #[error("{}: its self-test failed badly: {source}; please report this", path.display())]
    Panicked {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: Panicked,
    },
    /// The self-test took too long, each time.
    #[error(
        "{}: its self-test took {took:?}, more than its {budget:?} a frame; use a smaller head, or raise head_budget", path.display()
    )]
    Slow {
        /// The file.
        path: PathBuf,
        /// The fastest of a few.
        took: Duration,
        /// What a head may take.
        budget: Duration,
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
    /// The head's code failed.
    #[error(transparent)]
    Panicked(#[from] Panicked),
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

/// What a head may take for one frame unless the configuration says otherwise; real ones take microseconds to a few
/// milliseconds.
pub const USUAL_BUDGET: Duration = Duration::from_millis(250);

/// Self-tests of which the fastest counts: a busy machine is not the head's fault.
const TIMED: usize = 3;

/// One release of a head, and how it does.
#[derive(Debug)]
pub struct Loaded {
    /// Name, release, unit and classes.
    pub info: Arc<HeadInfo>,
    /// Which release it is.
    pub release: ReleaseId,
    /// The space it reads.
    pub space: SpaceId,
    /// The head itself.
    pub head: Head,
    /// Operations that one answer takes, at most.
    pub flops: u64,
    /// What it answered since it was loaded.
    pub tally: Tally,
    budget: Duration,
}

impl Loaded {
    /// Reads, checks and self-tests one head file.
    ///
    /// # Errors
    /// [`HeadsError`] naming the file.
    pub fn load(path: &Path, budget: Duration) -> Result<Self, HeadsError> {
        Self::tested(Head::load(path)?, path, budget)
    }

    /// Reads and checks a head file's bytes; `path` is used in messages.
    ///
    /// # Errors
    /// [`HeadsError::Load`].
    pub fn read(bytes: &[u8], path: &Path) -> Result<Head, HeadsError> {
        let inside = |source| LoadError::InFile { path: path.to_owned(), source: Box::new(source) };
        Ok(Head::from_bytes(bytes).map_err(inside)?)
    }

    /// Runs a head's self-test.
    ///
    /// # Errors
    /// [`HeadsError`] naming the file.
    pub fn tested(head: Head, path: &Path, budget: Duration) -> Result<Self, HeadsError> {
        self_test(&head, path, budget)?;
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
        let release = head.release().parse().expect("a head's release is 64 hexadecimal digits");
        let tally = Tally::new(matches!(manifest.output.kind, OutputKind::Circular { .. }));
        Ok(Self { info: Arc::new(info), release, space, flops: head.flops(), head, tally, budget })
    }

    /// Runs the head on a frame. Whatever happens in it, the agent goes on.
    fn run(&self, embedding: &Embedding) -> Result<Prediction, NoAnswer> {
        self.head.check_space(&embedding.space).inspect_err(|_| self.tally.other_space())?;
        let input = Input { embedding: &embedding.embedding, tokens: embedding.tokens.as_deref() };
        let start = Instant::now();
        let run = || {
            fault::strike(&self.info.unit);
            self.head.run(&input)
        };
        let result = match guarded(run) {
            Ok(result) => result.map_err(NoAnswer::from),
            Err(panicked) => Err(NoAnswer::from(panicked)),
        };
        let took = start.elapsed();
        self.tally.took(took);
        self.tally.count(&result, (took > self.budget).then_some((took, self.budget)));
        result
    }
}

fn self_test(head: &Head, path: &Path, budget: Duration) -> Result<(), HeadsError> {
    let mut fastest = Duration::MAX;
    for _ in 0..TIMED {
        let start = Instant::now();
        let path = || path.to_owned();
        guarded(|| head.self_test())
            .map_err(|source| HeadsError::Panicked { path: path(), source })?
            .map_err(|source| HeadsError::SelfTest { path: path(), source: Box::new(source) })?;
        fastest = fastest.min(start.elapsed());
        if fastest <= budget {
            return Ok(());
        }
    }
    Err(HeadsError::Slow { path: path.to_owned(), took: fastest, budget })
}

/// Heads that answer together.
#[derive(Debug, Default, Clone)]
pub struct HeadSet(Vec<Arc<Loaded>>);

impl HeadSet {
    /// These heads.
    #[must_use]
    pub fn of(heads: Vec<Arc<Loaded>>) -> Self {
        Self(heads)
    }

    /// Loads head files; all or none.
    ///
    /// # Errors
    /// [`HeadsError`] for the first file that cannot be used.
    pub fn load(paths: &[PathBuf], budget: Duration) -> Result<Self, HeadsError> {
        let mut set = Self::default();
        for path in paths {
            let loaded = Loaded::load(path, budget)?;
            if set.0.iter().any(|other| other.release == loaded.release) {
                return Err(HeadsError::Twice { path: path.clone(), release: loaded.info.release.clone() });
            }
            set.0.push(Arc::new(loaded));
        }
        Ok(set)
    }

    /// The heads, in the order they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Loaded>> {
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

    /// Operations that they take for one frame, at most.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.0.iter().map(|loaded| loaded.flops).sum()
    }

    /// Runs every head. One that fails does not keep the others from answering.
    #[must_use]
    pub fn answer(&self, embedding: &Embedding) -> Vec<Outcome> {
        let outcome =
            |loaded: &Arc<Loaded>| Outcome { head: Arc::clone(&loaded.info), result: loaded.run(embedding) };
        self.0.iter().map(outcome).collect()
    }

    /// Whether a head has failed so often that its release should go.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.0.iter().any(|loaded| loaded.tally.in_trouble())
    }
}

/// The current set. It is replaced as a whole, between two frames.
#[derive(Debug, Default)]
pub struct Heads {
    set: ArcSwap<HeadSet>,
    trouble: Notify,
}

impl Heads {
    /// Starts with `set`.
    #[must_use]
    pub fn new(set: HeadSet) -> Self {
        Self { set: ArcSwap::from_pointee(set), trouble: Notify::new() }
    }

    /// The set now; it stays as it is while the caller holds it.
    #[must_use]
    pub fn current(&self) -> Arc<HeadSet> {
        self.set.load_full()
    }

    /// Takes `set` for all frames answered from now on.
    pub fn replace(&self, set: HeadSet) {
        self.set.store(Arc::new(set));
    }

    /// A frame was answered by `set`: wakes whoever waits for trouble, if there is some.
    pub fn answered(&self, set: &HeadSet) {
        if set.in_trouble() {
            self.trouble.notify_one();
        }
    }

    /// Waits until a head of the current set has failed too often. Cancel-safe.
    pub async fn trouble(&self) {
        self.trouble.notified().await;
    }
}
