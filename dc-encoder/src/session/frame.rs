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
use protocol::{DropReason, FrameHeader, FrameReplyMsg, RejectCode, close};
use quinn::{RecvStream, SendStream, VarInt};
use shared::wire::{WireError, expect_end, expect_msg, read_exact_limited, write_msg};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::Context;
use super::claim::Claim;
use super::devices::Place;
use super::memory::Picture;
use super::rates::Over;
use super::reply::dropped;
use crate::batch::CameraKey;
use crate::ledger::Account;
use crate::serve::metrics::WITHDRAWN;

/// The agent broke the protocol: its session ends with these words.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

/// What the frame streams of one session share.
#[derive(Debug)]
pub(super) struct Shared {
    context: Arc<Context>,
    pub(super) camera: CameraKey,
    /// How many of its frames make a turn.
    pub(super) weight: u16,
    /// The camera's name.
    name: String,
    /// What its frames and bytes are put on.
    pub(super) account: Arc<Account>,
    /// Frames between their header and their reply.
    pub(super) in_flight: Arc<Semaphore>,
    place: Place,
    /// A limit was exceeded before: said once.
    was_over: AtomicBool,
    /// What is known of the camera's picture.
    pub(super) picture: Picture,
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
        let weight = context.weights.get(name).copied().unwrap_or(1);
        let (name, was_over) = (name.to_owned(), AtomicBool::new(false));
        let (account, picture) = (context.ledger.account(&name), Picture::new(&context.backend));
        let tally = Tally::default();
        Self { context, camera, weight, name, account, in_flight, place, was_over, picture, tally }
    }

    /// A place among all sessions' frames, if the camera and all together are within their rates.
    pub(super) fn admit(&self, header: &FrameHeader, now: Instant) -> Result<OwnedSemaphorePermit, Over> {
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

async fn read_body(recv: &mut RecvStream, len: u32) -> Result<Vec<u8>, WireError> {
    let limit = usize::try_from(len).unwrap_or(usize::MAX);
    let jpeg = read_exact_limited(recv, len.into(), limit).await?;
    expect_end(recv).await?;
    Ok(jpeg)
}
