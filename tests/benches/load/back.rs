//! A server is killed under load and started again: no frame is unaccounted for, and cameras come back.

use std::time::{Duration, Instant};

use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{Encoder, Server};

const LIMIT: Duration = Duration::from_secs(2);
/// Cameras, and frames a second of each.
const ROWS: [(usize, f64); 2] = [(100, 2.0), (1000, 0.5)];
/// How often it is looked who is back.
const LOOK: Duration = Duration::from_millis(5);
/// More is a fault, not a slow return.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(away: Duration) -> anyhow::Result<()> {
    println!();
    for (count, fps) in ROWS {
        for away in [Duration::ZERO, away] {
            killed(count, fps, away).await?;
        }
    }
    Ok(())
}

async fn killed(count: usize, fps: f64, away: Duration) -> anyhow::Result<()> {
    let jpegs = frames::padded(20_000)?;
    let mut server = Server::start(Encoder::Null(16, 32))?;
    let cameras = Cameras::connect(&server, (0, count), &jpegs).await?;
    let before = cameras.welcomes();
    let time = Duration::from_secs(5) + away + LIMIT * 4;
    let filming = cameras.film(Offer::Rate(fps), time);
    let restarting = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.process.signal("KILL")?;
        server.process.wait(PATIENCE)?;
        tokio::time::sleep(away).await;
        server.start_again()?;
        let up = Instant::now();
        // Those who were welcomed anew, whether or not they noticed that the server was away.
        while cameras.welcomes() < before + count as u64 {
            anyhow::ensure!(up.elapsed() < PATIENCE, "not all cameras came back");
            tokio::time::sleep(LOOK).await;
        }
        Ok(up.elapsed())
    };
    let (outcome, back) = tokio::join!(filming, restarting);
    let (outcome, back) = (outcome?, back?);
    let what = format!("all-of-{count}-cameras-back-after-{}s-away", away.as_secs());
    let measured = format!(
        "{:.2}s (frames: {} answered, dropped: {}, unaccounted for: {})",
        back.as_secs_f64(),
        outcome.counts.answered,
        outcome.dropped(),
        outcome.counts.open()
    );
    goal(&what, &format!("<={}s", LIMIT.as_secs()), &measured, back <= LIMIT);
    drop(cameras);
    server.stop()
}
