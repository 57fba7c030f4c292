//! `edge-agent latency`: where a frame's time goes, measured with the agent's own run.
//!
//! ```text
//! run (capture ─► … ─► sinks) ── Measured ─► Recorder ─► Report ─► table, JSON, picture
//!        ▲                                      └─ enough
//!        └──────────────────────────────────────┘
//! ```
//! Samples are kept whole, not in a histogram: at 80 bytes a frame that is little, percentiles are exact, and the frames
//! *at* the percentiles can be shown, whose stages belong together. Clocks of two machines
//! are not taken to agree: the encoder's stages come with its reply, and the network is what remains. Which part of it was
//! which way follows from hard bounds on the clocks' offset ([`clocks`](crate::uplink::clocks)), and is shown with them.

mod json;
mod picture;
mod quantiles;
mod recorder;
mod report;
mod table;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Output, ServerAddr, Settings};
use crate::meter::Meter;
use crate::run::{self, Watch};

pub use json::json;
pub use picture::svg;
pub use quantiles::Quantiles;
pub use recorder::{MOST_FRAMES, Recorder, Sample, Verdict};
pub use report::{OneWays, Report};
pub use table::table;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Answered frames to measure, 1 to [`MOST_FRAMES`].
    pub frames: usize,
    /// Or those answered in this time after the warm-up, if that is less.
    pub within: Option<Duration>,
    /// Answered frames that are not measured: connections and caches get warm.
    pub warm_up: u64,
    /// Gives up when no frame is answered for this long.
    pub patience: Duration,
}

/// What a measurement came to.
#[derive(Debug)]
pub struct Outcome {
    /// The measured frames.
    pub report: Report,
    /// Why it ended before its plan, if it did.
    pub cut_short: Option<String>,
}

/// Runs the agent until the plan is fulfilled. Its counts go to `stderr`; answers go to a file if the settings name
/// one.
///
/// # Errors
/// What keeps the agent from running, and that no frame was measured, with the reason.
pub async fn measure(mut settings: Settings, plan: Plan, stderr: &mut dyn Write) -> anyhow::Result<Outcome> {
    if settings.output == Output::Stdout {
        settings.output = Output::Nowhere;
    }
    let source = settings.source.to_string();
    let rate = settings.fps.filter(|_| settings.source.is_finite());
    let recorder = Arc::new(Recorder::new(plan, Instant::now()));
    let watching = Arc::clone(&recorder);
    let watch = Watch {
        meters: vec![Arc::clone(&recorder) as Arc<dyn Meter>],
        enough: Box::pin(async move { watching.enough().await }),
        endless: true,
    };
    let summary = run::watched(settings, watch, stderr).await?;
    let (samples, verdict) = (recorder.samples(), recorder.verdict(Instant::now()));
    let cut_short = cut_short(&plan, samples.len(), verdict, summary.encoder.as_ref().err());
    if samples.is_empty() {
        let why = cut_short.unwrap_or_else(|| "the source ended".to_owned());
        anyhow::bail!("no frame was measured: {why} ({})", summary.counts);
    }
    let (encoder, warm_up) = (summary.encoder.ok(), plan.warm_up);
    Ok(Outcome { report: Report { source, encoder, rate, warm_up, samples, tcp: None }, cut_short })
}

/// [`measure`], and then the same source over TCP at `tcp`.
///
/// # Errors
/// As [`measure`], of either.
pub async fn compare(
    settings: Settings,
    tcp: ServerAddr,
    plan: Plan,
    stderr: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let over_tcp = Settings { servers: vec![tcp], ..settings.clone() };
    let mut quic = measure(settings, plan, stderr).await?;
    if quic.cut_short.is_some() {
        return Ok(quic);
    }
    let tcp = measure(over_tcp, plan, stderr).await?;
    quic.report.tcp = Some(Box::new(tcp.report));
    Ok(Outcome { cut_short: tcp.cut_short.map(|why| format!("over TCP: {why}")), ..quic })
}

fn cut_short(plan: &Plan, frames: usize, verdict: Verdict, down: Option<&Arc<str>>) -> Option<String> {
    let why = match verdict {
        Verdict::Enough => return None,
        Verdict::GiveUp => {
            let patience = humantime::format_duration(plan.patience);
            format!("no frame was answered for {patience}; --patience waits longer")
        }
        Verdict::Until(_) => "the run ended first".to_owned(),
    };
    let down = down.map_or_else(String::new, |words| format!("; no encoder: {words}"));
    Some(format!("{frames} of {} frames: {why}{down}", plan.frames))
}
