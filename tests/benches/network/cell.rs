//! One cell: a link, a transport, and what came of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use edge_agent::config::{ServerAddr, Transport};
use shared::tls::Congestion;
use tests::age::ages;
use tests::answers::quantile;
use tests::netns::{FAR, Network, Shape};

use crate::camera::{PERIOD, connect, film};
use crate::site::Site;

const PORT: u16 = 4433;
/// 20 Mbit/s, twelve times what the frames need: a mobile network on a good day.
const RATE: f64 = 2.5e6;
/// A hundred milliseconds of that.
const QUEUE_BYTES: usize = 250_000;
/// Until the connection knows the link.
const WARM_UP: Duration = Duration::from_secs(3);
/// How often the age is looked at.
const STEP: Duration = Duration::from_millis(10);
pub(crate) const SETTING: &str = "10 frames a second of 20,000 bytes, embeddings of 512 in f16; 20 Mbit/s with a queue of \
    100 ms, packets lost both ways, each for itself; encoder: a stand-in that takes no time. wins: the newest frame goes \
    first, at most 4 under way, others wait in a place for one, given up after 2 s; all: oldest first, none given up.";

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) round_trip: Duration,
    pub(crate) loss: f64,
    pub(crate) transport: Transport,
    pub(crate) congestion: Congestion,
    pub(crate) newest_wins: bool,
    /// Of all chance: packets of the same number are lost whatever carries them.
    pub(crate) seed: u64,
}

/// Milliseconds at p50, p95 and p99.
pub(crate) struct Figures {
    /// From capture to answer, of the frames that were answered; not a number without any.
    pub(crate) answers: [f64; 3],
    /// Of the newest answer.
    pub(crate) ages: [f64; 3],
    /// Share of the frames.
    pub(crate) answered: f64,
}

impl Cell {
    pub(crate) const HEADINGS: &str =
        "  RTT loss transport  frames  answered   answer p50    p95    p99      age p50    p95    p99  (ms)";

    pub(crate) fn row(&self, figures: &Figures) -> String {
        let Self { round_trip, loss, transport, congestion, newest_wins, .. } = self;
        let transport = match transport {
            Transport::Quic => format!("QUIC {congestion}"),
            Transport::Tcp => format!("TCP {congestion}"),
        };
        let [a50, a95, a99] = figures.answers.map(shown);
        let [p50, p95, p99] = figures.ages.map(shown);
        format!(
            "{:5} {:3}% {transport:<10} {:<6} {:8.1}% {a50:>12} {a95:>6} {a99:>6} {p50:>12} {p95:>6} {p99:>6}",
            round_trip.as_millis(),
            loss * 100.0,
            if *newest_wins { "wins" } else { "all" },
            figures.answered * 100.0
        )
    }

    /// Measures for so long, after the warm-up.
    pub(crate) fn measure(&self, time: Duration) -> anyhow::Result<Figures> {
        let shape = Shape {
            delay: self.round_trip / 2,
            loss: self.loss,
            rate: Some(RATE),
            queue: QUEUE_BYTES,
            ..Shape::default()
        };
        let network = Network::start(shape.clone(), shape, self.seed)?;
        let (near, far) = (network.near.runtime()?, network.far.runtime()?);
        let site = Site::new();
        let (identity, cell) = (site.camera(), *self);
        let wait = tokio::runtime::Builder::new_current_thread().build()?;
        let server = wait.block_on(far.spawn(async move {
            let server = site.serve(SocketAddr::from((FAR, PORT)));
            server.map(|server| (server, site))
        }))??;
        let (answers, start) = wait.block_on(near.spawn(async move {
            let server = ServerAddr { transport: cell.transport, host: FAR.to_string(), port: PORT };
            let (session, _control) = connect(&identity, &server, cell.congestion).await?;
            let start = Instant::now();
            anyhow::Ok((film(session, cell.newest_wins, WARM_UP + time).await, start))
        }))??;
        let figures = figures(&answers, (start + WARM_UP, start + WARM_UP + time));
        // Threads first, then the link.
        near.shutdown_background();
        drop(server);
        far.shutdown_background();
        figures.with_context(|| format!("{self:?}"))
    }
}

/// Where no frame of the measured time was answered in it, there is nothing to show.
fn shown(ms: f64) -> String {
    if ms.is_nan() { "–".to_owned() } else { format!("{ms:.1}") }
}

fn figures(answers: &[tests::age::Answered], (from, until): (Instant, Instant)) -> anyhow::Result<Figures> {
    let measured: Vec<f64> = answers
        .iter()
        .filter(|answer| (from..until).contains(&answer.captured))
        .map(|answer| (answer.at - answer.captured).as_secs_f64() * 1e3)
        .collect();
    ensure!(!answers.is_empty(), "no frame was answered");
    let at = |values: &[f64]| [0.5, 0.95, 0.99].map(|q| quantile(values, q).unwrap_or(f64::NAN));
    let due = (until - from).as_secs_f64() / PERIOD.as_secs_f64();
    Ok(Figures {
        answers: at(&measured),
        ages: at(&ages(answers, STEP, (from, until))),
        answered: measured.len() as f64 / due,
    })
}

/// Whether the kernel's TCP has a congestion control of this name.
pub(crate) fn kernel_has(name: &str) -> bool {
    let available = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    available.unwrap_or_default().split_whitespace().any(|available| available == name)
}
