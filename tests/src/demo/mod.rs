//! The main job, shown: two real programs over QUIC on loopback, heads trained minutes ago, live answers.
//!
//! ```text
//! prepare (PKI, model, footage, embeddings, heads) ─► live (serve + run as processes) ─► table ─► summary
//! ```

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    answers::Line,
    process::{self, Running},
};

mod prepare;
pub mod steps;
mod summary;
mod table;

pub use prepare::{CAMERA, Prepared};

/// Frame rate of the live part, frames per second.
const FPS: u32 = 5;
/// A server that loads a demo model is ready long before this.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Programs that were asked to end have this long.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// Preset of the encoder.
    pub preset: String,
    /// The user's own footage; the synthetic plaza otherwise.
    pub source: Option<String>,
    /// With the user's footage: how long to watch.
    pub watch: Duration,
    /// Labelled frames the heads are trained on.
    pub training_frames: u32,
    /// Frames of the live part.
    pub live_frames: u32,
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
    let prepared = prepare::prepare(&dir, options)?;
    let mut server = serve(&prepared, &dir)?;
    let lines = watch(&prepared, &server, options, &dir)?;
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

struct Server {
    encoder: Running,
    address: String,
}

fn serve(prepared: &Prepared, dir: &Path) -> anyhow::Result<Server> {
    let ready = dir.join("ready");
    let _ = std::fs::remove_file(&ready);
    let mut encoder = Running::start(
        "dc-encoder",
        [
            "serve".as_ref(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
            "--model".as_ref(),
            prepared.model.as_os_str(),
            "--pki".as_ref(),
            prepared.pki.as_os_str(),
            "--ready-file".as_ref(),
            ready.as_os_str(),
        ],
        &dir.join("dc-encoder.log"),
    )?;
    let address = encoder.wait_for_file(&ready, READY_WITHIN)?.trim().to_owned();
    println!("\ndc-encoder (pid {}) serves on {address}", encoder.pid());
    Ok(Server { encoder, address })
}

fn watch(prepared: &Prepared, server: &Server, options: &Options, dir: &Path) -> anyhow::Result<Vec<Line>> {
    let identity = prepared.pki.join("cameras").join(CAMERA);
    let mut args: Vec<String> = vec!["run".into()];
    let source = options.source.clone().unwrap_or_else(|| format!("list:{}", prepared.live.display()));
    for (flag, value) in [
        ("--source", source.clone()),
        ("--server", server.address.clone()),
        ("--identity", identity.display().to_string()),
        ("--camera", CAMERA.to_owned()),
        ("--format", "json".to_owned()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    if options.source.is_none() {
        args.extend(["--fps".to_owned(), FPS.to_string()]);
    }
    for head in &prepared.heads {
        args.extend(["--head".to_owned(), head.display().to_string()]);
    }
    let log = dir.join("edge-agent.log");
    let mut agent = Running::start("edge-agent", &args, &log)?;
    println!("edge-agent (pid {}) sends {} over QUIC\n", agent.pid(), shown_source(options));
    let stdout = agent.stdout().context("the agent's output is piped")?;
    let mut table = table::Table::new(&prepared.truth);
    let mut lines = Vec::new();
    let until = options.source.is_some().then(|| Instant::now() + options.watch);
    for text in BufReader::new(stdout).lines() {
        let text = text?;
        let line = Line::parse(&text).with_context(|| format!("edge-agent printed: {text}"))?;
        table.add(&line);
        lines.push(line);
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
    }
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
        None => format!("{} live plaza frames at {FPS} per second", options.live_frames),
    }
}
