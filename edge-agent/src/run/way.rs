//! The way of one frame: prepare, encoder, heads, sinks. Every path ends its [`Ticket`] once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Encoding;
use shared::image::Limits;
use shared::uplink::Uplink;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::order::Order;
use super::stale::Latest;
use crate::capture::{Backoff, Captured, Image, Stop};
use crate::heads::{Embedding, HeadSet, Heads, Outcome};
use crate::ledger::{Dropped, Ledger, Ticket};
use crate::meter::{Measured, Meter, by_stage};
use crate::sinks::{Answer, Event, FrameInfo, Sink, Stages};
use crate::uplink::clocks::OneWay;
use crate::uplink::frame::{Incoming, Outgoing, exchange};
use crate::uplink::link::State;
use crate::uplink::prepare::{self, Ready};
use crate::uplink::session::Session;

/// Between attempts at an encoder that is there but did not encode the frame.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };

/// What all frames of a run share.
pub(super) struct Way {
    pub(super) camera: Arc<str>,
    pub(super) uplink: Uplink,
    pub(super) limits: Limits,
    pub(super) encoding: Encoding,
    /// Time from a live frame's capture, or from a lossless frame's sending, to the end of its use.
    pub(super) deadline: Duration,
    /// 1 for live frames: a second attempt would be late.
    pub(super) attempts: u32,
    pub(super) heads: Arc<Heads>,
    pub(super) ledger: Ledger,
    pub(super) latest: Latest,
    pub(super) link: watch::Receiver<State>,
    pub(super) sink: Sink,
    /// Lines in the order of frames, for lossless runs.
    pub(super) order: Option<Order>,
    /// Raised when frames in flight must end now.
    pub(super) hurry: Stop,
    /// Who is told where the time went.
    pub(super) meters: Vec<Arc<dyn Meter>>,
}

/// A place on a session's wire.
pub(super) struct InFlight {
    pub(super) session: Session,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What is known of a frame besides its pixels.
struct Frame {
    info: FrameInfo,
    due: Instant,
    ready: Instant,
    /// Time until its embedding came that no stage explains.
    wait: Duration,
    stages: Stages,
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
        let mut frame = Frame { info, due, ready, wait: Duration::ZERO, stages, way_back: None };
        // One set for all of its way: what it is asked for, and who answers.
        let heads = self.heads.current();
        let embedded = tokio::select! {
            embedded = self.embed(&mut frame, image, &heads, in_flight) => embedded,
            () = self.hurry.stopped() => Err(Dropped::Shutdown),
        };
        match embedded {
            Ok(embedding) => {
                ticket.answered();
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
    ) -> Result<Embedding, Dropped> {
        let start = Instant::now();
        let ready = self.prepare(image).await?;
        frame.stages.prepare = start.elapsed();
        self.meters.iter().for_each(|meter| meter.prepared(ready.jpeg.len()));
        let outgoing = Outgoing {
            seq: frame.info.seq,
            captured_at: frame.info.captured_at,
            jpeg: ready.jpeg,
            pixels: ready.pixels,
            deadline: frame.ready + self.deadline,
            embedding: self.encoding,
            tokens: heads.needs_tokens(),
        };
        let Incoming { embedding, send, reply, network, way_back, encoder } =
            self.ask(outgoing, in_flight).await?;
        let micros = |us: u32| Duration::from_micros(us.into());
        let Stages { capture, prepare, .. } = frame.stages;
        frame.stages = Stages {
            capture,
            prepare,
            send,
            network,
            queue: micros(encoder.queue_us),
            decode: micros(encoder.decode_us),
            encode: micros(encoder.encode_us),
            reply,
            heads: Duration::ZERO,
        };
        frame.way_back = way_back;
        frame.wait = frame.due.elapsed().saturating_sub(frame.stages.sum());
        Ok(embedding)
    }

    async fn prepare(&self, image: Image) -> Result<Ready, Dropped> {
        let (uplink, limits) = (self.uplink, self.limits);
        match tokio::task::spawn_blocking(move || prepare::prepare(image, &uplink, &limits)).await {
            Ok(prepared) => prepared.map_err(|error| Dropped::Prepare(error.to_string())),
            Err(error) => Err(Dropped::Prepare(format!("preparing it failed: {error}; please report this"))),
        }
    }

    /// Asks encoders, as often as this run allows.
    async fn ask(&self, mut outgoing: Outgoing, mut at: InFlight) -> Result<Incoming, Dropped> {
        for attempt in 1.. {
            if self.attempts > 1 {
                outgoing.deadline = Instant::now() + self.deadline;
            }
            match exchange(&at.session, &outgoing).await {
                Err(reason) if attempt < self.attempts && reason.worth_another_try() => {
                    tracing::debug!(seq = outgoing.seq, %reason, attempt, "trying the frame again");
                    at = self.another_place(at, attempt).await?;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Gives the place back, waits a little, and gets one at whatever encoder takes frames then.
    async fn another_place(
        &self,
        InFlight { session, permit }: InFlight,
        attempt: u32,
    ) -> Result<InFlight, Dropped> {
        drop((session, permit));
        tokio::time::sleep(RETRY.wait(attempt, rand::random_range(0.0..1.0))).await;
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
        let all = Arc::clone(&self.heads);
        let answered = move || {
            let outcomes = heads.answer(&embedding);
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
