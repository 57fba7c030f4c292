//! A frame on its way in: what it may take, and what comes of it once it is all here.
//!
//! ```text
//! header ─► Claim: checks, places in flight, memory ─► (JPEG) ─► Received ─► pipeline ─► reply
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use protocol::{DropReason, FrameHeader, FrameReplyMsg, RejectCode};
use shared::patches::Choice;
use shared::wire::WireError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;

use super::frame::{Ending, Shared};
use super::reply::{dropped, reply};
use super::{Context, unix_us};
use crate::archive::{Embedding, Incoming, Skipped, Tap};
use crate::backend::Encoded;
use crate::batch::{Frame, Outcome, Rejection, Ticket};

/// A frame that may come: its places in flight, and memory for its JPEG.
pub(super) struct Claim {
    header: FrameHeader,
    patches: Option<Choice>,
    started: Instant,
    /// When the header arrived, by the wall clock, microseconds.
    arrived_us: u64,
    /// Among the session's frames, and among all sessions'.
    places: [OwnedSemaphorePermit; 2],
    memory: OwnedSemaphorePermit,
}

impl Claim {
    /// Both are bounds on memory; an agent within its limits gets the first at once.
    pub(super) async fn new(
        header: FrameHeader,
        shared: &Shared,
        by: tokio::time::Instant,
    ) -> Result<Self, FrameReplyMsg> {
        let (context, started, arrived_us) = (shared.context(), Instant::now(), unix_us());
        if let Some(reply) = refuse(&header, context) {
            return Err(reply);
        }
        let patches = shared
            .picture
            .chosen(&header)
            .map_err(|Rejection { code, message }| FrameReplyMsg::rejected(header.seq, code, &message))?;
        let overloaded = || dropped(header.seq, DropReason::Overloaded, started);
        let admitted = shared.admit(&header, started).map_err(|_| overloaded())?;
        let place = timeout_at(by, Arc::clone(&shared.in_flight).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(overloaded()) };
        let memory = timeout_at(by, reserve(context, header.jpeg_len)).await;
        let Ok(Some(memory)) = memory else { return Err(overloaded()) };
        Ok(Self { header, patches, started, arrived_us, places: [place, admitted], memory })
    }

    /// The frame, with what was read as its JPEG.
    pub(super) fn filled(
        self,
        body: Result<Result<Vec<u8>, WireError>, Elapsed>,
        shared: &Shared,
    ) -> Result<Received, Ending> {
        let Self { header, patches, started, arrived_us, places, memory } = self;
        let context = shared.context();
        let jpeg = match body {
            Ok(Ok(jpeg)) => jpeg,
            Ok(Err(error)) if error.is_malformed() => return Err(cut_short(&header, &error).into()),
            Ok(Err(_)) => return Err(Ending::Withdrawn),
            Err(_) => return Err(too_slow(&header, context.timeouts.receive).into()),
        };
        let receive = started.elapsed();
        context.metrics.jpeg(jpeg.len());
        let deadline = started + useful_for(&header, context.timeouts.frame);
        let frame = Frame {
            camera: shared.camera,
            weight: shared.weight,
            seq: header.seq,
            jpeg,
            patches,
            tokens: header.tokens.is_some(),
            deadline,
            account: Arc::clone(&shared.account),
            memory: Some(memory),
        };
        Ok(Received { header, frame, deadline, received: (arrived_us, receive), _places: places })
    }
}

/// A frame that is all here.
pub(super) struct Received {
    header: FrameHeader,
    frame: Frame,
    deadline: Instant,
    /// When the header arrived, and from then to the last byte.
    received: (u64, Duration),
    _places: [OwnedSemaphorePermit; 2],
}

impl Received {
    /// What comes of it.
    pub(super) async fn encoded(self, shared: &Shared) -> FrameReplyMsg {
        let context = shared.context();
        let sample = self.sample(shared);
        let outcome = settle(context.pipeline.submit(self.frame), self.deadline, context).await;
        if let (Some(jpeg), Some(tap)) = (sample, &context.archive) {
            match &outcome {
                Outcome::Encoded { encoded, .. } => {
                    keep(tap, shared.name(), (&self.header, jpeg, encoded), context);
                }
                _ => tap.skip(Skipped::Unanswered),
            }
        }
        reply(&self.header, self.received, outcome, shared)
    }

    /// A copy of a whole frame that the archive wants.
    fn sample(&self, shared: &Shared) -> Option<Bytes> {
        let tap = shared.context().archive.as_ref()?;
        if !tap.wants(shared.name(), Instant::now()) {
            return None;
        }
        if self.frame.patches.is_some() {
            tap.skip(Skipped::Patches);
            return None;
        }
        Some(Bytes::copy_from_slice(&self.frame.jpeg))
    }

    /// It came after the server began to drain.
    pub(super) fn too_late(self) -> FrameReplyMsg {
        dropped(self.header.seq, DropReason::Draining, Instant::now())
    }
}

/// How far an agent's clock is taken to be off, in milliseconds: boxes synchronise theirs.
const CLOCK_MS: u64 = 1000;

/// Hands an answered frame to the archive, with its embedding.
fn keep(
    tap: &Tap,
    camera: &str,
    (header, jpeg, encoded): (&FrameHeader, Bytes, &Encoded),
    context: &Context,
) {
    let Ok(captured_at) = Timestamp::from_microsecond(header.captured_at_us) else {
        return tap.skip(Skipped::Failed); // no clock shows that time
    };
    let embedding = Embedding { space: context.welcome.space, values: encoded.embedding.clone() };
    tap.offer(camera, Instant::now(), |sampling| Incoming {
        camera: camera.to_owned(),
        captured_at,
        zone: sampling.zone(camera),
        uncertainty_ms: CLOCK_MS,
        source: "agent".to_owned(),
        jpeg,
        embedding: Some(embedding),
    });
}

/// What the header alone rules out, before anything is read or allocated.
fn refuse(header: &FrameHeader, context: &Context) -> Option<FrameReplyMsg> {
    let FrameHeader { seq, jpeg_len, .. } = *header;
    let max = context.welcome.limits.max_frame_bytes;
    if jpeg_len > max {
        let why =
            format!("the frame is {jpeg_len} bytes, the limit is {max}; lower its size or JPEG quality");
        return Some(FrameReplyMsg::rejected(seq, RejectCode::TooLarge, &why));
    }
    if header.tokens.is_some() && context.welcome.grid.is_none() {
        let why = "this encoder gives no latent tokens; use heads on the embedding";
        return Some(FrameReplyMsg::rejected(seq, RejectCode::TokensUnavailable, why));
    }
    None
}

/// Memory for the JPEG, out of what all sessions share.
async fn reserve(context: &Context, bytes: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(&context.memory).acquire_many_owned(bytes.div_ceil(1024)).await.ok()
}

fn cut_short(header: &FrameHeader, error: &WireError) -> FrameReplyMsg {
    let code = match error {
        WireError::Truncated { .. } | WireError::Ended => RejectCode::Truncated,
        _ => RejectCode::Malformed,
    };
    let why = format!("the header announced {} bytes: {error}", header.jpeg_len);
    FrameReplyMsg::rejected(header.seq, code, &why)
}

fn too_slow(header: &FrameHeader, within: Duration) -> FrameReplyMsg {
    let why = format!(
        "the {} bytes of the frame did not arrive within {}; send smaller frames or fewer",
        header.jpeg_len,
        humantime::format_duration(within)
    );
    FrameReplyMsg::rejected(header.seq, RejectCode::Truncated, &why)
}

/// How long after its header the frame is worth encoding: what the agent says, and never longer than `longest`.
fn useful_for(header: &FrameHeader, longest: Duration) -> Duration {
    match header.deadline_ms {
        0 => longest,
        ms => Duration::from_millis(ms.into()).min(longest),
    }
}

/// Waits for the outcome. The queues are looked at only when the device or a decoder is free: an expired frame
/// is told so in time by its own session.
async fn settle(mut ticket: Ticket, deadline: Instant, context: &Context) -> Outcome {
    if let Ok(outcome) = timeout_at(deadline.into(), ticket.outcome()).await {
        return outcome;
    }
    context.pipeline.expire(Instant::now());
    ticket.outcome().await
}
