//! The thread that owns the device: takes batches from the pipeline until it ends.
//!
//! Failures: a batch on which the backend returns an error or panics is answered "internal", frame by frame,
//! and logged; the next batch is tried. After [`MAX_FAILURES_IN_A_ROW`] such batches the device counts as
//! beyond use: the pipeline fails, everything is answered "internal", and the server ends with an error, so
//! that agents move on to another encoder and a service manager can start a fresh process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use shared::image::Rgb;

use super::policy::Entry;
use super::{Pipeline, Ready};
use crate::backend::{Backend, Encoded};

/// One odd batch happens; this many in a row are a lost device (CUDA errors, for one, never go away).
pub const MAX_FAILURES_IN_A_ROW: u32 = 8;

/// The driver thread and how it ended: `Err` says why the device counts as beyond use.
pub type Driver = JoinHandle<Result<(), String>>;

/// Starts the thread. It returns when the pipeline ends, after `on_end` was called.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    mut backend: Box<dyn Backend>,
    pipeline: Arc<Pipeline>,
    max_batch: usize,
    on_end: impl FnOnce() + Send + 'static,
) -> std::io::Result<Driver> {
    std::thread::Builder::new().name("device".to_owned()).spawn(move || {
        let ended = drive(backend.as_mut(), &pipeline, max_batch);
        if let Err(why) = &ended {
            pipeline.fail(why);
        }
        on_end();
        ended
    })
}

fn drive(backend: &mut dyn Backend, pipeline: &Pipeline, max_batch: usize) -> Result<(), String> {
    let mut failures = 0;
    while let Some(batch) = pipeline.next_batch(max_batch) {
        let (frames, started) = (batch.len(), Instant::now());
        match encode(backend, batch) {
            Ok(()) => {
                pipeline.encoded(frames, started.elapsed());
                failures = 0;
            }
            Err(why) => {
                failures += 1;
                tracing::error!(failures, "a batch failed: {why}");
                if failures >= MAX_FAILURES_IN_A_ROW {
                    return Err(format!("the encoder failed on {failures} batches in a row, last: {why}"));
                }
            }
        }
    }
    Ok(())
}

/// Encodes a batch and answers each of its frames. Frames with and without tokens share a batch: tokens are
/// made for all when one frame wants them, and given to those that do.
fn encode(backend: &mut dyn Backend, mut batch: Vec<Entry<Ready>>) -> Result<(), String> {
    let started = Instant::now();
    batch.iter_mut().for_each(|entry| entry.item.started(started));
    let tokens = batch.iter().any(|entry| entry.item.tokens);
    let images: Vec<Arc<Rgb>> = batch.iter().map(|entry| Arc::clone(&entry.item.rgb)).collect();
    let result = encode_caught(backend, &images, tokens);
    let took = started.elapsed();
    let size = batch.len();
    match result {
        Ok(all) => {
            for (Entry { item, .. }, mut encoded) in batch.into_iter().zip(all) {
                encoded.tokens = encoded.tokens.filter(|_| item.tokens);
                item.answer(encoded, size, took);
            }
            Ok(())
        }
        Err(why) => {
            batch.into_iter().for_each(|Entry { item, .. }| item.fail(&why));
            Err(why)
        }
    }
}

fn encode_caught(
    backend: &mut dyn Backend,
    images: &[Arc<Rgb>],
    tokens: bool,
) -> Result<Vec<Encoded>, String> {
    // A backend that panicked may be left half-way, as after an error: it is asked again only so many times.
    let all = catch_unwind(AssertUnwindSafe(|| backend.encode(images, tokens)))
        .map_err(|panic| format!("the encoder panicked: {}", panic_message(panic.as_ref())))?
        .map_err(|error| error.to_string())?;
    if all.len() != images.len() {
        return Err(format!("the encoder gave {} embeddings for {} frames", all.len(), images.len()));
    }
    Ok(all)
}

/// What was said in a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
