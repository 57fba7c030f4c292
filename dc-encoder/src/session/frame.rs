//! One frame: header, JPEG, reply; on a stream of its own, or among others on one connection.
//!
//! ```text
//! read_header ─► Claim: checks, a place in flight, memory ─► JPEG ─► Received ─► pipeline ─► outcome ─► reply, delivered
//!    └─ no header in time: stream reset        └─ reset or stopped by the agent: frame cancelled, no reply
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::limits::{MAX_FRAME_HEADER_BYTES, MAX_REPLY_BYTES};
use protocol::{Answer, DropReason, FrameHeader, FrameReplyMsg, RejectCode, ServerTimings, close};
use quinn::{RecvStream, SendStream, VarInt};
use shared::embedding::{EmbeddingError, to_wire};
use shared::patches::Choice;
use shared::wire::{WireError, expect_end, expect_msg, read_exact_limited, write_msg};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{timeout, timeout_at};

use super::devices::Place;
use super::memory::Picture;
use super::rates::Over;
use super::{Context, unix_us};
use crate::backend::Encoded;
use crate::batch::{CameraKey, Frame, Outcome, Rejection, Ticket, Timings};
use crate::ledger::Account;
use crate::serve::metrics::WITHDRAWN;

/// The agent broke the protocol: its session ends with these words.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

/// What the frame streams of one session share.
#[derive(Debug)]
pub(super) struct Shared {
    context: Arc<Context>,
    camera: CameraKey,
    /// The camera's name.
    name: String,
    /// What its frames and bytes are put on.
    pub(super) account: Arc<Account>,
    /// Frames between their header and their reply.
    in_flight: Arc<Semaphore>,
    place: Place,
    /// A limit was exceeded before: said once.
    was_over: AtomicBool,
    /// What is known of the camera's picture.
    picture: Picture,
    tally: Tally,
}

/// What became of a session's frames, for the log.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
    withdrawn: AtomicU64,
}

impl Shared {
    pub(super) fn new(context: Arc<Context>, camera: CameraKey, name: &str, place: Place) -> Self {
        let in_flight = Arc::new(Semaphore::new(context.welcome.limits.max_in_flight.into()));
        let (name, was_over) = (name.to_owned(), AtomicBool::new(false));
        let (account, picture) = (context.ledger.account(&name), Picture::new(&context.backend));
        let tally = Tally::default();
        Self { context, camera, name, account, in_flight, place, was_over, picture, tally }
    }

    /// A place among all sessions' frames, if the camera and all together are within their rates.
    fn admit(&self, header: &FrameHeader, now: Instant) -> Result<OwnedSemaphorePermit, Over> {
        let admitted = Arc::clone(&self.context.in_flight).try_acquire_owned().map_err(|_| Over::InFlight);
        let admitted = admitted.and_then(|permit| self.place.admit(header.jpeg_len, now).map(|()| permit));
        admitted.inspect_err(|over| {
            self.context.metrics.over(*over);
            if !self.was_over.swap(true, Ordering::Relaxed) {
                let (camera, limit) = (&self.name, over.key());
                tracing::warn!(%camera, "more than limits.{limit}: frames beyond are dropped as overloaded");
            }
        })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn count(&self, ending: &Ending) {
        let counter = match ending {
            Ending::Reply(reply) => match **reply {
                FrameReplyMsg::Answer(_) => &self.tally.answered,
                FrameReplyMsg::Dropped { .. } => &self.tally.dropped,
                FrameReplyMsg::Rejected { .. } => &self.tally.rejected,
            },
            Ending::Malformed(_) => &self.tally.rejected,
            Ending::Withdrawn | Ending::Silent => &self.tally.withdrawn,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let metrics = &self.context.metrics;
        match ending {
            Ending::Reply(reply) => metrics.replied(reply),
            Ending::Malformed(_) => metrics.frame(RejectCode::Malformed.key()),
            Ending::Withdrawn | Ending::Silent => metrics.frame(WITHDRAWN),
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { answered, dropped, rejected, withdrawn } = &self.tally;
        let [answered, dropped, rejected, withdrawn] =
            [answered, dropped, rejected, withdrawn].map(|count| count.load(Ordering::Relaxed));
        write!(f, "{answered} frames answered, {dropped} dropped, {rejected} rejected, {withdrawn} withdrawn")
    }
}

/// How a frame ends.
pub(super) enum Ending {
    /// With a reply.
    Reply(Box<FrameReplyMsg>),
    /// Without: the agent withdrew the frame or went away.
    Withdrawn,
    /// Without: nobody knows which frame it was.
    Silent,
    /// With the session.
    Malformed(Malformed),
}

/// A frame that cannot reach the pipeline.
impl From<FrameReplyMsg> for Ending {
    fn from(reply: FrameReplyMsg) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// A stream that never said what it is for.
pub(super) fn abandon((mut send, mut recv): (SendStream, RecvStream), shared: &Shared) {
    let stale = VarInt::from_u32(close::STALE);
    shared.count(&Ending::Withdrawn);
    let _ = recv.stop(stale);
    let _ = send.reset(stale);
}

/// Serves one frame stream, after its first byte. `draining`: the stream was accepted after the server began to drain.
pub(super) async fn serve(
    (mut send, mut recv): (SendStream, RecvStream),
    shared: Arc<Shared>,
    draining: bool,
    receive_by: tokio::time::Instant,
) -> Result<(), Malformed> {
    let stopped = send.stopped();
    let ending = tokio::select! {
        ending = answer(&mut recv, &shared, draining, receive_by) => ending,
        // Nobody waits for the reply any more: dropping the other branch cancels the frame.
        _ = stopped => Ending::Withdrawn,
    };
    shared.count(&ending);
    let stale = VarInt::from_u32(close::STALE);
    // The agent may still be sending what is not wanted: stop it. An ended stream cannot be stopped, and
    // need not be.
    let _ = recv.stop(stale);
    match ending {
        Ending::Reply(reply) => {
            let (answered, start) = (matches!(*reply, FrameReplyMsg::Answer(_)), Instant::now());
            let delivered = deliver(&mut send, *reply, shared.context.timeouts.reply).await;
            if answered && delivered {
                shared.context.metrics.delivered(start.elapsed());
            }
        }
        Ending::Withdrawn | Ending::Silent => {
            let _ = send.reset(stale);
        }
        Ending::Malformed(malformed) => return Err(malformed),
    }
    Ok(())
}

/// Writes the reply and waits until the agent has it: a session that closes knows its frames are answered. `false` if it
/// never had.
async fn deliver(send: &mut SendStream, reply: FrameReplyMsg, within: Duration) -> bool {
    // Newer frames first: an agent that gets several answers wants the newest.
    let _ = send.set_priority(i32::try_from(reply.seq() & 0x3fff_ffff).unwrap_or(0));
    let delivered = timeout(within, async {
        match write_msg(send, &reply, MAX_REPLY_BYTES).await {
            // Nothing was written: our own reply may not travel.
            Err(WireError::Malformed(error)) => {
                let why = format!("the reply cannot travel: {error}");
                write_msg(
                    send,
                    &FrameReplyMsg::rejected(reply.seq(), RejectCode::Internal, &why),
                    MAX_REPLY_BYTES,
                )
                .await?;
            }
            written => written?,
        }
        let _ = send.finish();
        // `None`: all of it was acknowledged.
        Ok::<_, WireError>(matches!(send.stopped().await, Ok(None)))
    });
    match delivered.await {
        Ok(delivered) => delivered.unwrap_or(false),
        Err(_) => {
            let _ = send.reset(VarInt::from_u32(close::STALE));
            false
        }
    }
}

async fn answer(
    recv: &mut RecvStream,
    shared: &Shared,
    draining: bool,
    receive_by: tokio::time::Instant,
) -> Ending {
    let header = match read_header(recv, receive_by).await {
        Ok(header) => header,
        Err(ending) => return ending,
    };
    if draining {
        return dropped(header.seq, DropReason::Draining, Instant::now()).into();
    }
    let len = header.jpeg_len;
    let claim = match Claim::new(header, shared, receive_by).await {
        Ok(claim) => claim,
        Err(reply) => return reply.into(),
    };
    let body = timeout_at(receive_by, read_body(recv, len)).await;
    match claim.filled(body, shared) {
        Ok(received) => received.encoded(shared).await.into(),
        Err(ending) => ending,
    }
}

/// The header, which must be here `by` then.
pub(super) async fn read_header(
    recv: &mut (impl AsyncRead + Unpin),
    by: tokio::time::Instant,
) -> Result<FrameHeader, Ending> {
    match timeout_at(by, expect_msg(recv, MAX_FRAME_HEADER_BYTES)).await {
        Ok(Ok(header)) => Ok(header),
        Ok(Err(error)) if error.is_malformed() => {
            Err(Ending::Malformed(Malformed(format!("a frame's header: {error}"))))
        }
        Ok(Err(_)) => Err(Ending::Withdrawn),
        Err(_) => Err(Ending::Silent),
    }
}

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
        let (context, started, arrived_us) = (&shared.context, Instant::now(), unix_us());
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
        let context = &shared.context;
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
        let context = &shared.context;
        let outcome = settle(context.pipeline.submit(self.frame), self.deadline, context).await;
        reply(&self.header, self.received, outcome, shared)
    }

    /// It came after the server began to drain.
    pub(super) fn too_late(self) -> FrameReplyMsg {
        dropped(self.header.seq, DropReason::Draining, Instant::now())
    }
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

async fn read_body(recv: &mut RecvStream, len: u32) -> Result<Vec<u8>, WireError> {
    let limit = usize::try_from(len).unwrap_or(usize::MAX);
    let jpeg = read_exact_limited(recv, len.into(), limit).await?;
    expect_end(recv).await?;
    Ok(jpeg)
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

fn reply(
    header: &FrameHeader,
    received: (u64, Duration),
    outcome: Outcome,
    shared: &Shared,
) -> FrameReplyMsg {
    let seq = header.seq;
    match outcome {
        Outcome::Encoded { encoded, batch, timings } => {
            answered(header, &encoded, (batch, on_wire(received, timings)), &shared.context)
        }
        Outcome::Partial { tokens, choice, batch, timings } => {
            let spent = (batch, on_wire(received, timings));
            match shared.picture.embedded(seq, &choice, &tokens) {
                Some(encoded) => answered(header, &encoded, spent, &shared.context),
                None => {
                    let why = "this encoder has no memory for patches";
                    FrameReplyMsg::rejected(seq, RejectCode::PatchesUnavailable, why)
                }
            }
        }
        Outcome::Dropped(reason, timings) => {
            FrameReplyMsg::Dropped { seq, reason, timings: on_wire(received, timings) }
        }
        Outcome::Rejected(Rejection { code, message }) => FrameReplyMsg::rejected(seq, code, &message),
    }
}

fn answered(
    header: &FrameHeader,
    encoded: &Encoded,
    (batch, timings): (usize, ServerTimings),
    context: &Context,
) -> FrameReplyMsg {
    let (seq, batch) = (header.seq, u16::try_from(batch).unwrap_or(u16::MAX));
    to_answer(header, encoded, context).map_or_else(
        |error| {
            let why = format!("the embedding cannot travel as asked: {error}");
            FrameReplyMsg::rejected(seq, RejectCode::Internal, &why)
        },
        |(embedding, tokens)| FrameReplyMsg::Answer(Answer { seq, timings, batch, embedding, tokens }),
    )
}

type Tensors = (protocol::WireTensor, Option<protocol::WireTensor>);

fn to_answer(header: &FrameHeader, encoded: &Encoded, context: &Context) -> Result<Tensors, EmbeddingError> {
    let welcome = &context.welcome;
    let embedding = to_wire(&encoded.embedding, 1, welcome.embed_dim, header.embedding)?;
    let tokens = match (&encoded.tokens, header.tokens, welcome.grid) {
        (Some(tokens), Some(encoding), Some(grid)) => {
            let rows = u32::try_from(grid.tokens()).unwrap_or(u32::MAX);
            Some(to_wire(tokens, rows, grid.dim, encoding)?)
        }
        _ => None,
    };
    Ok((embedding, tokens))
}

fn dropped(seq: u64, reason: DropReason, started: Instant) -> FrameReplyMsg {
    FrameReplyMsg::Dropped {
        seq,
        reason,
        timings: on_wire((unix_us(), started.elapsed()), Timings::default()),
    }
}

fn on_wire(
    (arrived_us, receive): (u64, Duration),
    Timings { queue, decode, encode }: Timings,
) -> ServerTimings {
    let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    ServerTimings {
        receive_us: us(receive),
        queue_us: us(queue),
        decode_us: us(decode),
        encode_us: us(encode),
        arrived_us,
    }
}
