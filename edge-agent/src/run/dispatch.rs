//! Which frame goes next, and when: a place in flight first, then the newest frame.
//!
//! ```text
//! link up:    its turn (pace) ─► place in flight ─► newest frame ─► its own task (Way)
//! link down:  live: the newest frame is held until its deadline; lossless: nothing is taken
//! ```

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::way::{InFlight, Way};
use crate::capture::Captured;
use crate::latest;
use crate::ledger::{Dropped, Ticket};
use crate::uplink::link::State;
use crate::uplink::session::Session;

/// Why no more frames are dispatched.
#[derive(Debug)]
pub(super) enum End {
    /// The source has no more.
    Source,
    /// A person or the service manager asked.
    Signal,
    /// Nobody reads the answers any more.
    ReaderGone,
    /// Who watches has seen enough.
    Enough,
    /// Every encoder refuses for good; why.
    Hopeless(Arc<str>),
}

/// A frame that waits for a link.
struct Held {
    frame: Captured,
    ticket: Ticket,
    until: Instant,
}

pub(super) struct Dispatch {
    way: Arc<Way>,
    link: watch::Receiver<State>,
    /// `None` once closed.
    frames: Option<latest::Receiver<Captured>>,
    held: Option<Held>,
    source_ended: bool,
    /// Number of the frame that is expected next.
    next: u64,
    tasks: JoinSet<()>,
}

impl Dispatch {
    pub(super) fn new(way: Arc<Way>, frames: latest::Receiver<Captured>) -> Self {
        let link = way.link.clone();
        let (held, source_ended, next, tasks) = (None, false, 0, JoinSet::new());
        Self { way, link, frames: Some(frames), held, source_ended, next, tasks }
    }

    /// Dispatches until there is nothing more to dispatch. Cancel-safe: no frame is lost in between.
    pub(super) async fn run(&mut self) -> End {
        while !(self.source_ended && self.held.is_none()) {
            let state = self.link.borrow_and_update().clone();
            match state {
                State::Hopeless(words) => {
                    self.let_go(Dropped::LinkDown(words.to_string())).await;
                    return End::Hopeless(words);
                }
                State::Up(session) => self.send_one(&session).await,
                State::Down(words) if self.way.order.is_some() => self.wait_for_link(&words).await,
                State::Down(words) => self.hold_newest(&words).await,
            }
            while self.tasks.try_join_next().is_some() {}
        }
        End::Source
    }

    /// Takes no more frames, and waits until those in flight have ended. Cancel-safe.
    pub(super) async fn drain(&mut self) {
        if let Some(frame) = self.frames.take().and_then(latest::Receiver::close) {
            let ticket = self.way.ledger.captured();
            self.drop_frame(frame, ticket, Dropped::Shutdown).await;
        }
        self.let_go(Dropped::Shutdown).await;
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits for a place in flight, then for the newest frame, or until the link changes.
    async fn send_one(&mut self, session: &Session) {
        let Some(frames) = &mut self.frames else { return };
        let place = async {
            if let Some(order) = &self.way.order {
                order.may_go(self.next).await;
            }
            self.way.pace.turn().await;
            session.slot().await
        };
        let permit = tokio::select! {
            permit = place => permit,
            _ = self.link.changed() => return,
        };
        let (frame, ticket) = match self.held.take() {
            Some(Held { frame, ticket, .. }) => (frame, ticket),
            None => tokio::select! {
                frame = frames.take() => match frame {
                    Some(frame) => (frame, self.way.ledger.captured()),
                    None => return self.source_ended = true,
                },
                _ = self.link.changed() => return,
            },
        };
        self.next = frame.seq + 1;
        let in_flight = InFlight { session: session.clone(), permit };
        self.tasks.spawn(Arc::clone(&self.way).frame(frame, ticket, in_flight));
    }

    /// Lossless sources wait: nothing is taken from them while the link is down.
    async fn wait_for_link(&mut self, words: &str) {
        tracing::debug!(words, "waiting for an encoder");
        // The link's task lives as long as the run: an error cannot come.
        let _ = self.link.changed().await;
    }

    /// Live sources go on: the newest frame is kept for as long as its answer would be news.
    async fn hold_newest(&mut self, words: &str) {
        let Some(frames) = &mut self.frames else { return };
        let deadline = self.held.as_ref().map(|held| held.until);
        let expired = async {
            match deadline {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        let newer = tokio::select! {
            _ = self.link.changed() => return,
            () = expired => None,
            frame = frames.take(), if !self.source_ended => match frame {
                Some(frame) => Some(self.hold(frame)),
                None => return self.source_ended = true,
            },
        };
        if let Some(Held { frame, ticket, .. }) = std::mem::replace(&mut self.held, newer) {
            self.drop_frame(frame, ticket, Dropped::LinkDown(words.to_owned())).await;
        }
    }

    fn hold(&self, frame: Captured) -> Held {
        let until = frame.ready + self.way.deadline;
        Held { frame, ticket: self.way.ledger.captured(), until }
    }

    async fn let_go(&mut self, reason: Dropped) {
        if let Some(Held { frame, ticket, .. }) = self.held.take() {
            self.drop_frame(frame, ticket, reason).await;
        }
    }

    async fn drop_frame(&self, frame: Captured, ticket: Ticket, reason: Dropped) {
        let info = self.way.info(frame.seq, frame.captured_at, frame.id);
        self.way.dropped(ticket, info, reason).await;
    }
}
