//! What the server counts, and the page that Prometheus reads.
//!
//! ```text
//! handshake ─► greeting ─► session ─► frame ─► pipeline
//!     └───────────┴───────────┴─ Metrics ─┴─ queues ─┴─► page
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::{Answer, DropReason, FrameReplyMsg, RefuseCode, RejectCode, ServerTimings};
use quinn::{ConnectionStats, Endpoint};
use shared::metrics::{Counters, Histogram, Kind, MetricsError, Page, SECONDS, Serving, serve};

use super::config::Limits;
use super::{Config, kib};
use crate::ledger::Ledger;
use crate::session::Context;
use crate::session::rates::Over;

/// A frame whose agent withdrew it or went away.
pub(crate) const WITHDRAWN: &str = "withdrawn";
/// An embedding was sent.
const ANSWERED: &str = "answered";

/// Why a connection came to nothing before the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHandshake {
    /// TLS, or the network.
    Failed,
    /// It took too long.
    Timeout,
    /// There are too many connections.
    Limit,
    /// Too many handshakes are under way.
    HalfOpen,
    /// Too many handshakes began within a second.
    Rate,
}

impl NoHandshake {
    const ALL: [Self; 5] = [Self::Failed, Self::Timeout, Self::Limit, Self::HalfOpen, Self::Rate];

    const fn key(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::HalfOpen => "half_open",
            Self::Rate => "rate",
        }
    }
}

/// What all sessions count together.
#[derive(Debug)]
pub(crate) struct Metrics {
    frames: Counters,
    refused: Counters,
    handshakes: Counters,
    over: Counters,
    proofs: AtomicU64,
    admitted: AtomicU64,
    migrated: AtomicU64,
    frame_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    stages: Stages,
}

/// Where the time of answered frames goes.
#[derive(Debug)]
struct Stages {
    receive: Histogram,
    queue: Histogram,
    decode: Histogram,
    encode: Histogram,
    reply: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let times = || Histogram::new(SECONDS);
        let outcomes =
            DropReason::ALL.map(DropReason::key).into_iter().chain(RejectCode::ALL.map(RejectCode::key));
        Self {
            frames: Counters::new([ANSWERED, WITHDRAWN].into_iter().chain(outcomes)),
            refused: Counters::new(RefuseCode::ALL.map(RefuseCode::key)),
            handshakes: Counters::new(NoHandshake::ALL.map(NoHandshake::key)),
            over: Counters::new(Over::ALL.map(Over::key)),
            proofs: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            migrated: AtomicU64::new(0),
            frame_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            stages: Stages {
                receive: times(),
                queue: times(),
                decode: times(),
                encode: times(),
                reply: times(),
            },
        }
    }

    /// A frame stream ends with this reply.
    pub(crate) fn replied(&self, reply: &FrameReplyMsg) {
        self.frame(match reply {
            FrameReplyMsg::Answer(Answer { timings, .. }) => {
                self.stages.add(timings);
                ANSWERED
            }
            FrameReplyMsg::Dropped { reason, .. } => reason.key(),
            FrameReplyMsg::Rejected { code, .. } => code.key(),
        });
    }

    /// A frame stream ends otherwise.
    pub(crate) fn frame(&self, outcome: &'static str) {
        self.frames.add(outcome);
    }

    /// An answer was with its agent after this time.
    pub(crate) fn delivered(&self, took: Duration) {
        self.stages.reply.add_time(took);
    }

    /// A whole JPEG arrived.
    pub(crate) fn jpeg(&self, bytes: usize) {
        self.frame_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// A session goes on from another address.
    pub(crate) fn migrated(&self) {
        self.migrated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, code: RefuseCode) {
        self.refused.add(code.key());
    }

    /// A frame was dropped because of a limit.
    pub(crate) fn over(&self, limit: Over) {
        self.over.add(limit.key());
    }

    /// A client was asked to prove its address.
    pub(crate) fn proof(&self) {
        self.proofs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn no_handshake(&self, why: NoHandshake) {
        self.handshakes.add(why.key());
    }

    /// Adds what a connection moved since `before`: bytes received and sent.
    pub(crate) fn moved(&self, before: &ConnectionStats, now: &ConnectionStats) -> (u64, u64) {
        let received = now.udp_rx.bytes.saturating_sub(before.udp_rx.bytes);
        let sent = now.udp_tx.bytes.saturating_sub(before.udp_tx.bytes);
        self.received_bytes.fetch_add(received, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent, Ordering::Relaxed);
        (received, sent)
    }

    fn write(&self, page: &mut Page) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let frames = self.frames.counts();
        page.counters("fth_encoder_frames_total", "Frame streams that ended, by how.", "outcome", frames);
        let (name, help) = ("fth_encoder_frame_bytes_total", "Bytes of JPEGs that arrived whole.");
        page.counter(name, help, load(&self.frame_bytes));
        let mut family = page.family(
            Kind::Histogram,
            "fth_encoder_stage_duration_seconds",
            "Time of answered frames by stage; reply ends when the agent has it.",
        );
        for (stage, times) in self.stages.named() {
            family.histogram(&[("stage", stage)], times);
        }
        let (name, help) = ("fth_encoder_sessions_admitted_total", "Agents that were admitted.");
        page.counter(name, help, load(&self.admitted));
        let (name, help) = (
            "fth_encoder_sessions_migrated_total",
            "Times that an agent went on from another address, in the same session.",
        );
        page.counter(name, help, load(&self.migrated));
        let refused = self.refused.counts();
        page.counters(
            "fth_encoder_agents_refused_total",
            "Agents that were refused, by why.",
            "reason",
            refused,
        );
        page.counters(
            "fth_encoder_connections_refused_total",
            "Connections that came to nothing before a greeting, by why.",
            "reason",
            self.handshakes.counts(),
        );
        let (name, help) =
            ("fth_encoder_address_proofs_total", "Clients that were asked to prove their address.");
        page.counter(name, help, load(&self.proofs));
        page.counters(
            "fth_encoder_frames_over_limit_total",
            "Frames that were dropped as overloaded because of a limit, by its key below limits.",
            "limit",
            self.over.counts(),
        );
        page.counters(
            "fth_encoder_network_bytes_total",
            "UDP payload of agents' QUIC connections, up to half a second late.",
            "direction",
            [("received", load(&self.received_bytes)), ("sent", load(&self.sent_bytes))],
        );
    }
}

impl Stages {
    fn add(&self, timings: &ServerTimings) {
        let ServerTimings { receive_us, queue_us, decode_us, encode_us, .. } = *timings;
        let stages = [&self.receive, &self.queue, &self.decode, &self.encode];
        for (stage, micros) in stages.into_iter().zip([receive_us, queue_us, decode_us, encode_us]) {
            stage.add_time(Duration::from_micros(micros.into()));
        }
    }

    fn named(&self) -> [(&'static str, &Histogram); 5] {
        let Self { receive, queue, decode, encode, reply } = self;
        [("receive", receive), ("queue", queue), ("decode", decode), ("encode", encode), ("reply", reply)]
    }
}

/// Serves the page, if the configuration says where.
pub(super) fn start(
    config: &Config,
    context: &Arc<Context>,
    endpoint: &Endpoint,
) -> Result<Option<Serving>, MetricsError> {
    let Some(address) = config.metrics else { return Ok(None) };
    let (context, endpoint) = (Arc::clone(context), endpoint.clone());
    let limits = config.limits.clone();
    serve(address, move || page(&context, &endpoint, &limits)).map(Some)
}

/// The accounts of the ledger.
fn write_ledger(ledger: &Ledger, page: &mut Page) {
    let (site, accounts) = ledger.look();
    let source = if site.metered { "meter" } else { "model" };
    let help = "Operations of encoding frames, counted from shapes.";
    let mut family = page.family(Kind::Counter, "fth_encoder_flops_total", help);
    accounts.iter().for_each(|account| family.sample(&[("camera", account.camera.as_str())], account.flops));
    let help = "A camera's share of the energy of the encoder's device, metered or modelled.";
    let mut family = page.family(Kind::Counter, "fth_encoder_energy_joules_total", help);
    for account in &accounts {
        family.sample(&[("camera", account.camera.as_str()), ("source", source)], account.joules);
    }
    let help = "Its energy in seconds without a frame.";
    page.family(Kind::Counter, "fth_encoder_idle_energy_joules_total", help)
        .sample(&[("source", source)], site.idle_joules);
    let help = "UDP payload of a camera's connections, up to half a second late.";
    let mut family = page.family(Kind::Counter, "fth_encoder_camera_network_bytes_total", help);
    for account in &accounts {
        for (direction, bytes) in [("received", account.received), ("sent", account.sent)] {
            family.sample(&[("camera", account.camera.as_str()), ("direction", direction)], bytes);
        }
    }
}

/// Everything there is to say now.
fn page(context: &Context, endpoint: &Endpoint, limits: &Limits) -> String {
    let mut page = Page::default();
    let (welcome, space) = (&context.welcome, context.welcome.space.to_string());
    page.family(Kind::Gauge, "fth_encoder_info", "What serves here; always 1.").sample(
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("model", welcome.model.as_str()),
            ("space", space.as_str()),
        ],
        1,
    );
    context.metrics.write(&mut page);
    context.pipeline.write(&mut page);
    write_ledger(&context.ledger, &mut page);
    if let Some(tap) = &context.archive {
        tap.write(&mut page);
    }
    let in_flight = limits.max_in_flight_together.saturating_sub(context.in_flight.available_permits());
    page.gauge(
        "fth_encoder_frames_in_flight",
        "Frames between their header and their reply.",
        in_flight as f64,
    );
    let memory = kib(limits.frame_memory.as_u64());
    let taken = memory.saturating_sub(context.memory.available_permits()) * 1024;
    let (name, help) = ("fth_encoder_frame_memory_bytes", "Memory taken by received JPEGs.");
    page.gauge(name, help, taken as f64);
    page.gauge("fth_encoder_sessions", "Agents that are connected.", context.live.count() as f64);
    let connections = endpoint.open_connections();
    page.gauge("fth_encoder_connections", "Open connections of any kind.", connections as f64);
    page.gauge("fth_encoder_handshakes", "Handshakes under way.", context.handshakes.count() as f64);
    let draining = u8::from(*context.draining.borrow());
    page.gauge("fth_encoder_draining", "1 while the server drains.", draining.into());
    page.finish()
}
