//! A null encoder and as many frames as it takes: what the serving path can do.

use std::time::Duration;

use crate::cameras::{Cameras, Offer};
use crate::frames;
use crate::servers::{Encoder, Server};

/// Bytes of a frame.
const BYTES: usize = 80_000;
const CAMERAS: usize = 8;

pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    println!();
    for (name, encoder, jpegs) in [
        ("with decoding", Encoder::Null(576, 960), frames::of_bytes(4, BYTES)?),
        ("without decoding", Encoder::Null(16, 32), frames::padded(BYTES)?),
    ] {
        let server = Server::start(encoder)?;
        let cameras = Cameras::connect(&server, (0, CAMERAS), &jpegs).await?;
        cameras.film(Offer::AsManyAsTheyTake, Duration::from_secs(1)).await?;
        let cpu = server.process.cpu_time()?;
        let outcome = cameras.film(Offer::AsManyAsTheyTake, time).await?;
        let cpu = server.process.cpu_time()?.saturating_sub(cpu).as_secs_f64() * 1e3;
        println!(
            "null encoder {name}, {CAMERAS} cameras, {BYTES} bytes a frame, cameras on the same cores: \
             {:.0} frames/s, {:.2} ms of the server's processor time each; dropped: {}",
            outcome.answered_a_second(),
            cpu / outcome.counts.answered.max(1) as f64,
            outcome.dropped()
        );
        drop(cameras);
        server.stop()?;
    }
    Ok(())
}
