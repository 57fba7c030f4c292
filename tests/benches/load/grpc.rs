//! The same model behind a gRPC server in Python (`tests/peers/serve.py`), in turns with ours: one frame at a time, and at
//! saturation. Same JPEG bytes, f32, threads and batch limit on both sides; gRPC without TLS, which favours it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dc_encoder::model::Config;
use dc_encoder::model::preset::Preset;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::answers::quantile;
use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{self, Encoder, Server};

const THREADS: usize = 2;
const BATCH: usize = 8;
/// Calls under way at saturation: a batch on the device, and one that waits.
const CALLS: usize = 2 * BATCH;
const CAMERAS: usize = 6;
const TURNS: usize = 3;
/// One frame at a time: less than either server takes.
const FPS: f64 = 2.0;
/// The queue holds seconds of work.
const DEADLINE: Duration = Duration::from_secs(60);

/// What one side did in its turns.
#[derive(Default)]
struct Side {
    p50: Vec<f64>,
    fps: Vec<f64>,
}

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let model = servers::seed_80m(dir.path())?;
    let jpegs = frames::usual(BATCH as u32);
    for (index, jpeg) in jpegs.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{index}.jpg")), jpeg)?;
    }
    let config = Preset::find("seed-80m").context("the preset")?.config();
    let (mut peer, hello) = Peer::start("serve.py", &[shape(&config).to_string()])?;
    let port = hello["port"].as_u64().context("the peer's port")?.to_string();
    let (mut caller, _) = Peer::start("call.py", &[port, dir.path().display().to_string()])?;
    let args =
        ["--set", &format!("queue.max_batch={BATCH}"), "--precision", "f32"].map(str::to_owned).to_vec();
    let server = Server::start(Encoder::Model(model, args))?;
    let alone = Cameras::connect(&server, (0, 1), &jpegs).await?;
    let many = Cameras::connect(&server, (1, CAMERAS), &jpegs).await?;
    println!(
        "seed-80m, random weights, f32, {THREADS} threads, batches of at most {BATCH}; {}",
        hello["version"]
    );
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for turn in 0..=TURNS {
        let one =
            alone.film(Offer::Rate(FPS), time).await?.latency_ms(0.5).context("no frame was answered")?;
        let fps = many.film_within(Offer::AsManyAsTheyTake, time, DEADLINE).await?.answered_a_second();
        let peer_one = caller.measure(1, time)?;
        let peer_many = caller.measure(CALLS, time)?;
        let (p50, peer_fps) = (number(&peer_one, "p50_ms")?, number(&peer_many, "fps")?);
        println!(
            "turn {turn}: ours p50 {one:.1} ms, {fps:.2} frames/s; gRPC p50 {p50:.1} ms, {peer_fps:.2} frames/s"
        );
        // The first turn warms up.
        if turn > 0 {
            ours.p50.push(one);
            ours.fps.push(fps);
            theirs.p50.push(p50);
            theirs.fps.push(peer_fps);
        }
    }
    report("p50-capture-to-answer-gRPC/ours", &theirs.p50, &ours.p50)?;
    report("throughput-ours/gRPC", &ours.fps, &theirs.fps)?;
    drop((alone, many));
    server.stop()?;
    caller.end()?;
    peer.end()
}

fn report(what: &str, over: &[f64], under: &[f64]) -> anyhow::Result<()> {
    let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
    let at = |q| quantile(&ratios, q).context("nothing was measured");
    let measured = format!("{:.2} [{:.2}, {:.2} over {TURNS} turns]", at(0.5)?, at(0.0)?, at(1.0)?);
    goal(what, ">1", &measured, at(0.5)? > 1.0);
    Ok(())
}

fn number(answer: &Value, key: &str) -> anyhow::Result<f64> {
    answer[key].as_f64().with_context(|| format!("no {key} in {answer}"))
}

fn shape(config: &Config) -> Value {
    json!({
        "kind": "ort-f32", "threads": THREADS, "max_batch": BATCH, "height": config.height, "width": config.width,
        "patch": config.patch, "dim": config.dim, "depth": config.depth, "heads": config.heads,
        "dim_head": config.dim_head, "mlp": config.mlp, "embed_dim": config.embed_dim,
        "landmarks": 0, "pinv_iterations": config.pinv_iterations,
    })
}

/// A program of `tests/peers` that reads requests from its standard input.
struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it; what it says first.
    fn start(script: &str, args: &[String]) -> anyhow::Result<(Self, Value)> {
        let python = std::env::var("PYTHON").context("PYTHON: run `make bench-grpc`, which sets it up")?;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let mut child = Command::new(&python)
            .arg("-B")
            .arg(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {python}"))?;
        let requests = Some(child.stdin.take().context("a pipe to the peer")?);
        let answers = BufReader::new(child.stdout.take().context("a pipe from the peer")?);
        let mut peer = Self { child, requests, answers };
        let hello = peer.read().with_context(|| format!("starting {script}"))?;
        Ok((peer, hello))
    }

    /// What so many calls at a time took.
    fn measure(&mut self, in_flight: usize, time: Duration) -> anyhow::Result<Value> {
        let request = json!({ "in_flight": in_flight, "seconds": time.as_secs_f64() });
        writeln!(self.requests.as_mut().context("the peer has ended")?, "{request}")
            .context("asking the peer")?;
        self.read()
    }

    fn read<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("reading from the peer")? == 0 {
            bail!("the peer ended ({}); its own message is above", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }

    /// It ends when its requests do.
    fn end(&mut self) -> anyhow::Result<()> {
        self.requests = None;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the peer ended with {status}");
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A measurement that failed leaves none behind; one that ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
