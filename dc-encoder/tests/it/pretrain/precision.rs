//! Mixed precision: as good as f32 within its rounding, continued to the last bit, recorded.

use super::*;
use dc_encoder::pretrain::PrecisionChoice;

fn in_bf16(frames: &Path, out: PathBuf, steps: u64) -> Options {
    Options { precision: PrecisionChoice::Bf16, ..options(frames, out, steps) }
}

#[test]
fn bf16_learns_what_f32_learns() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 30);
    let start = || Start::Config { name: "cells".into(), config: addressed().into() };
    let narrow = Options { start: start(), ..in_bf16(&frames, dir.path().join("bf16"), 120) };
    let wide = Options { start: start(), ..options(&frames, dir.path().join("f32"), 120) };
    let mut first = None;
    let got = pretrain::run(&narrow, &mut |event| {
        if let Event::Step { validation: Some(validation), .. } = event {
            first.get_or_insert(validation.loss);
        }
    });
    let (got, want) = (got.unwrap().validation.unwrap(), run(&wide).unwrap().validation.unwrap());
    assert!(got.loss < 0.7 * first.unwrap(), "{got:?}");
    assert_ne!(got.loss, want.loss, "nothing was rounded");
    assert!((got.loss / want.loss - 1.0).abs() < 0.05, "{} in bf16, {} in f32", got.loss, want.loss);
    assert!((got.rank / want.rank - 1.0).abs() < 0.2, "{} in bf16, {} in f32", got.rank, want.rank);
    let model = Model::load(&narrow.out, &candle_core::Device::Cpu).unwrap();
    assert!(model.config().note().contains("in bf16"), "{}", model.config().note());
}

#[test]
fn a_killed_run_in_bf16_goes_on_to_the_same_bits_and_in_bf16_alone() {
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 13);
    let make = |name: &str| Options {
        checkpoint_every: Duration::ZERO,
        accumulate: 2,
        ..in_bf16(&frames, dir.path().join(name), 14)
    };
    let (whole, cut) = (make("whole"), make("cut"));
    run(&whole).unwrap();
    let died = catch_unwind(AssertUnwindSafe(|| {
        pretrain::run(&cut, &mut |event| {
            if matches!(event, Event::Step { row, .. } if row.step == 6) {
                std::panic::resume_unwind(Box::new("killed"))
            }
        })
    }));
    assert!(died.is_err());

    let checkpoint = fs::read(cut.out.join("pretrain/checkpoint.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&checkpoint).unwrap();
    assert!(tensors.iter().all(|(_, tensor)| tensor.dtype() == safetensors::Dtype::F32));
    let other = Options { precision: PrecisionChoice::F32, ..cut.clone() };
    let error = run(&other).unwrap_err().to_string();
    assert!(
        error.contains("its precision is \"bf16\", now \"f32\"") && error.contains("another --out"),
        "{error}"
    );

    run(&cut).unwrap();
    assert!(weights(&whole.out) == weights(&cut.out), "the weights differ");
}
