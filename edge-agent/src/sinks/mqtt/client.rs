//! The broker's end: one connection after another, on a thread of its own.
//!
//! ```text
//! connect ─► welcome ─► hello ─► due, due, … ─► (lost: wait longer and longer) ─► connect
//!                                  └─ stop ─► offline ─► disconnect
//! ```
//! Each connection has a client of its own: nothing that an earlier one held is sent late. All messages are acknowledged,
//! so what is counted as published is with the broker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, Packet, Publish, PublishOptions, QoS,
    SubscribeReasonCode,
};
use shared::tls::Floor;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::access::{self, Kind, Trouble};
use super::board::Board;
use super::book::{Book, Message};
use super::payload::ONLINE;
use super::{Counts, sensor};
use crate::capture::Backoff;
use crate::config::Mqtt;
use crate::heads::{HeadSet, Heads};

/// Messages on their way to the connection: sensors of a hundred heads, announced at once.
const QUEUE: usize = 1024;
/// What the broker said and was not looked at yet; the connection waits then.
const HEARD: usize = 64;
/// Between attempts.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) };
/// A connection that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(30);
/// How often is looked whether heads were swapped.
const LOOK: Duration = Duration::from_millis(250);
/// What the last messages get at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The thread's state.
pub(super) struct Teller {
    pub(super) mqtt: Mqtt,
    pub(super) book: Book,
    pub(super) board: Arc<Board>,
    pub(super) heads: Arc<Heads>,
    pub(super) counts: Arc<Counts>,
    pub(super) floor: Floor,
    /// The heads that the book follows.
    pub(super) followed: Option<Arc<HeadSet>>,
    /// What was said in the log of the present trouble.
    pub(super) said: Option<Kind>,
}

/// How a connection ended.
enum End {
    Stopped,
    Lost(Trouble),
}

/// A connection: its event loop runs as a task, because it does not like to be cancelled.
struct Link {
    client: AsyncClient,
    heard: mpsc::Receiver<Result<Packet, ConnectionError>>,
    /// Values that the broker has not acknowledged.
    under_way: JoinSet<(String, bool)>,
    task: AbortHandle,
    up: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Teller {
    /// Tells until `stop`.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut failures = 0;
        loop {
            let start = Instant::now();
            let end = self.connection(&mut stop).await;
            self.counts.connected.store(false, Ordering::Relaxed);
            self.book.lost();
            let End::Lost(trouble) = end else { return };
            failures = if start.elapsed() > STEADY { 1 } else { failures + 1 };
            self.report(&trouble);
            let until = Instant::now() + RETRY.wait(failures, rand::random_range(0.0..1.0));
            while Instant::now() < until {
                tokio::select! {
                    () = sleep_until(until.into()) => {}
                    () = self.wake() => self.count_missed(),
                    _ = &mut stop => return,
                }
            }
        }
    }

    /// Once for each change: an agent that tries for a week must not fill a disk with it.
    fn report(&mut self, trouble: &Trouble) {
        if self.said == Some(trouble.kind) {
            return tracing::debug!("mqtt: {trouble}");
        }
        self.said = Some(trouble.kind);
        tracing::warn!("mqtt: {trouble}. Frames and answers go on; it is tried again");
    }

    async fn connection(&mut self, stop: &mut oneshot::Receiver<()>) -> End {
        let mut link = match self.connect() {
            Ok(link) => link,
            Err(trouble) => return End::Lost(trouble),
        };
        let end = self.converse(&mut link, stop).await;
        while let Some(taken) = link.under_way.try_join_next() {
            self.taken(taken.ok());
        }
        self.counts.dropped.fetch_add(link.under_way.len() as u64, Ordering::Relaxed);
        end
    }

    async fn converse(&mut self, link: &mut Link, stop: &mut oneshot::Receiver<()>) -> End {
        loop {
            tokio::select! {
                heard = link.heard.recv() => match heard {
                    Some(Ok(packet)) => if let Err(trouble) = self.heard(link, &packet) {
                        return End::Lost(trouble);
                    },
                    Some(Err(error)) => return End::Lost(access::explain(&self.mqtt, &error)),
                    None => return End::Lost(self.overrun()),
                },
                Some(taken) = link.under_way.join_next() => self.taken(taken.ok()),
                () = self.wake() => {}
                _ = &mut *stop => {
                    if link.up && timeout(FAREWELL, self.farewell(link)).await.is_err() {
                        tracing::warn!("mqtt: {} did not take the last messages", self.mqtt.broker);
                    }
                    return End::Stopped;
                }
            }
            if !link.up {
                self.count_missed();
            } else if let Err(trouble) = self.tell(link, false) {
                return End::Lost(trouble);
            }
        }
    }

    fn connect(&self) -> Result<Link, Trouble> {
        let names = self.book.names();
        let will = LastWill::new(names.status(), self.book.farewell().payload, QoS::AtLeastOnce, true);
        let client = format!("fth-{}", names.camera);
        let options = access::options(&self.mqtt, &client, Some(will), &self.floor)?;
        let (client, mut events) = AsyncClient::builder(options).capacity(QUEUE).build();
        events.set_network_options(access::network());
        let (report, heard) = mpsc::channel(HEARD);
        let task = tokio::spawn(drive(events, report)).abort_handle();
        Ok(Link { client, heard, under_way: JoinSet::new(), task, up: false })
    }

    fn heard(&mut self, link: &mut Link, packet: &Packet) -> Result<(), Trouble> {
        match packet {
            Packet::ConnAck(_) => self.welcomed(link),
            Packet::Publish(publish) => {
                let messages = self.answer(publish);
                self.send_all(link, messages)
            }
            Packet::SubAck(ack) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    tracing::warn!(
                        "mqtt: {} does not let this box read {}: let it in the ACL; until then sensors are not announced \
                         again when Home Assistant starts",
                        self.mqtt.broker,
                        self.book.names().filters().join(" and ")
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn welcomed(&mut self, link: &mut Link) -> Result<(), Trouble> {
        link.up = true;
        self.said = None;
        self.counts.connected.store(true, Ordering::Relaxed);
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let topic = self.book.names().status();
        tracing::info!(broker = %self.mqtt.broker, topic, "mqtt: the broker takes answers");
        self.follow();
        let messages = self.book.hello();
        self.send_all(link, messages)?;
        for filter in self.book.names().filters() {
            link.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| self.overrun())?;
        }
        Ok(())
    }

    /// What is said to what was read: sensors to a Home Assistant that has started, nothing of a head that is no more.
    fn answer(&self, publish: &Publish) -> Vec<Message> {
        let Ok(topic) = std::str::from_utf8(&publish.topic) else { return Vec::new() };
        if self.book.names().is_birth(topic) {
            let started = publish.payload == ONLINE.as_bytes();
            return if started { self.book.announcements() } else { Vec::new() };
        }
        // What is not retained is this box's own, told a moment ago.
        if publish.retain && !publish.payload.is_empty() {
            return self.book.remembered(topic, &publish.payload);
        }
        Vec::new()
    }

    /// Returns when something may be due.
    async fn wake(&self) {
        let look = Instant::now() + LOOK;
        let next = self.book.next(Instant::now()).map_or(look, |next| next.min(look));
        tokio::select! {
            () = self.board.changed() => {}
            () = sleep_until(next.into()) => {}
        }
    }

    /// The heads as they are now; what there is to say of a change.
    fn follow(&mut self) -> Vec<Message> {
        let heads = self.heads.current();
        if self.followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &heads)) {
            return Vec::new();
        }
        let releases: Vec<&str> = heads.iter().map(|loaded| loaded.info.release.as_str()).collect();
        self.board.keep(&releases);
        let messages = self.book.follow(sensor::sensors(&heads));
        self.followed = Some(heads);
        messages
    }

    fn tell(&mut self, link: &mut Link, last: bool) -> Result<(), Trouble> {
        let messages = self.follow();
        self.send_all(link, messages)?;
        let due = self.book.due(&self.board, Instant::now(), last);
        self.counts.dropped.fetch_add(due.missed, Ordering::Relaxed);
        self.send_all(link, due.messages)
    }

    /// Without a connection: heads come and go, values are missed.
    fn count_missed(&mut self) {
        self.follow();
        let due = self.book.due(&self.board, Instant::now(), false);
        let values = due.messages.iter().filter(|message| message.value_of.is_some()).count();
        self.counts.dropped.fetch_add(values as u64, Ordering::Relaxed);
        self.book.lost();
    }

    fn send_all(&self, link: &mut Link, messages: Vec<Message>) -> Result<(), Trouble> {
        messages.into_iter().try_for_each(|message| self.send(link, message))
    }

    fn send(&self, link: &mut Link, message: Message) -> Result<(), Trouble> {
        let Message { topic, payload, value_of } = message;
        let retained = PublishOptions::at_least_once().retained();
        let notice = link.client.try_publish_tracked(topic, payload, retained).map_err(|_| self.overrun())?;
        if let Some(id) = value_of {
            link.under_way.spawn(async move { (id, notice.wait_completion_async().await.is_ok()) });
        }
        Ok(())
    }

    /// Nothing fits any more: whatever was lost is said on the next connection.
    fn overrun(&self) -> Trouble {
        let words = format!("the broker {} takes nothing more", self.mqtt.broker);
        Trouble::new(Kind::Silent, words, "its log, or its machine's load, says why")
    }

    fn taken(&mut self, taken: Option<(String, bool)>) {
        let Some((id, taken)) = taken else { return };
        self.book.taken(&id);
        let count = if taken { &self.counts.published } else { &self.counts.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The newest values, `offline`, and an end that is no accident: the broker does not announce this box's death.
    async fn farewell(&mut self, link: &mut Link) {
        // Of each head one value is under way at a time.
        while !link.under_way.is_empty() {
            tokio::select! {
                taken = link.under_way.join_next() => self.taken(taken.and_then(Result::ok)),
                heard = link.heard.recv() => if !matches!(heard, Some(Ok(_))) { return },
            }
        }
        let last = self.tell(link, true).and_then(|()| {
            let Message { topic, payload, .. } = self.book.farewell();
            let retained = PublishOptions::at_least_once().retained();
            link.client.try_publish_tracked(topic, payload, retained).map_err(|_| self.overrun())
        });
        let Ok(last) = last else { return };
        let gone = async { while let Some(Ok(_)) = link.heard.recv().await {} };
        tokio::pin!(gone);
        tokio::select! {
            _ = last.wait_completion_async() => {}
            () = &mut gone => return,
        }
        if link.client.try_disconnect().is_ok() {
            gone.await;
        }
    }
}

/// Runs a connection to its end; what the broker says goes to `report`.
async fn drive(mut events: EventLoop, report: mpsc::Sender<Result<Packet, ConnectionError>>) {
    loop {
        let heard = match Box::pin(events.poll()).await {
            Ok(Event::Incoming(packet @ (Packet::ConnAck(_) | Packet::Publish(_) | Packet::SubAck(_)))) => {
                Ok(packet)
            }
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        let ended = heard.is_err();
        if report.send(heard).await.is_err() || ended {
            return;
        }
    }
}

/// Whether the broker takes this box: one connection under another name, which ends at once.
pub(super) async fn probe(mqtt: &Mqtt, floor: &Floor) -> Result<(), Trouble> {
    let client = format!("fth-check-{:08x}", rand::random::<u32>());
    let options = access::options(mqtt, &client, None, floor)?;
    let (client, mut events) = AsyncClient::builder(options).capacity(1).build();
    events.set_network_options(access::network());
    Box::pin(events.poll()).await.map_err(|error| access::explain(mqtt, &error))?;
    if client.try_disconnect().is_ok() {
        // Whatever comes now, it was welcomed.
        let end = async { while Box::pin(events.poll()).await.is_ok() {} };
        let _ = timeout(FAREWELL, end).await;
    }
    Ok(())
}
