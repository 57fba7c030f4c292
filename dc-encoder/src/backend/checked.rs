//! What every backend does around its own work on a batch, and how large a batch may be.

use std::sync::Arc;

use shared::image::Rgb;

use super::{BackendError, BackendInfo, Encoded, Partial};

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
    check_sizes(batch.iter().map(Arc::as_ref), info.input)?;
    let encoded = run().map_err(|error| failed(info, batch.len(), error))?;
    let broken = |encoded: &Encoded| encoded.embedding.iter().any(|value| !value.is_finite());
    match encoded.iter().position(broken) {
        Some(index) => Err(BackendError::NotFinite { index }),
        None => Ok(encoded),
    }
}

/// Encodes partial frames with `run`, which sees batches of frames with as many patches.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_partial<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    info: &BackendInfo,
    batch: &[Partial],
    mut run: impl FnMut(&[&Partial]) -> Result<Vec<Vec<f32>>, E>,
) -> Result<Vec<Vec<f32>>, BackendError> {
    if info.patches.is_none() && !batch.is_empty() {
        return Err(BackendError::WholeFrames { device: info.device.clone() });
    }
    check_sizes(batch.iter().map(|partial| &*partial.frame), info.input)?;
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|index| batch[*index].choice.len());
    let mut all = vec![Vec::new(); batch.len()];
    for alike in order.chunk_by(|a, b| batch[*a].choice.len() == batch[*b].choice.len()) {
        let frames: Vec<&Partial> = alike.iter().map(|index| &batch[*index]).collect();
        let tokens = run(&frames).map_err(|error| failed(info, batch.len(), error))?;
        for (index, tokens) in alike.iter().zip(tokens) {
            if tokens.iter().any(|value| !value.is_finite()) {
                return Err(BackendError::NotFinite { index: *index });
            }
            all[*index] = tokens;
        }
    }
    Ok(all)
}

fn failed(
    info: &BackendInfo,
    batch: usize,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> BackendError {
    BackendError::Device { device: info.device.clone(), batch, source: error.into() }
}

fn check_sizes<'a>(
    mut batch: impl Iterator<Item = &'a Rgb>,
    input: (usize, usize),
) -> Result<(), BackendError> {
    let (height, width) = (input.0 as u32, input.1 as u32);
    match batch.by_ref().enumerate().find(|(_, frame)| (frame.width, frame.height) != (width, height)) {
        None => Ok(()),
        Some((index, frame)) => {
            let (got_width, got_height) = (frame.width, frame.height);
            Err(BackendError::FrameSize { index, got_width, got_height, width, height })
        }
    }
}
