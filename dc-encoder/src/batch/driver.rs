//! The thread that owns the device: takes batches from the pipeline until it ends.
//!
//! Failures: a batch on which the backend returns an error or panics is answered "internal", frame by frame,
//! and logged; the next batch is tried. After [`MAX_FAILURES_IN_A_ROW`] such batches the device counts as
//! beyond use: the pipeline fails, everything is answered "internal", and the server ends with an error, so
//! that agents move on to another encoder and a service manager can start a fresh process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::image::Rgb;
use shared::patches::Choice;

use super::policy::Entry;
use super::{Pipeline, Ready};
use crate::backend::{Backend, BackendError, Partial};

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
    let flops = backend.info().flops;
    let mut failures = 0;
    while let Some(batch) = pipeline.next_batch(max_batch) {
        let (frames, started) = (batch.len(), Instant::now());
        match encode(backend, batch, flops) {
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

/// Encodes a batch and answers each of its frames: whole ones together, and those of which patches are known together.
/// Each frame's account is charged with its operations, and with its share of the time.
fn encode(backend: &mut dyn Backend, mut batch: Vec<Entry<Ready>>, flops: u64) -> Result<(), String> {
    let started = Instant::now();
    batch.iter_mut().for_each(|entry| entry.item.started(started));
    let (partial, whole): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|entry| entry.item).partition(|item| item.patches.is_some());
    let whole = if whole.is_empty() { Ok(()) } else { encode_whole(backend, whole, flops) };
    let partial = if partial.is_empty() { Ok(()) } else { encode_partial(backend, partial) };
    whole.and(partial)
}

/// Frames with and without tokens share a batch: tokens are made for all when one frame wants them, and given to those
/// that do.
fn encode_whole(backend: &mut dyn Backend, batch: Vec<Ready>, flops: u64) -> Result<(), String> {
    let started = Instant::now();
    let tokens = batch.iter().any(|item| item.tokens);
    let images: Vec<Arc<Rgb>> = batch.iter().map(|item| Arc::clone(&item.rgb)).collect();
    let result = caught(images.len(), || backend.encode(&images, tokens));
    let took = started.elapsed();
    let size = batch.len();
    charge(&batch, took, |_| flops);
    match result {
        Ok(all) => {
            for (item, mut encoded) in batch.into_iter().zip(all) {
                encoded.tokens = encoded.tokens.filter(|_| item.tokens);
                item.answer(encoded, size, took);
            }
            Ok(())
        }
        Err(why) => {
            batch.into_iter().for_each(|item| item.fail(&why));
            Err(why)
        }
    }
}

fn encode_partial(backend: &mut dyn Backend, batch: Vec<Ready>) -> Result<(), String> {
    let started = Instant::now();
    let frames: Vec<Partial> = batch.iter().filter_map(Ready::partial).collect();
    let result = caught(batch.len(), || backend.encode_partial(&frames));
    let (took, size) = (started.elapsed(), batch.len());
    charge(&batch, took, |item| backend.partial_flops(item.patches.as_ref().map_or(0, Choice::len)));
    match result {
        Ok(all) => {
            for ((item, tokens), Partial { choice, .. }) in batch.into_iter().zip(all).zip(frames) {
                item.answer_partial(tokens, choice, size, took);
            }
            Ok(())
        }
        Err(why) => {
            batch.into_iter().for_each(|item| item.fail(&why));
            Err(why)
        }
    }
}

/// Puts a batch on its cameras' accounts: each frame's operations, and the same share of the time.
fn charge(batch: &[Ready], took: Duration, flops: impl Fn(&Ready) -> u64) {
    let all: u64 = batch.iter().map(&flops).sum();
    for item in batch {
        let flops = flops(item);
        item.account.encoded(flops, took.mul_f64(flops as f64 / all.max(1) as f64));
    }
}

/// One answer for each of `count` frames, or why not.
fn caught<T>(count: usize, encode: impl FnOnce() -> Result<Vec<T>, BackendError>) -> Result<Vec<T>, String> {
    // A backend that panicked may be left half-way, as after an error: it is asked again only so many times.
    let all = catch_unwind(AssertUnwindSafe(encode))
        .map_err(|panic| format!("the encoder panicked: {}", panic_message(panic.as_ref())))?
        .map_err(|error| error.to_string())?;
    if all.len() != count {
        return Err(format!("the encoder gave {} answers for {count} frames", all.len()));
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
