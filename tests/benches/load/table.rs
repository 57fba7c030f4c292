//! One to a thousand cameras at a rate.

use std::time::Duration;

use anyhow::Context as _;

use crate::cameras::{Cameras, Offer};
use crate::frames::{self, Jpegs};
use crate::servers::{Encoder, Server};

/// Cameras, and frames a second of each.
const ROWS: [(usize, f64); 4] = [(1, 10.0), (10, 2.0), (100, 0.2), (1000, 0.1)];

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let usual = frames::usual(8);
    let bytes = usual.iter().map(Vec::len).sum::<usize>() / usual.len();
    println!("\nframes: 960×576, {bytes} bytes on average; without decoding: as many for 32×16 pixels");
    let padded = frames::padded(bytes)?;
    println!(
        "{:<18} {:>7} {:>10} {:>10} {:>8} {:>8} {:>8} {:>9} {:>9} {:>11}  dropped",
        "server",
        "cameras",
        "offered/s",
        "answered/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "MB",
        "kB/cam",
        "cpu ms/frame"
    );
    for (name, encoder, jpegs) in [
        ("demo model", Encoder::demo(), &usual),
        ("null", Encoder::Null(576, 960), &usual),
        ("null, no decoding", Encoder::Null(16, 32), &padded),
    ] {
        for (count, fps) in ROWS {
            row(name, &encoder, jpegs, (count, fps), time).await?;
        }
    }
    Ok(())
}

async fn row(
    name: &str,
    encoder: &Encoder,
    jpegs: &Jpegs,
    (count, fps): (usize, f64),
    time: Duration,
) -> anyhow::Result<()> {
    let server = Server::start(encoder.clone())?;
    let before = server.process.resident_bytes()? as f64;
    let cameras = Cameras::connect(&server, (0, count), jpegs).await?;
    let cpu = server.process.cpu_time()?;
    // Each camera films once at least.
    let time = time.max(Duration::from_secs_f64(1.0 / fps));
    let outcome = cameras.film(Offer::Rate(fps), time).await?;
    let cpu = server.process.cpu_time()?.saturating_sub(cpu).as_secs_f64() * 1e3;
    let memory = server.process.resident_bytes()? as f64;
    let answered = outcome.counts.answered.max(1) as f64;
    let at = |q| outcome.latency_ms(q).context("no frame was answered");
    println!(
        "{name:<18} {count:>7} {:>10.1} {:>10.1} {:>8.1} {:>8.1} {:>8.1} {:>9.1} {:>9.1} {:>11.2}  {}",
        count as f64 * fps,
        outcome.answered_a_second(),
        at(0.5)?,
        at(0.95)?,
        at(0.99)?,
        memory / 1e6,
        (memory - before) / 1e3 / count as f64,
        cpu / answered,
        outcome.dropped(),
    );
    drop(cameras);
    server.stop()
}
