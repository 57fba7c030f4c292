//! The way of one frame: prepare, encoder, heads, sinks. Every path ends its [`Ticket`] once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::{DropReason, Encoding, Kept};
use shared::image::{Chroma, Rgb, jpeg_flops, resize_flops};
use shared::patches::Selection;
use shared::uplink::Prepared;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::order::Order;
use super::stale::Latest;
use crate::capture::{Backoff, Captured, Image, Stop};
use crate::heads::{Embedding, HeadSet, Heads, Outcome};
use crate::ledger::{Dropped, Ledger, Ticket};
use crate::meter::{Measured, Meter, by_stage};
use crate::pace::Pace;
use crate::sinks::mqtt::Board;
use crate::sinks::{Answer, Event, FrameInfo, Sink, Stages};
use crate::uplink::clocks::OneWay;
use crate::uplink::frame::{Incoming, Outgoing, exchange};
use crate::uplink::link::State;
use crate::uplink::patches::{Packed, Patches, Step};
use crate::uplink::prepare::{self, Preparer, Ready};
use crate::uplink::session::Session;
use crate::work::Work;

/// Between attempts at an encoder that is there but did not encode the frame.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };

/// What all frames of a run share.
pub(super) struct Way {
    pub(super) camera: Arc<str>,
    pub(super) preparer: Preparer,
    /// Where frames travel as patches.
    pub(super) patches: Option<Arc<Patches>>,
    pub(super) encoding: Encoding,
    /// Time from a live frame's capture, or from a lossless frame's sending, to the end of its use.
    pub(super) deadline: Duration,
    /// 1 for live frames: a second attempt would be late.
    pub(super) attempts: u32,
    pub(super) heads: Arc<Heads>,
    pub(super) ledger: Ledger,
    pub(super) latest: Latest,
    pub(super) link: watch::Receiver<State>,
    /// How many frames a second go out while the encoder is overloaded.
    pub(super) pace: Arc<Pace>,
    pub(super) sink: Sink,
    /// What a broker is told from.
    pub(super) board: Option<Arc<Board>>,
    /// Lines in the order of frames, for lossless runs.
    pub(super) order: Option<Order>,
    /// Raised when frames in flight must end now.
    pub(super) hurry: Stop,
    /// What is computed on this box.
    pub(super) work: Arc<Work>,
    /// Who is told where the time went.
    pub(super) meters: Vec<Arc<dyn Meter>>,
}

/// A place on a session's wire.
pub(super) struct InFlight {
    pub(super) session: Session,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What can be sent of a frame.
enum Picture {
    /// All of it.
    Whole(Ready),
    /// Patches, to be chosen for the encoder that is asked.
    Pixels(Arc<Rgb>),
}

/// A frame, or its patches, for one attempt.
struct Sent {
    jpeg: Bytes,
    pixels: u64,
    patches: Option<(Kept, Selection)>,
    /// Operations that making it took.
    flops: u64,
}

/// Where an embedding is from.
enum Embedded {
    /// From the frame.
    Anew(Embedding),
    /// From the last frame that showed something new.
    Reused(Embedding),
}

/// What is known of a frame besides its pixels.
struct Frame {
    info: FrameInfo,
    due: Instant,
    ready: Instant,
    /// Time until its embedding came that no stage explains.
    wait: Duration,
    stages: Stages,
    /// Answered by an embedding that is not its own.
    reused: bool,
    /// The network's part of the way back.
    way_back: Option<OneWay>,
}

impl Way {
    /// Takes a frame all its way.
    pub(super) async fn frame(self: Arc<Self>, captured: Captured, ticket: Ticket, in_flight: InFlight) {
        let due = due(&captured, self.order.is_some(), Instant::now());
        let Captured { seq, captured_at, started, ready, id, image, .. } = captured;
        let info = self.info(seq, captured_at, id);
        let stages = Stages { capture: ready.saturating_duration_since(started), ..Stages::default() };
        let mut frame =
            Frame { info, due, ready, wait: Duration::ZERO, stages, reused: false, way_back: None };
        // One set for all of its way: what it is asked for, and who answers.
        let heads = self.heads.current();
        let embedded = tokio::select! {
            embedded = self.embed(&mut frame, image, &heads, in_flight) => embedded,
            () = self.hurry.stopped() => Err(Dropped::Shutdown),
        };
        match embedded {
            Ok(Embedded::Anew(embedding)) => {
                ticket.answered();
                self.answer(frame, heads, embedding).await;
            }
            Ok(Embedded::Reused(embedding)) => {
                ticket.reused();
                frame.reused = true;
                self.answer(frame, heads, embedding).await;
            }
            Err(reason) => {
                self.latest.missed();
                self.dropped(ticket, frame.info, reason).await;
            }
        }
    }

    /// From pixels to an embedding.
    async fn embed(
        &self,
        frame: &mut Frame,
        image: Image,
        heads: &HeadSet,
        in_flight: InFlight,
    ) -> Result<Embedded, Dropped> {
        let start = Instant::now();
        let picture = self.prepare(image, &in_flight.session).await?;
        frame.stages.prepare = start.elapsed();
        let embedded = self.ask(frame, &picture, heads.needs_tokens(), in_flight).await?;
        frame.wait = frame.due.elapsed().saturating_sub(frame.stages.sum());
        Ok(embedded)
    }

    /// What is sent of a frame to an encoder such as this one.
    async fn prepare(&self, image: Image, session: &Session) -> Result<Picture, Dropped> {
        let preparer = self.preparer.clone();
        let some = self.patches.as_ref().is_some_and(|patches| patches.geometry(session).is_some());
        let decoded = some && matches!(image, Image::Jpeg(_));
        let picture = aside(move || match some {
            false => preparer.prepare(image).map(Picture::Whole),
            true => preparer.pixels(image).map(|rgb| Picture::Pixels(Arc::new(rgb))),
        })
        .await?
        .map_err(|error| Dropped::Prepare(error.to_string()))?;
        if let Picture::Pixels(rgb) = &picture
            && decoded
        {
            self.work.prepared(prepare::decoding(rgb));
        }
        Ok(picture)
    }

    /// What goes to this encoder, or the embedding that makes it needless. `tokens`: whether a head reads them.
    async fn pack(
        &self,
        picture: &Picture,
        session: &Session,
        tokens: bool,
    ) -> Result<Result<Sent, Embedding>, Dropped> {
        let rgb = match picture {
            Picture::Whole(Ready { jpeg, pixels, flops }) => {
                return Ok(Ok(Sent { jpeg: jpeg.clone(), pixels: *pixels, patches: None, flops: *flops }));
            }
            Picture::Pixels(rgb) => Arc::clone(rgb),
        };
        let geometry =
            self.patches.as_ref().and_then(|patches| Some((Arc::clone(patches), patches.geometry(session)?)));
        if let Some((_, geometry)) = &geometry {
            self.work.prepared(resize_flops((rgb.width, rgb.height), (geometry.width, geometry.height)));
        }
        let (uplink, session) = (self.preparer.uplink, session.clone());
        aside(move || match geometry {
            Some((patches, geometry)) => match patches.step(&session, geometry, &rgb, tokens) {
                Step::Reuse(embedding) => Err(embedding),
                Step::Send(Packed { jpeg, pixels, kept, selection }) => {
                    let flops = jpeg_flops(pixels, Chroma::C444);
                    Ok(Sent { jpeg, pixels, patches: Some((kept, selection)), flops })
                }
            },
            // Tried again at an encoder that takes whole frames only.
            None => {
                let Prepared { jpeg, width, height, flops, .. } = uplink.apply_rgb(&rgb);
                let pixels = u64::from(width) * u64::from(height);
                Ok(Sent { jpeg: jpeg.into(), pixels, patches: None, flops })
            }
        })
        .await
    }

    /// When an answer to the attempt that begins now stops being useful.
    fn deadline(&self, frame: &Frame) -> Instant {
        (if self.attempts > 1 { Instant::now() } else { frame.ready }) + self.deadline
    }

    /// Asks encoders, as often as this run allows.
    async fn ask(
        &self,
        frame: &mut Frame,
        picture: &Picture,
        tokens: bool,
        mut at: InFlight,
    ) -> Result<Embedded, Dropped> {
        let mut attempt = 1;
        loop {
            let start = Instant::now();
            let sent = match self.pack(picture, &at.session, tokens).await? {
                Ok(sent) => sent,
                Err(embedding) => return Ok(Embedded::Reused(embedding)),
            };
            frame.stages.prepare += start.elapsed();
            self.meters.iter().for_each(|meter| meter.prepared(sent.jpeg.len()));
            self.work.prepared(sent.flops);
            let Sent { jpeg, pixels, patches, .. } = sent;
            let (kept, selection) = patches.unzip();
            let outgoing = Outgoing {
                seq: frame.info.seq,
                captured_at: frame.info.captured_at,
                jpeg,
                pixels,
                patches: kept,
                deadline: self.deadline(frame),
                embedding: self.encoding,
                tokens,
            };
            let sent = Instant::now();
            self.pace.sent(sent);
            let result = exchange(&at.session, &outgoing).await;
            self.pace.heard(sent, &result);
            match result {
                Ok(incoming) => {
                    if let (Some(patches), Some(selection)) = (&self.patches, selection) {
                        patches.answered(&at.session, selection, &incoming.embedding);
                    }
                    frame.take_stages(&incoming);
                    return Ok(Embedded::Anew(incoming.embedding));
                }
                Err(reason) => {
                    if let (Some(patches), Dropped::Rejected(..)) = (&self.patches, &reason) {
                        patches.forget();
                    }
                    if attempt >= self.attempts || !reason.worth_another_try() {
                        return Err(reason);
                    }
                    tracing::debug!(seq = outgoing.seq, %reason, attempt, "trying the frame again");
                    at = self.another_place(at, attempt).await?;
                    // A frame that may wait waits for as long as the encoder has too much to do.
                    attempt += u32::from(reason != Dropped::Encoder(DropReason::Overloaded));
                }
            }
        }
    }

    /// Gives the place back, waits a little, and gets one at whatever encoder takes frames then.
    async fn another_place(
        &self,
        InFlight { session, permit }: InFlight,
        attempt: u32,
    ) -> Result<InFlight, Dropped> {
        drop((session, permit));
        tokio::time::sleep(RETRY.wait(attempt, rand::random_range(0.0..1.0))).await;
        self.pace.turn().await;
        let mut link = self.link.clone();
        loop {
            let state = link.borrow_and_update().clone();
            let session = match state {
                State::Up(session) => session,
                State::Hopeless(words) => return Err(Dropped::LinkDown(words.to_string())),
                State::Down(words) => match link.changed().await {
                    Ok(()) => continue,
                    Err(_) => return Err(Dropped::LinkDown(words.to_string())),
                },
            };
            tokio::select! {
                permit = session.slot() => return Ok(InFlight { session: session.clone(), permit }),
                _ = link.changed() => {}
            }
        }
    }

    /// Runs the heads and writes one line each.
    async fn answer(&self, mut frame: Frame, heads: Arc<HeadSet>, embedding: Embedding) {
        let start = Instant::now();
        let (all, work) = (Arc::clone(&self.heads), Arc::clone(&self.work));
        let answered = move || {
            let outcomes = heads.answer(&embedding);
            work.answered(heads.flops());
            all.answered(&heads);
            outcomes
        };
        let outcomes = tokio::task::spawn_blocking(answered).await;
        let answered_at = Instant::now();
        frame.stages.heads = answered_at - start;
        let outcomes = outcomes.unwrap_or_else(|error| {
            tracing::error!(seq = frame.info.seq, %error, "the heads failed: please report this");
            Vec::new()
        });
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for Outcome { head, result } in outcomes {
            match result {
                Ok(prediction) => answers.push(Answer {
                    frame: frame.info.clone(),
                    head,
                    value: prediction.value,
                    class: prediction.class,
                    interval: prediction.interval,
                    stale: false,
                    reused: frame.reused,
                    age: frame.ready.elapsed(),
                    stages: frame.stages,
                }),
                Err(error) => failures.push(Event::HeadFailed {
                    frame: frame.info.clone(),
                    head,
                    error: error.to_string(),
                }),
            }
        }
        self.latest.answered(frame.info.seq, frame.ready, &answers);
        if let Some(board) = &self.board {
            board.post(frame.ready, &answers);
        }
        let lines = answers.into_iter().map(Event::Answer).chain(failures).collect();
        self.finish(frame.info.seq, lines).await;
        self.measure(&frame, answered_at).await;
    }

    /// Tells the meters, once the frame's lines are written. Lines that wait for an older frame's, as in lossless runs,
    /// are not waited for; nor is a writer that discards.
    async fn measure(&self, frame: &Frame, answered_at: Instant) {
        if self.meters.is_empty() {
            return;
        }
        let written = self.sink.written().await.unwrap_or_else(Instant::now);
        let sink = written.saturating_duration_since(answered_at);
        let stages = by_stage(frame.wait, &frame.stages, sink);
        let measured = Measured { seq: frame.info.seq, due: frame.due, stages, way_back: frame.way_back };
        self.meters.iter().for_each(|meter| meter.answered(&measured));
    }
}

impl Frame {
    /// Where the time of an exchange went.
    fn take_stages(&mut self, incoming: &Incoming) {
        let Incoming { send, reply, network, way_back, encoder, .. } = incoming;
        let micros = |us: u32| Duration::from_micros(us.into());
        let Stages { capture, prepare, .. } = self.stages;
        self.stages = Stages {
            capture,
            prepare,
            send: *send,
            network: *network,
            queue: micros(encoder.queue_us),
            decode: micros(encoder.decode_us),
            encode: micros(encoder.encode_us),
            reply: *reply,
            heads: Duration::ZERO,
        };
        self.way_back = *way_back;
    }
}

/// Runs what takes milliseconds away from the thread that drives the connection.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Dropped> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Dropped::Prepare(format!("preparing it failed: {error}; please report this")))
}

/// From when on a frame's time counts. Lossless sources are read ahead, while the frame before is on its way: what was read
/// waits for nobody's sake, and its time goes on when it is taken.
fn due(captured: &Captured, read_ahead: bool, taken: Instant) -> Instant {
    let capture = captured.ready.saturating_duration_since(captured.started);
    if read_ahead { taken.checked_sub(capture).unwrap_or(taken) } else { captured.due }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_a_queue_counts_unless_the_source_was_read_ahead() {
        let due = Instant::now();
        let after = |ms| due + Duration::from_millis(ms);
        let captured = Captured {
            seq: 0,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            due,
            started: after(10),
            ready: after(13),
            id: None,
            image: Image::Jpeg(Default::default()),
        };
        assert_eq!(super::due(&captured, false, after(500)), due);
        assert_eq!(super::due(&captured, true, after(500)), after(497));
    }
}
