//! The first NVIDIA card: bf16 beside torch.compile on the same card, and beside the card's own matrix rate.
//!
//! Ours begins at frames in the processor's memory as bytes, and copies them to the card; the peer's images are there already.

use std::time::Instant;

use dc_encoder::backend::{Precision, cuda};
use dc_encoder::model::{Config, cost, init};
use dc_encoder::parity::probe_frames;

use super::peer::Peer;
use super::{median, python, say};

/// Frames of the largest batch.
const BATCH: usize = 64;
/// Batches that are given at once, so that one is copied while another is computed.
const AT_ONCE: usize = 4;
/// Seconds of each measurement.
const SECONDS: f64 = 2.0;
/// The goals: of the card's matrix rate, over the peer, and milliseconds of a frame alone.
const OF_RATE: f64 = 0.6;
const OVER_PEER: f64 = 1.1;
const FIRST_MS: f64 = 5.0;

pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let names = match cuda::devices() {
        Ok(names) if !names.is_empty() => names,
        Ok(_) => return left_out("the NVIDIA driver finds no card"),
        Err(why) => return left_out(&why),
    };
    let rate = cuda::matrix_rate(0)?;
    println!("\ngpu: {}; its bf16 products: {:.0} TFLOP/s", names[0], rate / 1e12);
    let weights = init::random(config, 1)?;
    let setup = cuda::Setup { device: 0, precision: Precision::Bf16, batch: BATCH };
    let mut encoder = cuda::Encoder::new(config, &weights, setup)?;
    let mut peer = Peer::start(&python()?, config, "torch-cuda-bf16")?;
    let flops = cost::flops(config).total() as f64;
    println!(
        "{:>8}{:>12}{:>12}{:>8}{:>10}{:>10}",
        "frames", "ours ms", "peer ms", "ratio", "TFLOP/s", "of rate"
    );
    for frames in [1, 8, BATCH, AT_ONCE * BATCH] {
        let ours = measure(&mut encoder, frames)?;
        let batch = frames.min(BATCH);
        let theirs = peer.measure(batch, SECONDS)? * (frames / batch) as f64;
        let reached = flops * frames as f64 / ours * 1e3;
        let (ratio, of_rate) = (theirs / ours, reached / rate);
        println!(
            "{frames:>8}{ours:>12.2}{theirs:>12.2}{ratio:>8.2}{:>10.0}{:>9.0}%",
            reached / 1e12,
            100.0 * of_rate
        );
        if frames == 1 {
            say(&format!("a frame alone <= {FIRST_MS} ms"), &format!("{ours:.2}"), ours <= FIRST_MS);
        }
        if frames == AT_ONCE * BATCH {
            say(
                &format!("batch {BATCH} >= {OF_RATE} of the matrix rate"),
                &format!("{of_rate:.2}"),
                of_rate >= OF_RATE,
            );
            say(
                &format!("batch {BATCH} over torch.compile >= {OVER_PEER}"),
                &format!("{ratio:.2}"),
                ratio >= OVER_PEER,
            );
        }
    }
    println!(
        "({}; the last row is {AT_ONCE} batches of {BATCH}, one copied while another is computed)",
        peer.version()
    );
    Ok(())
}

fn left_out(why: &str) -> anyhow::Result<()> {
    println!("\ngpu: left out, {why}");
    Ok(())
}

/// The median milliseconds of so many frames.
fn measure(encoder: &mut cuda::Encoder, frames: usize) -> anyhow::Result<f64> {
    let frames = probe_frames(encoder.config(), frames);
    // The first batch of a size runs step by step, the second as a graph.
    encoder.frames(&frames, false)?;
    encoder.frames(&frames, false)?;
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.is_empty() || began.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        std::hint::black_box(encoder.frames(&frames, false)?);
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    Ok(median(&mut times))
}
