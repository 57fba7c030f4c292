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

/// [`measure`] over QUIC, over TCP at `tcp`, over TCP again and over QUIC again, half the plan each: what drifts with time
/// (heat, other loads) falls on both alike.
///
/// # Errors
/// As [`measure`], of any.
pub async fn compare(
    settings: Settings,
    tcp: ServerAddr,
    plan: Plan,
    stderr: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let half = Plan { frames: plan.frames.div_ceil(2), within: plan.within.map(|time| time / 2), ..plan };
    let over_tcp = Settings { servers: vec![tcp], ..settings.clone() };
    let mut quic = measure(settings.clone(), half, stderr).await?;
    if quic.cut_short.is_some() {
        return Ok(quic);
    }
    let mut tcp = measure(over_tcp.clone(), half, stderr).await?;
    if tcp.cut_short.is_none() {
        tcp.and(measure(over_tcp, half, stderr).await?);
    }
    if tcp.cut_short.is_none() {
        quic.and(measure(settings, half, stderr).await?);
    }
    quic.report.tcp = Some(Box::new(tcp.report));
    let over_tcp = tcp.cut_short.map(|why| format!("over TCP: {why}"));
    Ok(Outcome { cut_short: over_tcp.or(quic.cut_short), ..quic })
}

impl Outcome {
    /// Adds what was measured later, numbered on from the last frame: what was under way when a run ended is nobody's loss.
    fn and(&mut self, later: Self) {
        let samples = &mut self.report.samples;
        let next = samples.last().map_or(0, |last| last.seq + 1);
        let first = later.report.samples.first().map_or(0, |first| first.seq);
        let numbered = later.report.samples.into_iter();
        samples.extend(numbered.map(|sample| Sample { seq: next + (sample.seq - first), ..sample }));
        self.cut_short = later.cut_short;
    }
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

#[cfg(test)]
mod tests {
    use super::report::tests::report;
    use super::*;

    #[test]
    fn a_later_run_goes_on_where_the_first_ended() {
        let outcome = |frames: &[(u64, u32)], cut_short: Option<&str>| Outcome {
            report: report(Some(10.0), frames),
            cut_short: cut_short.map(str::to_owned),
        };
        let mut both = outcome(&[(20, 5), (21, 5), (23, 5)], None);
        both.and(outcome(&[(20, 5), (22, 5)], Some("why")));
        let numbers: Vec<u64> = both.report.samples.iter().map(|sample| sample.seq).collect();
        assert_eq!(numbers, [20, 21, 23, 24, 26]);
        assert_eq!((both.report.missed(), both.cut_short.as_deref()), (2, Some("why")));
    }
}
