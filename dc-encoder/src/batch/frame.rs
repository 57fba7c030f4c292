//! A frame on its way through the pipeline, and what may become of it.
//!
//! ```text
//! Frame ─► Waiting ─(decoded)─► Ready ─(batch)─► Outcome
//!             └─────── dropped, rejected ──────────┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{DropReason, RejectCode};
use shared::image::Rgb;
use shared::patches::Choice;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::policy::CameraKey;
use crate::backend::{Encoded, Partial};
use crate::ledger::Account;

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    /// Whose it is.
    pub camera: CameraKey,
    /// How many of its frames make a turn.
    pub weight: u16,
    /// The camera's sequence number.
    pub seq: u64,
    /// The bytes as received.
    pub jpeg: Vec<u8>,
    /// The patches that the bytes hold, if they are not a whole frame.
    pub patches: Option<Choice>,
    /// Whether latent tokens are wanted.
    pub tokens: bool,
    /// From here on nobody wants the answer.
    pub deadline: Instant,
    /// Whose account it goes on.
    pub account: Arc<Account>,
    /// The frame's share of the memory budget, given back together with `jpeg`.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// Where a frame's time went in the pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting, for a decoder and for a place in a batch.
    pub queue: Duration,
    /// JPEG to the model's input.
    pub decode: Duration,
    /// The batch on the device.
    pub encode: Duration,
}

/// Why a frame can never be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// For the program.
    pub code: RejectCode,
    /// For the person.
    pub message: String,
}

/// What became of a frame; sent exactly once.
#[derive(Debug)]
pub enum Outcome {
    /// Encoded.
    Encoded {
        /// Embedding, and latent tokens if they were wanted.
        encoded: Encoded,
        /// Frames in the batch, this one included.
        batch: usize,
        /// Where the time went.
        timings: Timings,
    },
    /// The patches that were sent are encoded.
    Partial {
        /// Latent tokens of these patches, `[patches, latent_dim]`.
        tokens: Vec<f32>,
        /// Which they are.
        choice: Choice,
        /// Frames in the batch, this one included.
        batch: usize,
        /// Where the time went.
        timings: Timings,
    },
    /// In order, but not encoded.
    Dropped(DropReason, Timings),
    /// Not in order, or the encoder failed.
    Rejected(Rejection),
}

/// A frame that waits for a decode worker.
#[derive(Debug)]
pub struct Waiting {
    /// The bytes as received.
    pub jpeg: Vec<u8>,
    /// The patches that they hold, if they are not a whole frame.
    pub patches: Option<Choice>,
    pub(super) tokens: bool,
    pub(super) account: Arc<Account>,
    pub(super) submitted: Instant,
    pub(super) reply: oneshot::Sender<Outcome>,
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

/// A decoded frame that waits for the device, or is on it.
#[derive(Debug)]
pub struct Ready {
    /// The model's input size, RGB.
    pub rgb: Arc<Rgb>,
    /// The patches that are known of it, if not all.
    pub patches: Option<Choice>,
    /// Whether latent tokens are wanted.
    pub tokens: bool,
    pub(super) account: Arc<Account>,
    pub(super) since: Instant,
    pub(super) timings: Timings,
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl Ready {
    /// As what the backend takes, if it is not a whole frame.
    pub(super) fn partial(&self) -> Option<Partial> {
        self.patches.clone().map(|choice| Partial { frame: Arc::clone(&self.rgb), choice })
    }

    /// Counts the time up to `now` as waiting.
    pub(super) fn started(&mut self, now: Instant) {
        self.timings.queue += now.saturating_duration_since(self.since);
    }

    /// Its patches were encoded, in a batch of `batch` frames that took `encode`.
    pub(super) fn answer_partial(self, tokens: Vec<f32>, choice: Choice, batch: usize, encode: Duration) {
        let timings = Timings { encode, ..self.timings };
        settle(self.reply, Outcome::Partial { tokens, choice, batch, timings });
    }

    /// The frame was encoded, in a batch of `batch` frames that took `encode`.
    pub(super) fn answer(self, encoded: Encoded, batch: usize, encode: Duration) {
        let timings = Timings { encode, ..self.timings };
        settle(self.reply, Outcome::Encoded { encoded, batch, timings });
    }

    /// The device failed on the frame.
    pub(super) fn fail(self, why: &str) {
        settle(self.reply, Outcome::Rejected(internal(why)));
    }
}

/// An [`RejectCode::Internal`] rejection.
pub(crate) fn internal(message: &str) -> Rejection {
    Rejection { code: RejectCode::Internal, message: message.to_owned() }
}

/// A camera that went away meanwhile has no ear for the outcome: nothing to do about it.
pub(super) fn settle(reply: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _ = reply.send(outcome);
}

/// What a frame that leaves undecoded has spent.
pub(super) fn waited(now: Instant, since: Instant) -> Timings {
    Timings { queue: now.saturating_duration_since(since), ..Timings::default() }
}
