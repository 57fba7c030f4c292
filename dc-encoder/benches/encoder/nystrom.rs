//! Long sequences: Nyström attention against exact, ours and PyTorch's.

use dc_encoder::backend::Precision;
use dc_encoder::backend::cpu::simd::Isa;
use dc_encoder::backend::cpu::{Encoder, Setup};
use dc_encoder::model::config::{Attention, LandmarkKind};
use dc_encoder::model::{Config, init};
use dc_encoder::parity::{Agreement, probe_frames};
use shared::preprocess::Preprocess;

use super::peer::Peer;
use super::{THREADS, load, measure, say};

/// Blocks of the models here: cost and error of the ten of the full model grow with depth, its run would take hours.
const DEPTH: usize = 2;
/// Side of a patch: small, so that little time goes into embedding patches.
const PATCH: usize = 16;
/// Grids of the fit, the two of the presets among them: 900, 1800, 3600, 5400, 8040 tokens.
const GRIDS: [(usize, usize); 5] = [(20, 45), (30, 60), (45, 80), (60, 90), (67, 120)];

fn shape(base: &Config, (rows, cols): (usize, usize), kind: Option<LandmarkKind>) -> Config {
    let (height, width) = (rows * PATCH, cols * PATCH);
    Config {
        height,
        width,
        patch: PATCH,
        depth: DEPTH,
        preprocess: Preprocess::imagenet(height as u32, width as u32),
        attention: if kind.is_some() { Attention::Nystrom } else { Attention::Exact },
        landmark_kind: kind.unwrap_or_default(),
        ..base.clone()
    }
}

fn encoder(config: &Config, precision: Precision) -> anyhow::Result<Encoder> {
    let setup = Setup { precision, isa: Isa::detect(), threads: THREADS, batch: 1 };
    Ok(Encoder::new(config, &init::random(config, 1)?, setup)?)
}

pub(crate) fn run(python: &str, base: &Config) -> anyhow::Result<()> {
    println!(
        "\nNyström, {DEPTH} blocks of seed-80m, 256 landmarks, ms a frame and error against exact f32; load {}",
        load()
    );
    println!(
        "{:>7} {:<6}{:>10}{:>10}{:>10}{:>14}{:>14}",
        "tokens", "", "exact", "rows", "blocks", "error rows", "error blocks"
    );
    for grid in [GRIDS[2], GRIDS[4]] {
        for precision in [Precision::F32, Precision::Bf16] {
            row(base, grid, precision)?;
        }
    }
    println!("(error: of the difference between two frames, as a share of it, and 1 - cosine)");
    fit(base)?;
    against_torch(python, base)
}

fn row(base: &Config, grid: (usize, usize), precision: Precision) -> anyhow::Result<()> {
    let frames = probe_frames(&shape(base, grid, None), 2);
    let reference = encoder(&shape(base, grid, None), Precision::F32)?.frames(&frames, false);
    let (mut times, mut errors) = (Vec::new(), Vec::new());
    for kind in [None, Some(LandmarkKind::Rows), Some(LandmarkKind::Blocks)] {
        let mut encoder = encoder(&shape(base, grid, kind), precision)?;
        errors.push(Agreement::of(&reference, &encoder.frames(&frames, false)));
        times.push(measure(&mut encoder, 1, 1.0));
    }
    let error = |of: &Agreement| format!("{:.3} {:.0e}", of.difference, of.angle);
    println!(
        "{:>7} {precision:<6}{:>10.0}{:>10.0}{:>10.0}{:>14}{:>14}",
        grid.0 * grid.1,
        times[0],
        times[1],
        times[2],
        error(&errors[1]),
        error(&errors[2])
    );
    Ok(())
}

/// Time as a line over tokens: how well it fits.
fn fit(base: &Config) -> anyhow::Result<()> {
    let mut points = Vec::new();
    for grid in GRIDS {
        let mut encoder = encoder(&shape(base, grid, Some(LandmarkKind::Blocks)), Precision::Bf16)?;
        points.push(((grid.0 * grid.1) as f64, measure(&mut encoder, 1, 1.0)));
    }
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let slope = mean(&|p| (p.0 - x) * (p.1 - y)) / mean(&|p| (p.0 - x).powi(2));
    let start = y - slope * x;
    let left = mean(&|p| (p.1 - start - slope * p.0).powi(2)) / mean(&|p| (p.1 - y).powi(2));
    let each: Vec<String> = points.iter().map(|(tokens, ms)| format!("{tokens:.0}: {ms:.0} ms")).collect();
    println!("bf16, blocks: {}; {start:.0} ms + {:.1} us a token", each.join(", "), 1e3 * slope);
    say("Nyström linear in tokens, R2 of the line >= 0.99", &format!("{:.4}", 1.0 - left), left <= 0.01);
    Ok(())
}

/// At 3600 tokens against PyTorch, in the same precision.
fn against_torch(python: &str, base: &Config) -> anyhow::Result<()> {
    for (precision, kind) in [(Precision::F32, "torch-f32"), (Precision::Bf16, "torch-bf16")] {
        let mut ours = encoder(&shape(base, GRIDS[2], Some(LandmarkKind::Rows)), precision)?;
        for (name, theirs) in [("exact", None), ("Nyström", Some(LandmarkKind::Rows))] {
            let mut peer = Peer::start(python, &shape(base, GRIDS[2], theirs), kind)?;
            let mut ratios = Vec::new();
            for _ in 0..3 {
                let mine = measure(&mut ours, 1, 1.0);
                ratios.push(peer.measure(1, 1.0)? / mine);
            }
            let ratio = super::median(&mut ratios);
            let goal = format!("3600 tokens, Nyström in {precision} over PyTorch's {name} >= 1.0");
            say(&goal, &format!("{ratio:.2}"), ratio >= 1.0);
        }
    }
    Ok(())
}
