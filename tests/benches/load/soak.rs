//! `make soak-load`: more frames than the demo model can encode, cameras that come and go, nothing that
//! grows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tests::answers::quantile;
use tests::goals::goal;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{Encoder, Server};

/// Cameras that stay.
const STAY: usize = 16;
/// Cameras that come for a while, one group after another.
const VISIT: usize = 8;
/// Frames a second of each: together several times what two cores encode.
const FPS: f64 = 15.0;
/// How long a group of visitors stays.
const VISIT_LASTS: Duration = Duration::from_secs(10);
/// Where memory and files are first looked at: when everything was in use once.
const WARM: f64 = 0.1;
/// Growth that is noise, as in `make soak`.
const GROWTH_RATIO: f64 = 1.05;
const GROWTH_BYTES: f64 = 2e6;

/// Resident bytes and open files of the server at one time.
struct Look {
    bytes: f64,
    files: f64,
}

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let server = Server::start(Encoder::demo())?;
    let jpegs = frames::usual(8);
    let staying = Cameras::connect(&server, (0, STAY), &jpegs).await?;
    let end = Instant::now() + time;
    let filming = staying.film(Offer::Rate(FPS), time);
    let visiting = async {
        let (mut first, mut counts, mut looks) = (STAY, (0, 0, 0), Vec::new());
        while Instant::now() + VISIT_LASTS < end {
            let visitors = Cameras::connect(&server, (first, VISIT), &jpegs).await?;
            first += VISIT;
            let outcome = visitors.film(Offer::Rate(FPS), VISIT_LASTS).await?;
            let (captured, answered, dropped) = counts;
            let now = &outcome.counts;
            counts = (captured + now.captured, answered + now.answered, dropped + now.dropped());
            let (bytes, files) = (server.process.resident_bytes()?, server.process.open_files()?);
            println!("{first:>5} cameras so far, {:.1} MB, {files} files", bytes as f64 / 1e6);
            looks.push(Look { bytes: bytes as f64, files: files as f64 });
        }
        Ok::<_, anyhow::Error>((counts, looks))
    };
    let (outcome, visited) = tokio::join!(filming, visiting);
    let (outcome, ((captured, answered, dropped), looks)) = (outcome?, visited?);
    let all = (outcome.counts.captured + captured, outcome.counts.answered + answered);
    println!(
        "{} frames offered, {} answered; of those who stayed dropped: {}",
        all.0,
        all.1,
        outcome.dropped()
    );
    let unaccounted = all.0 - all.1 - outcome.counts.dropped() - dropped;
    goal("frames-unaccounted-for", "0", &unaccounted.to_string(), unaccounted == 0);
    let answered = all.1 as f64 / all.0 as f64;
    goal("overload: share answered", "<1 (it is one)", &format!("{answered:.2}"), answered < 1.0);
    verdict(&looks)?;
    drop(staying);
    server.stop()
}

/// The first half after the warm-up against the last half.
fn verdict(looks: &[Look]) -> anyhow::Result<()> {
    let looks = &looks[(looks.len() as f64 * WARM).ceil() as usize..];
    let (early, late) = looks.split_at(looks.len() / 2);
    let median = |part: &[Look], of: fn(&Look) -> f64| {
        let values: Vec<f64> = part.iter().map(of).collect();
        quantile(&values, 0.5).context("too short to see growth: SECONDS=60 or more")
    };
    let (before, after) = (median(early, |look| look.bytes)?, median(late, |look| look.bytes)?);
    let measured = format!("{:.1}MB early, {:.1}MB late", before / 1e6, after / 1e6);
    let met = after <= before * GROWTH_RATIO + GROWTH_BYTES;
    goal("server-memory-flat", "<=1.05x+2MB", &measured, met);
    let (before, after) = (median(early, |look| look.files)?, median(late, |look| look.files)?);
    goal("server-files-flat", "as-many", &format!("{before} early, {after} late"), after <= before);
    Ok(())
}
