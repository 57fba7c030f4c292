//! A thousand cameras at a frame in ten seconds each.

use std::time::Duration;

use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{Encoder, Server};

const CAMERAS: usize = 1000;
const FPS: f64 = 0.1;
const LIMIT_KB: f64 = 150.0;

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let server = Server::start(Encoder::Null(576, 960))?;
    let before = server.process.resident_bytes()? as f64;
    let start = std::time::Instant::now();
    let cameras = Cameras::connect(&server, (0, CAMERAS), &frames::usual(8)).await?;
    println!("\n{CAMERAS} cameras connected in {:.1} s", start.elapsed().as_secs_f64());
    let connected = server.process.resident_bytes()? as f64;
    let outcome = cameras.film(Offer::Rate(FPS), time).await?;
    let filmed = server.process.resident_bytes()? as f64;
    let each = |bytes: f64| (bytes - before) / 1e3 / CAMERAS as f64;
    let measured = format!("{:.0}kB ({:.0}kB connected and silent)", each(filmed), each(connected));
    let what = format!("server-memory-per-camera-{CAMERAS}-at-{FPS}fps");
    goal(&what, &format!("<={LIMIT_KB}kB"), &measured, each(filmed) <= LIMIT_KB);
    let missed = outcome.counts.captured - outcome.counts.answered;
    let what = format!("frames-missed-{CAMERAS}-at-{FPS}fps");
    let measured = format!("{missed} of {} ({})", outcome.counts.captured, outcome.dropped());
    goal(&what, "0", &measured, missed == 0);
    drop(cameras);
    server.stop()
}
