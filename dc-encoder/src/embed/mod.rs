//! Embedding many frames into one file, for training heads.
//!
//! ```text
//!               a thread, frames in parallel          this thread
//! frames::list ─► uplink ─► decode ─► resize ═ batch ═► backend ─► OUT.part ─► OUT
//!                                      (one waits)                (a checksum  (temporary file,
//!                                                                  a record)    then renamed)
//! ```
//! With an uplink that sends patches, the list is one camera's frames in time order: they pass one after another, as on the
//! camera box, and a memory of their tokens makes whole pictures of them, as in the server.
//!
//! A run that is interrupted, even by a power cut or a full disk, leaves `OUT.part`; the same command continues it
//! and ends with the same bytes as a run that was never interrupted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::GridShape;
use shared::frames::{self, ListError};
use shared::image::Limits;
use shared::patches::PatchesError;
use shared::uplink::Uplink;

use crate::backend::{Backend, BackendError};

mod file;
mod frame;
mod part;
mod pipeline;
mod plan;
mod replay;
mod write;

pub use file::{EmbeddingsFile, ReadError};
pub(crate) use frame::Preparation;

/// What to embed and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// A folder of pictures, or a list of them; see [`frames::list`].
    pub frames: PathBuf,
    /// The file to make.
    pub out: PathBuf,
    /// What every frame passes through before the encoder, as it would on a camera box.
    pub uplink: Uplink,
    /// Keep the latent tokens beside the embedding.
    pub tokens: bool,
    /// Leave out frames that cannot be used, and list them, instead of stopping at the first.
    pub skip_bad: bool,
    /// Frames in a batch; by default what suits the device.
    pub batch: Option<usize>,
    /// Threads that decode; by default one a processor.
    pub threads: Option<usize>,
    /// Largest picture that is accepted.
    pub limits: Limits,
}

impl Config {
    /// Everything but the paths at its default.
    pub fn new(frames: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            frames: frames.into(),
            out: out.into(),
            uplink: Uplink::default(),
            tokens: false,
            skip_bad: false,
            batch: None,
            threads: None,
            limits: Limits::default(),
        }
    }
}

/// What happens during a run, told to whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An earlier run's work was found: `done` of `total` frames, kept in `path`.
    Continuing {
        /// The part file.
        path: PathBuf,
        /// Frames it holds.
        done: usize,
        /// Frames in the list.
        total: usize,
    },
    /// This many frames are done (bad ones included); sent once before the first, then after every batch.
    Done {
        /// Frames done.
        done: usize,
        /// Frames in the list.
        total: usize,
        /// Of these, frames left out.
        skipped: usize,
    },
    /// All frames are done and the file is being written.
    Writing(PathBuf),
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Frames in the list.
    pub total: usize,
    /// Frames in the file.
    pub embedded: usize,
    /// Frames left out, each with the reason.
    pub skipped: Vec<Skipped>,
    /// Frames that an earlier run had done.
    pub resumed: usize,
    /// Bytes that this run's frames take on the wire.
    pub bytes: u64,
    /// Patches sent by this run, as a share of all.
    pub kept: f64,
    /// The file was there already, made from the same frames, uplink transformation and model.
    pub already_complete: bool,
    /// Numbers in an embedding.
    pub dim: usize,
    /// Shape of the latent-token grid, if tokens were kept.
    pub grid: Option<GridShape>,
    /// How long this run took.
    pub took: Duration,
}

/// A frame that was left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped {
    /// Its id.
    pub file: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// Why frames could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The frames cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A frame that cannot be used.
    #[error(
        "{file}: {reason}; repair or remove it, or leave such frames out with --skip-bad ({done} of {total} frames are \
         kept in {}, the same command continues there)", part.display()
    )]
    BadFrame {
        /// Its id.
        file: String,
        /// Why it cannot be used.
        reason: String,
        /// Frames done so far.
        done: usize,
        /// Frames in the list.
        total: usize,
        /// The part file.
        part: PathBuf,
    },
    /// Not one frame that can be used.
    #[error("none of the {total} frames can be used; the first, {file}: {reason}")]
    NothingUsable {
        /// Frames in the list.
        total: usize,
        /// The first one.
        file: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The encoder's input cannot travel as patches.
    #[error(transparent)]
    Patches(#[from] PatchesError),
    /// The encoder takes whole frames only.
    #[error(
        "{device} encodes whole frames only: embed on the processor (`--device cpu`), or with `--patches all`"
    )]
    WholeFrames {
        /// The device in words.
        device: String,
    },
    /// Frames of one camera that go back in time.
    #[error(
        "{file} was captured before the frame above it: patches need one camera's frames in time order; sort the list"
    )]
    Order {
        /// The frame's id.
        file: String,
    },
    /// The device failed.
    #[error("frames {} to {}: {source}", first + 1, first + count)]
    Backend {
        /// Index of the batch's first frame.
        first: usize,
        /// Frames in the batch.
        count: usize,
        /// What it said.
        source: Box<BackendError>,
    },
    /// The device answered with something other than it announced.
    #[error("the backend answered {got} where {expected} were announced; this is a defect of the backend")]
    Answer {
        /// What was announced.
        expected: String,
        /// What came.
        got: String,
    },
    /// No threads to decode with.
    #[error("cannot start {threads} threads (0: one a processor): {source}; ask for fewer with --threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        source: Box<rayon::ThreadPoolBuildError>,
    },
    /// The disk is full, or not writable.
    #[error(
        "cannot write {}: {source}; {done} of {total} frames are kept in {}: make room and run the same command again",
        path.display(), part.display()
    )]
    Write {
        /// The file being written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// Frames done so far.
        done: usize,
        /// Frames in the list.
        total: usize,
        /// The part file.
        part: PathBuf,
    },
    /// The part file cannot be read back.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The part file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The part file is of another run.
    #[error(
        "{} is the beginning of another run: {difference}; repeat that run's arguments to continue it, choose another \
         --out, or delete it to start anew", path.display()
    )]
    OtherRun {
        /// The part file.
        path: PathBuf,
        /// In what it differs, then and now.
        difference: String,
    },
    /// The part file is none.
    #[error("{} is in the way: {why}; choose another --out, or move it elsewhere", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process is at it.
    #[error("another process is writing {}; wait for it, or choose another --out", path.display())]
    Busy {
        /// The part file.
        path: PathBuf,
    },
    /// More frames than one file can name.
    #[error("{total} frames are too many for one file; split the list")]
    TooMany {
        /// Frames in the list.
        total: usize,
    },
}

/// Embeds every frame of `config.frames` into `config.out`, continuing an earlier run where there is one.
///
/// # Errors
/// Nothing that is done is lost: after any error but [`EmbedError::OtherRun`] and [`EmbedError::InTheWay`] the same
/// call continues.
pub fn run(
    config: &Config,
    backend: &mut dyn Backend,
    watch: &mut dyn FnMut(Event),
) -> Result<Summary, EmbedError> {
    let started = std::time::Instant::now();
    let frames = frames::list(&config.frames)?;
    let plan = plan::Plan::new(config, &frames, &backend.info())?;
    if let Some(found) = write::find_complete(&config.out, &plan)? {
        return Ok(Summary { took: started.elapsed(), ..found });
    }
    let (mut part, resumed) = part::open(&part_path(&config.out), &plan)?;
    if resumed > 0 {
        watch(Event::Continuing { path: part.path().into(), done: resumed, total: plan.frames });
    }
    let work = pipeline::Work { config, frames: &frames, plan: part.plan().clone(), part: &mut part, watch };
    let sent = work.run(backend)?;
    watch(Event::Writing(config.out.clone()));
    let skipped = write::write(&config.out, &frames, &mut part)?;
    part.remove();
    Ok(Summary {
        total: plan.frames,
        embedded: plan.frames - skipped.len(),
        skipped,
        resumed,
        bytes: sent.bytes,
        kept: sent.kept(),
        already_complete: false,
        dim: plan.dim,
        grid: plan.grid(),
        took: started.elapsed(),
    })
}

/// `OUT.part`
fn part_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
