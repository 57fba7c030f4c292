//! What serving adds to decoding and encoding, with one camera.

use std::time::Duration;

use anyhow::Context as _;
use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{Encoder, Server};

const LIMIT_MS: f64 = 2.0;
/// Frames a second: the demo model is idle most of the time.
const FPS: f64 = 10.0;

/// Frames go out as they are, so there is no JPEG to prepare. Counted from when a frame is there, not from when it was due: the
/// timer that makes it so is the measurement's, and up to a millisecond late.
pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let server = Server::start(Encoder::demo())?;
    let cameras = Cameras::connect(&server, (0, 1), &frames::usual(8)).await?;
    cameras.film(Offer::Rate(FPS), Duration::from_secs(2)).await?;
    let outcome = cameras.film(Offer::Rate(FPS), time).await?;
    let at = |q| outcome.overhead_ms(q).context("no frame was answered");
    let (median, whole) = (at(0.5)?, outcome.latency_ms(0.5).context("no frame was answered")?);
    let measured = format!("{median:.2}ms (p99 {:.2}ms; capture to answer {whole:.2}ms)", at(0.99)?);
    goal("serving-overhead-1-camera-p50", &format!("<={LIMIT_MS}ms"), &measured, median <= LIMIT_MS);
    println!("of which, medians in ms: {}", outcome.overhead_stages().context("no frame was answered")?);
    drop(cameras);
    server.stop()
}
