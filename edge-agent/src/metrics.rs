//! What Prometheus reads from a running agent.
//!
//! ```text
//! frames ─► Metrics (times, bytes) ─┐
//! Ledger, heads' tallies, link ─────┴─► page
//! ```
//! What is counted elsewhere is read there: the page cannot say anything else than the summary at the end of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::metrics::{self, Endpoint, Histogram, Kind, MetricsError, Page, SECONDS, Serving};
use tokio::sync::watch;

use crate::heads::Heads;
use crate::ledger::{Dropped, Ledger};
use crate::meter::{Measured, Meter, Stage};
use crate::pace::Pace;
use crate::sinks::mqtt::Counts as MqttCounts;
use crate::uplink::link::{Link, State};
use crate::work::Work;

/// Where the time of answered frames goes, and how many bytes were sent.
#[derive(Debug)]
pub struct Metrics {
    whole: Histogram,
    stages: [Histogram; Stage::ALL.len()],
    jpeg_bytes: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let times = |_| Histogram::new(SECONDS);
        Self { whole: times(Stage::Wait), stages: Stage::ALL.map(times), jpeg_bytes: AtomicU64::new(0) }
    }
}

impl Meter for Metrics {
    fn prepared(&self, bytes: usize) {
        self.jpeg_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn answered(&self, frame: &Measured) {
        self.whole.add_time(frame.stages.iter().sum());
        for (histogram, time) in self.stages.iter().zip(frame.stages) {
            histogram.add_time(time);
        }
    }
}

/// All that the page is made of.
#[derive(Debug)]
pub struct View {
    metrics: Arc<Metrics>,
    ledger: Ledger,
    heads: Arc<Heads>,
    work: Arc<Work>,
    link: watch::Receiver<State>,
    sessions: Arc<AtomicU64>,
    pace: Arc<Pace>,
    mqtt: Option<Arc<MqttCounts>>,
}

impl View {
    /// Of a run's parts.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        ledger: &Ledger,
        (heads, work): (&Arc<Heads>, &Arc<Work>),
        link: &Link,
        pace: &Arc<Pace>,
    ) -> Self {
        let (heads, work, pace) = (Arc::clone(heads), Arc::clone(work), Arc::clone(pace));
        let (ledger, link, sessions) = (ledger.clone(), link.state(), link.sessions());
        Self { metrics, ledger, heads, work, link, sessions, pace, mqtt: None }
    }

    /// With a broker's part.
    #[must_use]
    pub fn with_mqtt(self, mqtt: Option<Arc<MqttCounts>>) -> Self {
        Self { mqtt, ..self }
    }

    /// Serves the page for as long as what it returns lives.
    ///
    /// # Errors
    /// [`MetricsError::Bind`].
    pub fn serve(self, endpoint: Endpoint) -> Result<Serving, MetricsError> {
        metrics::serve(endpoint, move || self.page())
    }

    /// The page now.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = Page::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.family(Kind::Gauge, "fth_agent_info", "What runs here; always 1.").sample(&version, 1);
        self.frames(&mut page);
        self.times(&mut page);
        self.work(&mut page);
        self.link(&mut page);
        self.heads(&mut page);
        self.mqtt(&mut page);
        page.finish()
    }

    fn frames(&self, page: &mut Page) {
        let counts = self.ledger.counts();
        page.counter("fth_agent_frames_captured_total", "Frames the source gave.", counts.captured);
        let (name, help) =
            ("fth_agent_frames_answered_total", "Frames with an embedding, their own or the last.");
        page.counter(name, help, counts.answered);
        let (name, help) =
            ("fth_agent_frames_reused_total", "Answered frames that showed nothing new, and were not sent.");
        page.counter(name, help, counts.reused);
        let dropped = |key| counts.dropped.get(key).copied().unwrap_or_default();
        let (name, help) = ("fth_agent_frames_dropped_total", "Frames without an answer, by why.");
        page.counters(name, help, "reason", Dropped::KEYS.map(|key| (key, dropped(key))));
        let (name, help) = ("fth_agent_frames_in_progress", "Frames neither answered nor dropped yet.");
        page.gauge(name, help, counts.open() as f64);
        let name = "fth_agent_rate_limit_frames_per_second";
        let help = "What the agent allows itself while its encoder is overloaded; 0: no limit.";
        page.gauge(name, help, self.pace.limit().unwrap_or_default());
        let (name, help) = ("fth_agent_frame_bytes_total", "Bytes of JPEGs made ready for an encoder.");
        page.counter(name, help, self.metrics.jpeg_bytes.load(Ordering::Relaxed));
    }

    fn times(&self, page: &mut Page) {
        let (name, help) =
            ("fth_agent_frame_duration_seconds", "Answered frames, from capture to written lines.");
        page.family(Kind::Histogram, name, help).histogram(&[], &self.metrics.whole);
        let (name, help) =
            ("fth_agent_stage_duration_seconds", "The same by stage; network is what remains.");
        let mut family = page.family(Kind::Histogram, name, help);
        for (stage, times) in Stage::ALL.into_iter().zip(&self.metrics.stages) {
            family.histogram(&[("stage", stage.name())], times);
        }
    }

    fn work(&self, page: &mut Page) {
        let work = self.work.so_far();
        let flops = [("heads", work.head_flops), ("pictures", work.picture_flops)];
        let help = "Operations on this box, counted from shapes; pictures are resizing and JPEG.";
        page.counters("fth_agent_flops_total", help, "work", flops);
        let (name, help) =
            ("fth_agent_cpu_seconds_total", "Processor time of this program, and of an ffmpeg that ended.");
        let seconds = Duration::from_micros(work.cpu_us).as_secs_f64();
        page.family(Kind::Counter, name, help).sample(&[], seconds);
    }

    fn link(&self, page: &mut Page) {
        let sessions = self.sessions.load(Ordering::Relaxed);
        page.counter("fth_agent_sessions_total", "How often an encoder welcomed this agent.", sessions);
        let state = self.link.borrow().clone();
        let State::Up(session) = state else {
            return page.gauge("fth_agent_connected", "1 while an encoder takes frames.", 0.0);
        };
        page.gauge("fth_agent_connected", "1 while an encoder takes frames.", 1.0);
        let round_trip = session.round_trip().as_secs_f64();
        page.gauge(
            "fth_agent_round_trip_seconds",
            "To the encoder and back, as QUIC measures it, or the last ping over TCP.",
            round_trip,
        );
        let (welcome, space) = (session.welcome(), session.welcome().space.to_string());
        let labels =
            [("server", session.server()), ("model", welcome.model.as_str()), ("space", space.as_str())];
        page.family(Kind::Gauge, "fth_agent_encoder_info", "Who answers; 1 while connected.")
            .sample(&labels, 1);
    }

    fn heads(&self, page: &mut Page) {
        let heads = self.heads.current();
        let labelled: Vec<_> = heads
            .iter()
            .map(|loaded| {
                ([("head", &*loaded.info.name), ("release", &*loaded.info.release)], loaded.tally.counts())
            })
            .collect();
        let mut family =
            page.family(Kind::Gauge, "fth_agent_head_info", "The release of each head that answers now.");
        labelled.iter().for_each(|(labels, _)| family.sample(labels, 1));
        let help = "Frames a head answered since its release was loaded.";
        let mut family = page.family(Kind::Counter, "fth_agent_head_answers_total", help);
        labelled.iter().for_each(|(labels, counts)| family.sample(labels, counts.answers));
        let help = "Frames a head failed on since its release was loaded.";
        let mut family = page.family(Kind::Counter, "fth_agent_head_failures_total", help);
        labelled.iter().for_each(|(labels, counts)| family.sample(labels, counts.failures));
        let help = "Time a head ran, since its release was loaded.";
        let mut family = page.family(Kind::Counter, "fth_agent_head_busy_seconds_total", help);
        labelled.iter().for_each(|(labels, counts)| family.sample(labels, counts.busy.as_secs_f64()));
    }

    /// Nothing where no broker is configured.
    fn mqtt(&self, page: &mut Page) {
        let Some(counts) = &self.mqtt else { return };
        let connected = if counts.connected.load(Ordering::Relaxed) { 1.0 } else { 0.0 };
        page.gauge("fth_agent_mqtt_connected", "1 while the MQTT broker takes answers.", connected);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (name, help) = ("fth_agent_mqtt_connections_total", "How often the broker welcomed this agent.");
        page.counter(name, help, read(&counts.connections));
        let (name, help) = ("fth_agent_mqtt_published_total", "Values that the broker acknowledged.");
        page.counter(name, help, read(&counts.published));
        let name = "fth_agent_mqtt_dropped_total";
        let help = "Values that were due while the broker was away or had not taken the one before.";
        page.counter(name, help, read(&counts.dropped));
    }
}
