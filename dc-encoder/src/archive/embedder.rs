//! Frames of the archive through an encoder, as a camera's pass through it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protocol::SpaceId;
use rayon::prelude::*;
use shared::image::{Limits, Rgb};
use shared::uplink::Uplink;

use super::Embedding;
use crate::backend::{self, Backend, BackendError, BackendInfo, Choice, OpenError};
use crate::embed::Preparation;

/// An encoder, and what frames pass through before it.
pub struct Embedder {
    backend: Box<dyn Backend>,
    preparation: Preparation,
    space: SpaceId,
    batch: usize,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedder({})", self.space)
    }
}

impl Embedder {
    /// Opens a model folder.
    ///
    /// # Errors
    /// A model or device that cannot be used.
    pub fn open(model: &Path, choice: Choice) -> Result<Self, OpenError> {
        Ok(Self::new(backend::open(model, choice)?))
    }

    /// With a backend that is open.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        let BackendInfo { input, space, max_batch, .. } = backend.info();
        let preparation = Preparation { uplink: Uplink::default(), limits: Limits::default(), input };
        Self { backend, preparation, space, batch: max_batch.max(1) }
    }

    /// What is known about the encoder.
    pub fn info(&self) -> BackendInfo {
        self.backend.info()
    }

    /// The space of what it says.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// One embedding a frame; none of a frame that cannot be decoded, with the reason in the log.
    ///
    /// # Errors
    /// A device that fails.
    pub fn embed(&mut self, jpegs: &[Bytes]) -> Result<Vec<Option<Embedding>>, BackendError> {
        let prepare = |jpeg: &Bytes| match self.preparation.prepare_jpeg(jpeg.to_vec()) {
            Ok(frame) => Some(frame),
            Err(why) => {
                tracing::warn!(why, "a frame has no embedding");
                None
            }
        };
        let prepared: Vec<Option<Arc<Rgb>>> = jpegs.par_iter().map(prepare).collect();
        let frames: Vec<Arc<Rgb>> = prepared.iter().flatten().cloned().collect();
        let mut encoded = Vec::with_capacity(frames.len());
        for batch in frames.chunks(self.batch) {
            encoded.extend(self.backend.encode(batch, false)?);
        }
        let mut encoded = encoded.into_iter().map(|it| Embedding { space: self.space, values: it.embedding });
        Ok(prepared.iter().map(|it| it.as_ref().and_then(|_| encoded.next())).collect())
    }
}
