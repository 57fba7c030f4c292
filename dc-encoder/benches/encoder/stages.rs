//! Where the time of a frame goes.

use dc_encoder::backend::Precision;
use dc_encoder::backend::cpu::simd::Isa;
use dc_encoder::backend::cpu::{Encoder, Profile, Setup, Stage};
use dc_encoder::model::{Config, init};
use dc_encoder::parity::probe_frames;

use super::ceiling;

/// Passes of which the quickest counts, stage by stage: other load only ever adds. On one thread, so that no stage waits
/// for another that was sent away.
const PASSES: usize = 12;

/// One table a precision and batch.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let weights = init::random(config, 1)?;
    for precision in [Precision::Int8, Precision::Bf16, Precision::F32] {
        let setup = Setup { precision, isa: Isa::detect(), threads: 1, batch: 8 };
        let mut encoder = Encoder::new(config, &weights, setup)?;
        let ceiling = ceiling(precision, 1)?;
        for batch in [1, 8] {
            table(config, (precision, batch, ceiling), &quickest(&mut encoder, batch));
        }
    }
    Ok(())
}

/// Milliseconds of each stage in the pass in which it was quickest.
fn quickest(encoder: &mut Encoder, batch: usize) -> [f64; Stage::ALL.len()] {
    let frames = probe_frames(encoder.config(), batch);
    let mut least = [f64::INFINITY; Stage::ALL.len()];
    for _ in 0..PASSES {
        encoder.take_profile();
        std::hint::black_box(encoder.frames(&frames, false));
        let profile: Profile = encoder.take_profile();
        for (least, stage) in least.iter_mut().zip(Stage::ALL) {
            *least = least.min(1e3 * profile.spent(stage).as_secs_f64());
        }
    }
    least
}

fn table(config: &Config, (precision, batch, ceiling): (Precision, usize, f64), spent: &[f64]) {
    let total: f64 = spent.iter().sum();
    println!(
        "\n{precision}, batch {batch}, one thread: {total:.1} ms in all, the quickest of {PASSES} for each stage"
    );
    println!("{:<12}{:>9}{:>8}{:>10}{:>10}", "stage", "ms", "share", "GFLOP/s", "ceiling");
    for (stage, ms) in Stage::ALL.into_iter().zip(spent) {
        let rate = batch as f64 * products(config, stage) / ms / 1e6;
        let of = 100.0 * rate / ceiling;
        let rate = if rate > 0.0 { format!("{rate:>10.0}{of:>9.0}%") } else { String::new() };
        println!("{:<12}{ms:>9.2}{:>7.1}%{rate}", format!("{stage:?}"), 100.0 * ms / total);
    }
}

/// Operations of a stage's products, one frame.
fn products(config: &Config, stage: Stage) -> f64 {
    let (tokens, dim, inner) = (config.tokens(), config.dim, config.inner());
    let each = match stage {
        Stage::Patches => return 2.0 * (config.patches() * config.patch_dim() * dim) as f64,
        Stage::Qkv => 2 * tokens * dim * 3 * inner,
        Stage::Attention if config.is_exact(tokens) => 4 * tokens * tokens * inner,
        Stage::Out => 2 * tokens * inner * dim,
        Stage::Expand | Stage::Contract => 2 * tokens * dim * config.mlp,
        _ => return 0.0,
    };
    (config.depth * each) as f64
}
