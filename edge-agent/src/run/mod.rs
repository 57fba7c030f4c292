//! `edge-agent run`: puts the parts together, and takes them apart in order.
//!
//! ```text
//! device thread ─► latest ─► dispatch ─► one task a frame ─► heads ─► sinks
//!      └─ losses ─────────────────────────────────────────────────────▲
//!                                  stale answers while none come ─────┘
//! ```
//! The end of the source, a signal, a reader that went away, or encoders that refuse for good: whatever ends
//! the run, frames in flight get their answer or their reason first, and the last line on standard error
//! accounts for every captured frame.

mod dispatch;
mod order;
mod stale;
mod watch;
mod way;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shared::image::Limits;
use shared::notify::Manager;
use shared::patches::Policy;
use shared::tls::{Floor, Identity};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::capture::{self, Loss, LossReceiver, Options, Pacing, Pump, Running, Stop};
use crate::config::Settings;
use crate::enroll::renew;
use crate::heads::{HeadSet, Heads};
use crate::ledger::{Dropped, Ledger, Ticket};
use crate::meter::Meter;
use crate::metrics::{Metrics, View};
use crate::pace::Pace;
use crate::releases::keeper::Port;
use crate::releases::{self, Opened};
use crate::sinks::mqtt::Telling;
use crate::sinks::{self, Event, FrameInfo, Overflow, Writer};
use crate::uplink::dial::{Dialer, Greeting};
use crate::uplink::link::{self, Link};
use crate::uplink::patches::Patches;
use crate::uplink::prepare::Preparer;
use crate::uplink::session::OnWire;
use crate::work::Work;
pub use watch::{Asked, Summary, Watch};

use dispatch::{Dispatch, End};
use order::Order;
use stale::Latest;
use way::Way;

/// A live frame's answer is news for this long.
const LIVE_DEADLINE: Duration = Duration::from_secs(2);
/// Pictures from a disk can wait for a slow encoder: a large model on a small CPU takes seconds a frame.
const LOSSLESS_DEADLINE: Duration = Duration::from_secs(120);
/// Attempts for a frame that must not be lost: one encoder restart and one bad connection, and some more.
const LOSSLESS_ATTEMPTS: u32 = 5;
/// What a signal leaves frames in flight.
const GRACE: Duration = Duration::from_secs(3);
/// What the capture thread gets to let go of its device.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(3);

/// Runs until the source ends or a signal comes. The counts go to `stderr`.
///
/// # Errors
/// What kept it from starting, or ended it before the source did. Answers that came are written by then.
pub async fn run(settings: Settings, stderr: &mut dyn Write) -> anyhow::Result<()> {
    watched(settings, Watch::default(), stderr).await.map(drop)
}

/// [`run`], watched.
///
/// # Errors
/// As [`run`].
pub async fn watched(settings: Settings, watch: Watch, stderr: &mut dyn Write) -> anyhow::Result<Summary> {
    let Watch { mut meters, enough, endless } = watch;
    let opened = Opened::new(&settings)?;
    let heads = Arc::new(Heads::new(opened.fixed(&settings)?));
    let options = capture_options(&settings, endless);
    let pacing = Pacing::of(&settings.source, &options);
    let identity = Identity::load(&settings.identity)?;
    let camera = settings.camera_name(&identity)?;
    let (releases, port) = opened.start(&settings, &camera, Arc::clone(&heads))?.unzip();
    announce(&settings, &heads.current());
    let greeting = Greeting { instance: rand::random(), camera: camera.clone() };
    let floor = Floor::beside(&settings.identity);
    let dialer = Dialer::new(&settings.identity, identity, greeting)?
        .with_congestion(settings.congestion)
        .with_floor(floor.clone());

    let overflow = if pacing == Pacing::Lossless { Overflow::Wait } else { Overflow::Discard };
    let (sink, writer) = sinks::start(&settings.output, settings.format, overflow)?;
    // Opening lists folders and asks devices: not for the thread that drives the connection.
    let source = settings.source.clone();
    let Running { frames, losses, pump } =
        tokio::task::spawn_blocking(move || capture::start(&source, &options)).await.context("capture")??;
    let (ledger, pace, work) = (Ledger::default(), Arc::<Pace>::default(), Arc::<Work>::default());
    let link = start_link(dialer, &settings, (Arc::clone(&heads), Arc::clone(&work)), port);
    let telling = Telling::start(&settings, &camera, &heads).context("mqtt: no thread")?;
    let _renewal = settings.enroll.clone().map(|server| renew::start(&settings.identity, server, floor));
    let _metrics = match settings.metrics {
        Some(endpoint) => {
            let metrics = Arc::new(Metrics::default());
            meters.push(Arc::clone(&metrics) as Arc<dyn Meter>);
            let view = View::new(metrics, &ledger, (&heads, &work), &link, &pace);
            Some(view.with_mqtt(telling.as_ref().map(Telling::counts)).serve(endpoint)?)
        }
        None => None,
    };

    let way = Arc::new(Way {
        camera: camera.into(),
        preparer: Preparer {
            uplink: settings.uplink,
            masks: settings.masks.clone(),
            limits: Limits::default(),
        },
        patches: Patches::new(&settings.uplink, settings.reuse_for).map(Arc::new),
        encoding: settings.embedding,
        deadline: settings.deadline.unwrap_or(match pacing {
            Pacing::Lossless => LOSSLESS_DEADLINE,
            _ => LIVE_DEADLINE,
        }),
        attempts: if pacing == Pacing::Lossless { LOSSLESS_ATTEMPTS } else { 1 },
        heads,
        ledger,
        latest: Latest::default(),
        link: link.state(),
        pace,
        sink: sink.clone(),
        board: telling.as_ref().map(Telling::board),
        order: (pacing == Pacing::Lossless).then(|| Order::new(window(&settings))),
        hurry: Stop::new(),
        work,
        meters,
    });
    let losses = tokio::spawn(report_losses(losses, Arc::clone(&way)));
    let stale = tokio::spawn(stale::repeat(Arc::clone(&way), settings.stale_every));
    let mut dispatch = Dispatch::new(Arc::clone(&way), frames);

    let mut signals = Signals::new()?;
    let _manager = Manager::ready();
    let end = tokio::select! {
        end = dispatch.run() => end,
        () = signals.next() => End::Signal,
        () = sink.closed() => End::ReaderGone,
        () = enough => End::Enough,
    };
    stale.abort();
    drop(sink);
    Takedown { end, way, dispatch, losses, pump, link, writer, telling, signals, releases }.run(stderr).await
}

/// `endless`: what ends begins again, at fixed times.
fn capture_options(settings: &Settings, endless: bool) -> Options {
    let &Settings { fps, size, pixels, .. } = settings;
    Options { fps, size, pixels, repeat: endless, steady: endless, ..Options::default() }
}

fn announce(settings: &Settings, heads: &HeadSet) {
    tracing::info!(source = %settings.source, uplink = settings.uplink.id(), "starting");
    if !settings.masks.is_empty() {
        tracing::info!(regions = settings.masks.len(), "hidden before a frame leaves this box");
    }
    for loaded in heads.iter() {
        let manifest = loaded.head.manifest();
        let (head, release, space) = (&manifest.name, &loaded.info.release, loaded.space.short());
        tracing::info!(head, release, %space, "head loaded");
        if manifest.uplink != settings.uplink.id() {
            tracing::warn!(
                "head {head} was trained on frames sent as {}, this agent sends {}: answers may be worse. Set \
                 [uplink] accordingly, or train with `dc-encoder embed --uplink {}`",
                manifest.uplink,
                settings.uplink.id(),
                settings.uplink.id()
            );
        }
    }
    if heads.spaces().len() > 1 {
        tracing::warn!(
            "the heads read {} different embedding spaces: an encoder gives one",
            heads.spaces().len()
        );
    }
    if heads.iter().next().is_none() && settings.heads_dir.is_some() {
        tracing::info!("no heads yet: they are pushed, or installed with `edge-agent heads install`");
    } else if heads.iter().next().is_none() {
        tracing::warn!("no heads: frames are sent, but there is nothing to answer. Name some: --head FILE");
    }
}

/// Frames of a lossless source that may be unfinished at one time. Of patches only the newest count: a frame that is tried
/// again must not be overtaken.
fn window(settings: &Settings) -> u16 {
    if settings.uplink.patches == Policy::All { settings.max_in_flight } else { 1 }
}

fn start_link(
    dialer: Dialer,
    settings: &Settings,
    (heads, work): (Arc<Heads>, Arc<Work>),
    releases: Option<Port>,
) -> Link {
    // An encoder of another space may have heads for it, and the agent must meet it to get them.
    let any = releases.is_some() && settings.heads.is_empty();
    let options = link::Options {
        servers: settings.servers.clone(),
        on_wire: OnWire {
            in_flight: settings.max_in_flight,
            patches: settings.uplink.patches != Policy::All,
        },
        spaces: Box::new(move || if any { Vec::new() } else { heads.current().spaces() }),
        work,
        releases,
        give_up: settings.source.is_finite(),
    };
    Link::start(dialer, options)
}

/// One line for each frame that capture lost.
async fn report_losses(mut losses: LossReceiver, way: Arc<Way>) {
    while let Some(loss) = losses.next().await {
        match loss {
            Loss::One(lost) => {
                let frame = way.info(lost.seq, lost.captured_at, lost.id);
                way.dropped(way.ledger.captured(), frame, lost.reason.into()).await;
            }
            Loss::Many { count, first_seq, last_seq } => {
                let reason = Dropped::Unlisted(format!("{count} frames up to number {last_seq}"));
                (1..count).for_each(|_| way.ledger.captured().dropped(&reason));
                let frame = way.info(first_seq, jiff::Timestamp::now(), None);
                way.dropped(way.ledger.captured(), frame, reason).await;
            }
        }
    }
}

/// SIGINT (Ctrl-C) and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.0.recv() => {}, _ = self.1.recv() => {} }
    }
}

/// The parts of a run that must end in order.
struct Takedown {
    end: End,
    way: Arc<Way>,
    dispatch: Dispatch,
    losses: JoinHandle<()>,
    pump: Pump,
    link: Link,
    writer: Writer,
    telling: Option<Telling>,
    signals: Signals,
    releases: Option<releases::Running>,
}

impl Takedown {
    async fn run(mut self, stderr: &mut dyn Write) -> anyhow::Result<Summary> {
        self.pump.stop();
        self.finish_frames().await;
        let Self { end, way, dispatch, losses, pump, link, writer, telling, releases, .. } = self;
        drop(dispatch);
        // Beside what follows: a broker that stalls does not hold it up.
        let telling = telling.map(|telling| tokio::spawn(telling.stop()));
        let captured = tokio::task::spawn_blocking(move || pump.finish(CAPTURE_PATIENCE)).await?;
        // Ends with the capture thread, unless that is stuck in its device.
        let stuck = losses.abort_handle();
        if tokio::time::timeout(CAPTURE_PATIENCE, losses).await.is_err() {
            stuck.abort();
            tracing::warn!("the capture thread is stuck: its last frames may be missing from the counts");
        }
        let encoder = watch::asked(&way.link.borrow());
        link.close().await;
        drop(releases);

        let ledger = way.ledger.clone();
        if let Ok(captured) = captured {
            (ledger.counts().captured..captured).for_each(|_| drop(ledger.captured()));
        }
        way.flush().await;
        // The last sink goes with it, and the writer ends.
        drop(way);
        let written = writer.finish().await;
        if let Some(telling) = telling {
            telling.await?;
        }
        // Standard error may be closed; the exit status still tells.
        let _ = writeln!(stderr, "{}", ledger.counts());
        written?;
        captured?;
        match end {
            End::Source | End::Signal | End::ReaderGone | End::Enough => {
                Ok(Summary { counts: ledger.counts(), encoder })
            }
            End::Hopeless(words) => anyhow::bail!("no encoder takes this agent: {words}"),
        }
    }

    /// Lets frames in flight end; a signal makes that short, a second one shorter.
    async fn finish_frames(&mut self) {
        let grace = match self.end {
            // A lossless frame may wait for its encoder as long as it likes; a signal ends that.
            End::Source => Duration::MAX,
            End::Signal => GRACE,
            End::ReaderGone | End::Enough | End::Hopeless(_) => Duration::ZERO,
        };
        tokio::select! {
            () = self.dispatch.drain() => return,
            () = sleep(grace) => {}
            () = self.signals.next() => {}
        }
        self.way.hurry.stop();
        if tokio::time::timeout(GRACE, self.dispatch.drain()).await.is_err() {
            tracing::warn!("the reader of the answers does not read: the last lines were not written");
        }
    }
}

async fn sleep(time: Duration) {
    match tokio::time::Instant::now().checked_add(time) {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Way {
    /// Which frame a line is about.
    fn info(&self, seq: u64, captured_at: jiff::Timestamp, id: Option<String>) -> FrameInfo {
        FrameInfo { camera: Arc::clone(&self.camera), seq, captured_at, id: id.map(Into::into) }
    }

    /// Ends a frame without an answer.
    async fn dropped(&self, ticket: Ticket, frame: FrameInfo, reason: Dropped) {
        ticket.dropped(&reason);
        let seq = frame.seq;
        self.finish(seq, vec![Event::Dropped { frame, reason: reason.to_string() }]).await;
    }

    /// Writes a frame's lines: at once, or when it is their turn.
    async fn finish(&self, seq: u64, lines: Vec<Event>) {
        if let Some(order) = &self.order {
            return order.finish(seq, lines, &self.sink).await;
        }
        for line in lines {
            self.sink.send(line).await;
        }
    }

    async fn flush(&self) {
        if let Some(order) = &self.order
            && tokio::time::timeout(GRACE, order.flush(&self.sink)).await.is_err()
        {
            tracing::warn!("the reader of the answers does not read: the last lines were not written");
        }
    }
}
