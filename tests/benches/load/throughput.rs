//! seed-80m over QUIC at saturation, beside the same backend in this process on the same JPEGs, in turns.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dc_encoder::backend::{self, Backend, Choice, Precision};
use dc_encoder::decode;
use shared::image::{Limits, Rgb};
use tests::answers::quantile;
use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames::{self, Jpegs};
use crate::servers::{self, Encoder, Server};

/// Frames in a batch on both sides.
const BATCH: usize = 8;
/// Enough for a batch on the device, one that waits, and what is received meanwhile.
const CAMERAS: usize = 6;
/// Of each side.
const TURNS: usize = 3;
const LEAST: f64 = 0.9;
/// The queue holds seconds of work.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let model = servers::seed_80m(dir.path())?;
    let jpegs = frames::usual(BATCH as u32);
    let batch = format!("queue.max_batch={BATCH}");
    let args = ["--set", &batch, "--precision", "bf16"].map(str::to_owned).to_vec();
    let server = Server::start(Encoder::Model(model.clone(), args))?;
    let cameras = Cameras::connect(&server, (0, CAMERAS), &jpegs).await?;
    let mut here = open(&model)?;
    let (mut served, mut called) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let outcome = cameras.film_within(Offer::AsManyAsTheyTake, time, DEADLINE).await?;
        let (ours, drops) = (outcome.answered_a_second(), outcome.dropped());
        let theirs = called_in_process(here.as_mut(), &jpegs, time)?;
        println!("turn {turn}: {ours:.2} frames/s over QUIC (dropped: {drops}), {theirs:.2} in process");
        // The first turn warms up.
        if turn > 0 {
            served.push(ours);
            called.push(theirs);
        }
    }
    let ratios: Vec<f64> = served.iter().zip(&called).map(|(ours, theirs)| ours / theirs).collect();
    let at = |q| quantile(&ratios, q).context("nothing was measured");
    let measured = format!("{:.3} [{:.3}, {:.3} over {TURNS} turns]", at(0.5)?, at(0.0)?, at(1.0)?);
    goal("seed-80m-throughput-over-QUIC/in-process", &format!(">={LEAST}"), &measured, at(0.5)? >= LEAST);
    drop(cameras);
    server.stop()
}

fn open(model: &Path) -> anyhow::Result<Box<dyn Backend>> {
    Ok(backend::open(model, Choice { precision: Precision::Bf16, ..Choice::default() })?)
}

/// Decodes on as many threads as the server does, then encodes, batch after batch.
fn called_in_process(backend: &mut dyn Backend, jpegs: &Jpegs, time: Duration) -> anyhow::Result<f64> {
    let (height, width) = backend.info().input;
    let settings = decode::Settings {
        limits: Limits::default(),
        width: u32::try_from(width)?,
        height: u32::try_from(height)?,
        patch: None,
    };
    let threads = std::thread::available_parallelism()?.get();
    let start = Instant::now();
    let mut frames = 0;
    while start.elapsed() < time {
        let images: Vec<Arc<Rgb>> = std::thread::scope(|scope| {
            let workers: Vec<_> = jpegs
                .chunks(jpegs.len().div_ceil(threads))
                .map(|part| scope.spawn(|| part.iter().map(|jpeg| decode::decode(jpeg, &settings)).collect()))
                .collect();
            let parts: Vec<Vec<_>> = workers.into_iter().filter_map(|worker| worker.join().ok()).collect();
            parts.into_iter().flatten().filter_map(Result::ok).map(Arc::new).collect()
        });
        anyhow::ensure!(
            images.len() == jpegs.len(),
            "{} of {} frames were decoded",
            images.len(),
            jpegs.len()
        );
        frames += backend.encode(&images, false)?.len();
    }
    Ok(frames as f64 / start.elapsed().as_secs_f64())
}
