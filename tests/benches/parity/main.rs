//! `make parity`: every way to compute an embedding on this machine against the reference, in one table.
//!
//! ```text
//! golden cases   numbers that PyTorch computed in f64         ─┐
//! demo model     plaza frames, candle one frame at a time     ─┼─► each backend and precision, batch 1 and N
//! seed-80m       full size, the same                          ─┘
//! heads trained on the reference's embeddings answer on every other's: which answers flip?
//! ```
//! Fails when a row is past its tolerance. `MODEL=DIR` takes another trained model instead of the demo model.
#![allow(missing_docs)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use dc_encoder::backend::{Encoded, cuda, wgpu};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{Config, file, init};
use dc_encoder::parity::{Agreement, probe_frames};
use shared::image::{Rgb, resize};
use tests::plaza::{Clock, Plaza};
use tests::setup::demo_model;

mod flips;
mod golden;
mod ways;

use flips::{Heads, Moves};
use ways::{Way, ways};

/// Frames that heads learn from, and frames they answer on: seven hours of a day together.
const LEARN: usize = 150;
const ANSWER: usize = 60;
const STEP_S: f64 = 120.0;
/// The larger batch.
const BATCH: usize = 8;
/// A flip: an answer that moves by more than this share of the head's own error on held-out frames.
pub(crate) const FLIP: f64 = 0.1;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("error: {failed} rows are past their tolerance");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<usize> {
    println!(
        "{:<10}{:<30}{:>6}{:>11}{:>11}{:>13}{:>13}{:>7}  tolerance",
        "case", "backend", "batch", "worst abs", "worst rel", "1 - cosine", "difference", "flips"
    );
    let mut failed = golden::run()?;
    let place = tempfile::tempdir()?;
    failed += demo(place.path())?;
    failed += seed()?;
    println!(
        "worst rel: share of the largest number; difference: error of the change between neighbouring frames, as a \
         share of it; flips: answers of heads moved by more than {FLIP} of their held-out error"
    );
    println!(
        "cuda: {}",
        cuda::devices().map_or_else(|why| format!("left out, {why}"), |names| names.join("; "))
    );
    let adapter = wgpu::adapters().into_iter().next();
    println!("wgpu: {}", adapter.as_deref().unwrap_or("left out, no Vulkan driver answers"));
    Ok(failed)
}

/// One row of the table.
pub(crate) struct Row<'a> {
    pub(crate) case: &'a str,
    pub(crate) way: &'a Way,
    pub(crate) batch: usize,
    pub(crate) agreement: Agreement,
    /// How heads' answers moved, where there are heads.
    pub(crate) moves: Option<Vec<Moves>>,
}

impl Row<'_> {
    /// Prints it; whether it is past its tolerance.
    pub(crate) fn fails(&self) -> bool {
        let Agreement { absolute, relative, angle, difference } = self.agreement;
        let contract = self.way.tolerance();
        let sum =
            |of: fn(&Moves) -> usize| self.moves.as_ref().map(|heads| heads.iter().map(of).sum::<usize>());
        let (flips, answers) = (sum(Moves::flips), sum(Moves::answers));
        let shown = flips.zip(answers).map_or_else(|| "-".to_owned(), |(flips, of)| format!("{flips}/{of}"));
        // Where embeddings have a space of their own no head of the reference ever meets them: heads are trained anew,
        // see `rows`.
        let flipped = flips.is_some_and(|flips| flips > 0) && self.way.shares_space(&self.agreement);
        let failed = !self.agreement.within(&contract) || flipped;
        println!(
            "{:<10}{:<30}{:>6}{absolute:>11.1e}{relative:>11.1e}{angle:>13.1e}{difference:>13.1e}{shown:>7}  {:.1e} \
             {:.1e} {}",
            self.case,
            self.way.name(),
            self.batch,
            1.0 - contract.cosine,
            contract.difference,
            match (failed, self.way.shares_space(&self.agreement)) {
                (true, _) => "PAST",
                (false, true) => "ok",
                (false, false) => "ok, a space of its own",
            }
        );
        for head in self.moves.iter().flatten().filter(|head| head.flips() > 0) {
            println!("{:<10}  {head}", "");
        }
        failed
    }
}

/// Plaza frames at the model's input size, with their truth.
fn plaza(config: &Config) -> (Vec<Arc<Rgb>>, Vec<tests::plaza::Truth>) {
    let plaza = Plaza::new(1);
    let frame = |index: usize| {
        let (image, truth) = plaza.frame(Clock(Clock::at(0, 600.0).0 + index as f64 * STEP_S));
        (Arc::new(resize(&image, config.width as u32, config.height as u32)), truth)
    };
    (0..LEARN + ANSWER).map(frame).unzip()
}

fn demo(place: &Path) -> anyhow::Result<usize> {
    let (name, dir) = match std::env::var_os("MODEL").filter(|dir| !dir.is_empty()) {
        Some(dir) => ("MODEL", dir.into()),
        None => ("demo", demo_model()),
    };
    let (config, weights) = file::load(&dir)?;
    let (frames, truths) = plaza(&config);
    let reference = Way::Candle.open(&config, &weights)?.encode(&frames, 1)?;
    let heads = Heads::train(&config, &reference[..LEARN], &truths[..LEARN], place)?;
    let watch = Watch { heads, frames: &frames[..LEARN], truths: &truths[..LEARN], place };
    rows(name, (&config, &weights), &frames[LEARN..], (&reference[LEARN..], Some(&watch)))
}

/// Heads on the reference's embeddings, and what others like them learn from.
struct Watch<'a> {
    heads: Heads,
    frames: &'a [Arc<Rgb>],
    truths: &'a [tests::plaza::Truth],
    place: &'a Path,
}

fn seed() -> anyhow::Result<usize> {
    let config = Config { decoder: None, ..Preset::find("seed-80m").context("a preset")?.config() };
    let weights = init::random(&config, 1)?;
    let frames = probe_frames(&config, 4);
    let reference = Way::Candle.open(&config, &weights)?.encode(&frames, 1)?;
    rows("seed-80m", (&config, &weights), &frames, (&reference, None))
}

/// Every way, one frame at a time and in batches; how many rows are past their tolerance, and how many heads are worse
/// where embeddings have a space, and with it heads, of their own.
fn rows(
    case: &str,
    (config, weights): (&Config, &file::Weights),
    frames: &[Arc<Rgb>],
    (reference, watch): (&[Encoded], Option<&Watch<'_>>),
) -> anyhow::Result<usize> {
    let mut failed = 0;
    for way in &ways() {
        let (mut open, mut shares) = (way.open(config, weights)?, true);
        let frames = open.few(frames);
        for batch in [1, BATCH.min(frames.len())] {
            let got = open.encode(frames, batch)?;
            let moves = watch.map(|watch| watch.heads.moves(reference, &got)).transpose()?;
            let row = Row { case, way, batch, agreement: Agreement::of(reference, &got), moves };
            shares &= way.shares_space(&row.agreement);
            failed += usize::from(row.fails());
        }
        if let Some(Watch { heads, frames, truths, place }) = watch.filter(|_| !shares) {
            let learnt = open.encode(frames, BATCH)?;
            failed += Heads::train(config, &learnt, truths, place)?.beside(heads);
        }
    }
    Ok(failed)
}
