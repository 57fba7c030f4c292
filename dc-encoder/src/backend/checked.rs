//! What every backend does around its own work on a batch, and how large a batch may be.

use std::sync::Arc;

use shared::image::Rgb;

use super::{BackendError, BackendInfo, Encoded};

/// Most frames worth giving at once to the processor: beyond this the time a frame no longer falls.
pub(super) const CPU_BATCH: usize = 8;
/// Most frames worth giving at once to a GPU.
pub(super) const GPU_BATCH: usize = 64;
/// Tokens in the largest batch: long sequences take smaller batches, so that memory stays bounded.
pub(super) const MAX_BATCH_TOKENS: usize = 16_384;

/// Encodes a batch with `run`, which sees only frames of the model's size and whose embeddings must be finite.
///
/// # Errors
/// [`BackendError`]; what `run` says is the device's failure.
pub(super) fn encode<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    info: &BackendInfo,
    batch: &[Arc<Rgb>],
    run: impl FnOnce() -> Result<Vec<Encoded>, E>,
) -> Result<Vec<Encoded>, BackendError> {
    check_sizes(batch, info.input)?;
    let failed = |error: E| BackendError::Device {
        device: info.device.clone(),
        batch: batch.len(),
        source: error.into(),
    };
    let encoded = run().map_err(failed)?;
    let broken = |encoded: &Encoded| encoded.embedding.iter().any(|value| !value.is_finite());
    match encoded.iter().position(broken) {
        Some(index) => Err(BackendError::NotFinite { index }),
        None => Ok(encoded),
    }
}

fn check_sizes(batch: &[Arc<Rgb>], input: (usize, usize)) -> Result<(), BackendError> {
    let (height, width) = (input.0 as u32, input.1 as u32);
    match batch.iter().enumerate().find(|(_, frame)| (frame.width, frame.height) != (width, height)) {
        None => Ok(()),
        Some((index, frame)) => {
            let (got_width, got_height) = (frame.width, frame.height);
            Err(BackendError::FrameSize { index, got_width, got_height, width, height })
        }
    }
}
