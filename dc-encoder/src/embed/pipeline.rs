//! Decoding in parallel while the model runs.
//!
//! One thread prepares the next batch (its frames in parallel) while this one encodes the batch before; a third
//! waits between them at most. Batches begin at multiples of the batch size in the list, wherever a run starts.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use half::f16;
use protocol::InputSize;
use rayon::prelude::*;
use shared::frames::FrameRef;
use shared::image::Rgb;
use shared::patches::{Choice, Policy};

use super::Preparation;
use super::part::{Part, Record};
use super::plan::Plan;
use super::replay::Replay;
use super::{Config, EmbedError, Event};
use crate::backend::{Backend, BackendError, BackendInfo, Encoded, Memory, Partial, Patches};

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
type Prepared = Vec<Result<Input, String>>;

/// What reaches the encoder of a frame.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) frame: Arc<Rgb>,
    /// The patches that are known, if not all.
    pub(super) choice: Option<Choice>,
    /// Length of the JPEG.
    pub(super) bytes: usize,
}

/// What a run would have sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    patches: usize,
    of: usize,
}

impl Sent {
    fn add(&mut self, input: &Input) {
        self.bytes += input.bytes as u64;
        let (patches, of) = input.choice.as_ref().map_or((1, 1), |choice| (choice.len(), choice.grid()));
        self.patches += patches;
        self.of += of;
    }

    /// Patches sent, as a share of all.
    pub(super) fn kept(&self) -> f64 {
        self.patches as f64 / self.of.max(1) as f64
    }
}

/// Prepares batch after batch until nobody takes them any more.
fn prepare(
    pool: &rayon::ThreadPool,
    (preparation, mut replay): (Preparation, Option<Replay>),
    frames: &[FrameRef],
    batch: usize,
    sender: &SyncSender<Prepared>,
) {
    for chunk in frames.chunks(batch) {
        let prepared = match &mut replay {
            None => pool.install(|| chunk.par_iter().map(|frame| whole(&preparation, frame)).collect()),
            Some(replay) => {
                let captured: Vec<Result<Rgb, String>> = pool
                    .install(|| chunk.par_iter().map(|frame| preparation.captured(&frame.path)).collect());
                captured.into_iter().map(|frame| replay.next(&frame?)).collect()
            }
        };
        if sender.send(prepared).is_err() {
            return;
        }
    }
}

fn whole(preparation: &Preparation, frame: &FrameRef) -> Result<Input, String> {
    let (frame, bytes) = preparation.received(&frame.path)?;
    Ok(Input { frame, choice: None, bytes })
}

impl Work<'_> {
    /// Embeds the frames that the part file does not hold yet; what they take on the wire.
    ///
    /// With patches, those that it holds pass, too: what is known of the camera's picture is made of all of them.
    pub(super) fn run(mut self, backend: &mut dyn Backend) -> Result<Sent, EmbedError> {
        let read = |source| EmbedError::Read { path: self.part.path().into(), source };
        let done = self.part.done().map_err(read)?;
        self.refuse_bad(done)?;
        self.report(done);
        let preparation = Preparation {
            uplink: self.config.uplink,
            limits: self.config.limits,
            input: backend.info().input,
        };
        let info = backend.info();
        let replay = self.replay(&info)?;
        let memory = replay.as_ref().and_then(|_| Memory::new(&info));
        let threads = self.config.threads.unwrap_or(0); // 0: one a processor
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("decode-{index}"));
        let pool = pool.build().map_err(|error| EmbedError::Threads { threads, source: error.into() })?;
        let first = if replay.is_some() { 0 } else { done };
        let (frames, batch) = (&self.frames[first..], self.plan.batch);
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING_BATCHES);
            scope.spawn(move || prepare(&pool, (preparation, replay), frames, batch, &sender));
            self.encode((first, done), &receiver, (backend, memory))
        })
    }

    /// The frames' way as patches, if the uplink sends those.
    fn replay(&self, info: &BackendInfo) -> Result<Option<Replay>, EmbedError> {
        let uplink = &self.config.uplink;
        if uplink.patches == Policy::All {
            return Ok(None);
        }
        let Some(Patches { side, .. }) = info.patches else {
            return Err(EmbedError::WholeFrames { device: info.device.clone() });
        };
        let pairs = self.frames.iter().zip(&self.frames[1.min(self.frames.len())..]);
        if let Some((_, late)) = pairs.into_iter().find(|(a, b)| b.captured_at < a.captured_at) {
            return Err(EmbedError::Order { file: late.id.clone() });
        }
        let (height, width) = info.input;
        let input = InputSize { width: width as u32, height: height as u32 };
        let geometry = shared::patches::geometry(input, side as u32)?;
        Ok(Some(Replay::new(uplink, geometry, self.config.limits)))
    }

    /// Encodes the batches, which begin at frame `done`, and keeps what the part file does not hold from frame `kept` on.
    fn encode(
        &mut self,
        (mut done, kept): (usize, usize),
        batches: &Receiver<Prepared>,
        (backend, mut memory): (&mut dyn Backend, Option<Memory>),
    ) -> Result<Sent, EmbedError> {
        let mut sent = Sent::default();
        for prepared in batches {
            if let Some((offset, reason)) = first_bad(&prepared).filter(|_| !self.config.skip_bad) {
                return Err(self.bad_frame(done + offset, reason, done));
            }
            prepared.iter().flatten().for_each(|input| sent.add(input));
            let count = prepared.len();
            let encoded = match &mut memory {
                None => self.encode_whole(&prepared, backend),
                Some(memory) => self.encode_partial(&prepared, (backend, memory), done),
            };
            let failed =
                |source: BackendError| EmbedError::Backend { first: done, count, source: source.into() };
            let records = self.records(prepared, encoded.map_err(failed)?)?;
            if done >= kept {
                self.part.append(done, &records)?;
            }
            done += count;
            self.report(done);
        }
        Ok(sent)
    }

    fn encode_whole(
        &self,
        batch: &Prepared,
        backend: &mut dyn Backend,
    ) -> Result<Vec<Encoded>, BackendError> {
        let frames: Vec<Arc<Rgb>> = batch.iter().flatten().map(|input| Arc::clone(&input.frame)).collect();
        if frames.is_empty() { Ok(Vec::new()) } else { backend.encode(&frames, self.config.tokens) }
    }

    /// Whole pictures, of the patches of these frames (the first is frame `first`) and of those before.
    fn encode_partial(
        &self,
        batch: &Prepared,
        (backend, memory): (&mut dyn Backend, &mut Memory),
        first: usize,
    ) -> Result<Vec<Encoded>, BackendError> {
        let partial = |input: &Input| {
            let frame = Arc::clone(&input.frame);
            input.choice.clone().map(|choice| Partial { frame, choice })
        };
        let frames: Vec<Partial> = batch.iter().flatten().filter_map(partial).collect();
        let all = backend.encode_partial(&frames)?;
        let picture = |(number, (Partial { choice, .. }, tokens)): (usize, (&Partial, Vec<f32>))| {
            memory.remember((first + number) as u64, choice, &tokens);
            let tokens = self.config.tokens.then(|| memory.tokens().to_vec());
            Encoded { embedding: memory.embedding(), tokens }
        };
        Ok(frames.iter().zip(all).enumerate().map(picture).collect())
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
        let mut record = |frame: Result<Input, String>| match frame {
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
