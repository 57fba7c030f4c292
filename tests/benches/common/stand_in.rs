//! An encoder for benches of what is around one: the same embedding for every frame.

use std::sync::Arc;
use std::time::Duration;

use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded};
use protocol::SpaceId;
use shared::image::Rgb;

/// The space of its embeddings.
pub(crate) const SPACE: SpaceId = SpaceId([7; 32]);

/// Answers every frame with zeros, after a while.
pub(crate) struct StandIn {
    /// Numbers in an embedding.
    pub(crate) dim: usize,
    /// Height and width of the frames it takes, pixels.
    pub(crate) input: (usize, usize),
    pub(crate) max_batch: usize,
    /// How long it takes for a batch.
    pub(crate) encode: Duration,
}

impl Backend for StandIn {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            device: "none".into(),
            path: "stand-in".into(),
            reason: String::new(),
            model: "stand-in".into(),
            note: "random weights".into(),
            space: SPACE,
            embed_dim: self.dim,
            grid: (0, 0, 0),
            cells: 1,
            input: self.input,
            patches: None,
            max_batch: self.max_batch,
            flops: 0,
        }
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], _: bool) -> Result<Vec<Encoded>, BackendError> {
        std::thread::sleep(self.encode);
        Ok(batch.iter().map(|_| Encoded { embedding: vec![0.0; self.dim], tokens: None }).collect())
    }
}
