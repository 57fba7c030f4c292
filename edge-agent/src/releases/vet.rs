//! What a release must pass before it runs here.

use std::path::PathBuf;
use std::time::Duration;

use protocol::{GridShape, ReleaseId, SpaceId, Welcome};
use shared::head::Head;
use shared::release::digest;

use super::gate::{Gate, Origin};
use super::state::Until;
use crate::heads::{HeadsError, Loaded};

/// Why a release does not run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For a person.
    pub words: String,
    /// When it is tried again.
    pub until: Until,
}

impl Fault {
    pub(super) fn new(words: impl Into<String>, until: Until) -> Self {
        Self { words: words.into(), until }
    }
}

/// What an encoder gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its space.
    pub space: SpaceId,
    /// Values of an embedding.
    pub embed_dim: u32,
    /// Its latent-token grid.
    pub grid: Option<GridShape>,
}

impl Terms {
    /// Those of a session.
    #[must_use]
    pub fn of(welcome: &Welcome) -> Self {
        Self { space: welcome.space, embed_dim: welcome.embed_dim, grid: welcome.grid }
    }
}

/// A release in question.
#[derive(Debug)]
pub struct Case {
    /// Who may.
    pub gate: Gate,
    /// What it must be.
    pub release: ReleaseId,
    /// Its name must be this. `None`: any.
    pub head: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// What it must read. `None`: no encoder is there to ask.
    pub terms: Option<Terms>,
    /// The agent's uplink transformation.
    pub uplink: String,
    /// What it may take for a frame.
    pub budget: Duration,
    /// Names it in messages.
    pub path: PathBuf,
}

impl Case {
    /// Checks everything, in the order of what is cheapest for a wrong one.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn vet(&self, bytes: &[u8], signature: Option<&[u8]>) -> Result<Loaded, Fault> {
        self.is_release(bytes)?;
        self.vet_content(bytes, signature)
    }

    /// Checks that these are the release's bytes. Otherwise it is the server's fault or the disk's: the release itself
    /// may be good.
    pub(super) fn is_release(&self, bytes: &[u8]) -> Result<(), Fault> {
        let got = digest(bytes);
        if got == self.release {
            return Ok(());
        }
        let (got, want) = (got.short(), self.release.short());
        let words = format!("the bytes that came are of release {got}, not {want}: they were changed or cut");
        Err(Fault::new(words, Until::Connection))
    }

    /// Checks everything else.
    pub(super) fn vet_content(&self, bytes: &[u8], signature: Option<&[u8]>) -> Result<Loaded, Fault> {
        let ring = |words| Fault::new(words, Until::Ring);
        self.gate.check(self.release, signature, self.origin).map_err(ring)?;
        let head = Loaded::read(bytes, &self.path).map_err(unusable)?;
        self.fits(&head)?;
        Loaded::tested(head, &self.path, self.budget).map_err(unusable)
    }

    fn fits(&self, head: &Head) -> Result<(), Fault> {
        let manifest = head.manifest();
        if let Some(want) = self.head.as_ref().filter(|want| **want != manifest.name) {
            let words = format!("its manifest names it {}, the channel is for {want}", manifest.name);
            return Err(Fault::new(words, Until::Another));
        }
        if self.origin == Origin::Wire && manifest.uplink != self.uplink {
            let words = format!(
                "it was trained on frames sent as {}, this agent sends {}: set [uplink], or train it on such frames",
                manifest.uplink, self.uplink
            );
            return Err(Fault::new(words, Until::Another));
        }
        let Some(terms) = &self.terms else { return Ok(()) };
        // Another encoder may give what this one does not.
        let other = |words: String| Err(Fault::new(words, Until::Connection));
        if let Err(mismatch) = head.check_space(&terms.space) {
            return other(mismatch.to_string());
        }
        match (manifest.input.grid, terms.grid) {
            (None, _) if manifest.input.dim != terms.embed_dim => other(format!(
                "it reads embeddings of {} numbers, the encoder gives {}",
                manifest.input.dim, terms.embed_dim
            )),
            (Some(_), None) => {
                other("it reads the latent-token grid, which this encoder does not give".into())
            }
            (Some(want), Some(got)) if (want.rows, want.cols, want.dim) != (got.rows, got.cols, got.dim) => {
                let want = format!("{}x{}x{}", want.rows, want.cols, want.dim);
                other(format!(
                    "it reads a grid of {want}, the encoder gives {}x{}x{}",
                    got.rows, got.cols, got.dim
                ))
            }
            _ => Ok(()),
        }
    }
}

fn unusable(error: HeadsError) -> Fault {
    Fault::new(error.to_string(), Until::Another)
}
