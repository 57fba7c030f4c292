//! The main job, shown: two real programs over QUIC on loopback, heads trained minutes ago, live answers, and a head
//! that is replaced while it answers.
//!
//! ```text
//! prepare (PKI, model, footage, embeddings, heads) ─► live (serve + run as processes) ─► table ─► summary
//!                                                      └─ after a while: head publish (swap)
//! ```

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    answers::Line,
    setup::{self, Server, prepare},
};

use swap::Operator;

mod summary;
mod swap;
mod table;

/// Frame rate of the live part, frames per second.
const FPS: u32 = 5;
/// Long enough for a frame on any machine: the last one has no newer one to give way to, and is answered.
const DEADLINE: &str = "30s";
/// Frames that are shown before the second release is published.
const SWAP_AFTER: usize = 10;
/// Programs that were asked to end have this long.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// The encoder, the heads and the plaza's live part.
    pub setup: setup::Options,
    /// The user's own footage; the synthetic plaza otherwise.
    pub source: Option<String>,
    /// With the user's footage: how long to watch.
    pub watch: Duration,
    /// Keep everything in this folder instead of a temporary one.
    pub keep: Option<PathBuf>,
}

/// Runs the whole demo; prints as it goes.
///
/// # Errors
/// Any step that failed, and a run in which no answer came back over QUIC.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let dir = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let prepared = prepare(&dir, &options.setup)?;
    let operator = Operator::new(&prepared, &dir)?;
    let mut server = operator.serve()?;
    println!("\ndc-encoder (pid {}) serves on {}", server.encoder.pid(), server.address);
    let table = table::Table::new(&prepared.truth);
    let lines = watch(&operator, &server, options, table)?;
    let status = server.encoder.stop(STOP_WITHIN)?;
    if !status.success() {
        bail!("dc-encoder ended with {status}:\n{}", server.encoder.log());
    }
    summary::print(&lines, &prepared, options)?;
    if let Some(keep) = &options.keep {
        println!("\neverything is kept in {}", keep.display());
    }
    Ok(())
}

fn watch(
    operator: &Operator<'_>,
    server: &Server,
    options: &Options,
    mut table: table::Table<'_>,
) -> anyhow::Result<Vec<Line>> {
    let source = options.source.clone().unwrap_or_else(|| operator.live());
    let fps = FPS.to_string();
    let mut args = vec!["--source", &source];
    if options.source.is_none() {
        args.extend(["--fps", &fps, "--deadline", DEADLINE]);
    }
    let mut agent = operator.agent(server, &args)?;
    println!("edge-agent (pid {}) sends {} over QUIC\n", agent.pid(), shown_source(options));
    let stdout = agent.stdout().context("the agent's output is piped")?;
    let (mut lines, mut swapped) = (Vec::new(), false);
    let until = options.source.is_some().then(|| Instant::now() + options.watch);
    for text in BufReader::new(stdout).lines() {
        let text = text?;
        let line = Line::parse(&text).with_context(|| format!("edge-agent printed: {text}"))?;
        table.add(&line);
        lines.push(line);
        if !swapped && table.rows() >= SWAP_AFTER {
            swapped = true;
            operator.swap(server)?;
        }
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
    }
    table.finish();
    let status = if until.is_some() { agent.stop(STOP_WITHIN)? } else { agent.wait(STOP_WITHIN)? };
    if !status.success() {
        bail!("edge-agent ended with {status}:\n{}", agent.log());
    }
    Ok(lines)
}

/// The source as it may be shown: credentials stay out.
fn shown_source(options: &Options) -> String {
    match &options.source {
        Some(source) => shared::telemetry::redact_url(source),
        None => format!("{} live plaza frames at {FPS} per second", options.setup.live_frames),
    }
}
