//! A peer in Python, asked turn by turn.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};
use dc_encoder::model::Config;
use serde::Deserialize;

/// Runs before the clock starts, so that compilers and allocators have done their work.
const WARM: usize = 2;

#[derive(Debug, Deserialize)]
struct Hello {
    version: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    median: f64,
}

/// A process that measures one kind of peer when asked.
pub(crate) struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    /// Starts `kind` (see tests/peers/encode.py) with a model of this shape; Nyström if whole frames go through it.
    pub(crate) fn start(python: &str, config: &Config, kind: &str) -> anyhow::Result<Self> {
        let landmarks = if config.is_exact(config.tokens()) { 0 } else { config.landmarks };
        let shape = serde_json::json!({
            "kind": kind, "threads": super::THREADS, "height": config.height, "width": config.width,
            "patch": config.patch, "dim": config.dim, "depth": config.depth, "heads": config.heads,
            "dim_head": config.dim_head, "mlp": config.mlp, "embed_dim": config.embed_dim,
            "landmarks": landmarks, "pinv_iterations": config.pinv_iterations,
            "compile": config.tokens() <= 1024,
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/encode.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(shape.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {python}"))?;
        let requests = child.stdin.take().context("a pipe to the peer")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe from the peer")?);
        let mut peer = Self { child, requests, answers, version: String::new() };
        peer.version = peer.read::<Hello>().with_context(|| format!("starting {kind}"))?.version;
        Ok(peer)
    }

    /// What it is.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The median milliseconds of a batch, measured for some seconds.
    pub(crate) fn measure(&mut self, batch: usize, seconds: f64) -> anyhow::Result<f64> {
        let request = serde_json::json!({ "batch": batch, "seconds": seconds, "warm": WARM });
        writeln!(self.requests, "{request}").context("asking the peer")?;
        Ok(self.read::<Answer>()?.median)
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("reading from the peer")? == 0 {
            bail!("the peer ended ({}); its own message is above", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be gone already; either way it is not needed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
