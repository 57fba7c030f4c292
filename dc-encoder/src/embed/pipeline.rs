//! Decoding in parallel while the model runs.
//!
//! One thread prepares the next batch (its frames in parallel) while this one encodes the batch before; a third
//! waits between them at most. Batches begin at multiples of the batch size in the list, wherever a run starts.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use half::f16;
use rayon::prelude::*;
use shared::frames::FrameRef;
use shared::image::Rgb;

use super::Preparation;
use super::part::{Part, Record};
use super::plan::Plan;
use super::{Config, EmbedError, Event};
use crate::backend::{Backend, Encoded};

/// Batches that wait between decoding and encoding.
const WAITING_BATCHES: usize = 1;

/// What is to be done, and where to.
pub(super) struct Work<'a> {
    pub(super) config: &'a Config,
    pub(super) frames: &'a [FrameRef],
    pub(super) plan: Plan,
    pub(super) part: &'a mut Part,
    pub(super) watch: &'a mut dyn FnMut(Event),
}

/// The inputs of one batch, or why a frame has none.
type Prepared = Vec<Result<Arc<Rgb>, String>>;

/// Prepares batch after batch until nobody takes them any more.
fn prepare(
    pool: &rayon::ThreadPool,
    preparation: Preparation,
    frames: &[FrameRef],
    batch: usize,
    sender: &SyncSender<Prepared>,
) {
    for chunk in frames.chunks(batch) {
        let prepared =
            pool.install(|| chunk.par_iter().map(|frame| preparation.prepare(&frame.path)).collect());
        if sender.send(prepared).is_err() {
            return;
        }
    }
}

impl Work<'_> {
    /// Embeds the frames that the part file does not hold yet.
    pub(super) fn run(mut self, backend: &mut dyn Backend) -> Result<(), EmbedError> {
        let read = |source| EmbedError::Read { path: self.part.path().into(), source };
        let done = self.part.done().map_err(read)?;
        self.refuse_bad(done)?;
        self.report(done);
        let preparation = Preparation {
            uplink: self.config.uplink,
            limits: self.config.limits,
            input: backend.info().input,
        };
        let threads = self.config.threads.unwrap_or(0); // 0: one a processor
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("decode-{index}"));
        let pool = pool.build().map_err(|error| EmbedError::Threads { threads, source: error.into() })?;
        let (frames, batch) = (&self.frames[done..], self.plan.batch);
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING_BATCHES);
            scope.spawn(move || prepare(&pool, preparation, frames, batch, &sender));
            self.encode(done, &receiver, backend)
        })
    }

    fn encode(
        &mut self,
        mut done: usize,
        batches: &Receiver<Prepared>,
        backend: &mut dyn Backend,
    ) -> Result<(), EmbedError> {
        for prepared in batches {
            if let Some((offset, reason)) = first_bad(&prepared).filter(|_| !self.config.skip_bad) {
                return Err(self.bad_frame(done + offset, reason, done));
            }
            let inputs: Vec<Arc<Rgb>> = prepared.iter().flatten().cloned().collect();
            let count = prepared.len();
            let encoded = if inputs.is_empty() {
                Vec::new()
            } else {
                backend.encode(&inputs, self.config.tokens).map_err(|source| EmbedError::Backend {
                    first: done,
                    count,
                    source: source.into(),
                })?
            };
            let records = self.records(prepared, encoded)?;
            self.part.append(done, &records)?;
            done += count;
            self.report(done);
        }
        Ok(())
    }

    fn report(&mut self, done: usize) {
        (self.watch)(Event::Done { done, total: self.plan.frames, skipped: self.part.bad().len() });
    }

    /// One record a frame, in the list's order.
    fn records(&self, prepared: Prepared, encoded: Vec<Encoded>) -> Result<Vec<Record>, EmbedError> {
        let good = prepared.iter().filter(|frame| frame.is_ok()).count();
        if encoded.len() != good {
            let (expected, got) = (format!("{good} embeddings"), encoded.len().to_string());
            return Err(EmbedError::Answer { expected, got });
        }
        let mut encoded = encoded.into_iter();
        let mut record = |frame: Result<Arc<Rgb>, String>| match frame {
            Err(reason) => Ok(Record::Bad(reason)),
            Ok(_) => self.values(&encoded.next().expect("counted above")).map(Record::Embedded),
        };
        prepared.into_iter().map(&mut record).collect()
    }

    fn values(&self, encoded: &Encoded) -> Result<Vec<u8>, EmbedError> {
        let tokens = if self.config.tokens { encoded.tokens.as_deref().unwrap_or_default() } else { &[] };
        let (dim, token_values) = (self.plan.dim, self.plan.token_values());
        if encoded.embedding.len() != dim || tokens.len() != token_values {
            return Err(EmbedError::Answer {
                expected: format!("{dim} numbers and {token_values} of tokens"),
                got: format!("{} and {}", encoded.embedding.len(), tokens.len()),
            });
        }
        let mut bytes = Vec::with_capacity(dim * 4 + token_values * 2);
        bytes.extend(encoded.embedding.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(tokens.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()));
        Ok(bytes)
    }

    /// An earlier run with --skip-bad may be continued without it, unless it did leave frames out.
    fn refuse_bad(&self, done: usize) -> Result<(), EmbedError> {
        match self.part.bad().first() {
            Some((index, reason)) if !self.config.skip_bad => Err(self.bad_frame(*index, reason, done)),
            _ => Ok(()),
        }
    }

    fn bad_frame(&self, index: usize, reason: &str, done: usize) -> EmbedError {
        EmbedError::BadFrame {
            file: self.frames[index].id.clone(),
            reason: reason.into(),
            done,
            total: self.plan.frames,
            part: self.part.path().into(),
        }
    }
}

/// The first frame of a batch that cannot be used: its place and why.
fn first_bad(prepared: &Prepared) -> Option<(usize, &str)> {
    prepared.iter().enumerate().find_map(|(offset, frame)| Some((offset, frame.as_ref().err()?.as_str())))
}
