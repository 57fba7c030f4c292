//! The CUDA path: what it says without a card, and with one, against candle.

use std::path::Path;
use std::process::Command;

use dc_encoder::backend::{Precision, cuda};
use dc_encoder::model::{Config, file, init};

use crate::cpu::{error, frames, reference, shapes};
use crate::pretrain;

fn save(dir: &Path, config: &Config) {
    file::save(dir, config, &init::random(config, 3).unwrap(), file::Precision::F32, false).unwrap();
}

/// What `dc-encoder embed` says with a device and a precision.
fn embed(device: &str, precision: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let frames = pretrain::frames(dir.path(), 2);
    let model = dir.path().join("model");
    save(&model, &pretrain::tiny());
    let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
    command.args(["embed", "--device", device, "--precision", precision, "--model"]).arg(&model);
    command.arg("--frames").arg(&frames).arg("--out").arg(dir.path().join("embeddings.safetensors"));
    let output = command.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn a_card_that_is_not_there_is_an_error_that_says_what_is_missing() {
    let (done, text) = embed("cuda:99", "bf16");
    assert!(!done && !text.contains("panicked"), "{text}");
    assert!(text.contains("cuda:99 cannot be used") && text.contains("--device cpu"), "{text}");
    let missing = match cuda::devices() {
        Ok(names) => format!("cuda:0 = {}", names.first().map_or("", String::as_str)),
        Err(why) => why,
    };
    assert!(text.contains(&missing), "{missing}: {text}");
}

#[test]
fn auto_says_which_device_it_took_and_why_not_the_other() {
    let (done, text) = embed("auto", "f32");
    assert!(done, "{text}");
    match cuda::devices() {
        Ok(names) if !names.is_empty() => assert!(text.contains(&names[0]), "{text}"),
        _ => assert!(text.contains("CPU") && text.contains("auto: no CUDA device ("), "{text}"),
    }
}

#[test]
fn a_precision_that_cuda_does_not_have_is_an_error_before_anything_is_opened() {
    let (done, text) = embed("cuda", "int8");
    assert!(!done && text.contains("int8 on cuda:0") && text.contains("--precision bf16"), "{text}");
}

#[test]
#[ignore = "needs an NVIDIA card: cargo test -p dc-encoder --test it -- --ignored cuda"]
fn every_shape_gives_candles_numbers() {
    for (name, config) in shapes() {
        let frames = frames(&config);
        let want = reference(&config, &frames);
        let weights = init::random(&config, 3).unwrap();
        for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2)] {
            let setup = cuda::Setup { device: 0, precision, batch: 2 };
            let mut encoder = cuda::Encoder::new(&config, &weights, setup)
                .unwrap_or_else(|error| panic!("{name} {precision}: {error}"));
            // Step by step, then as graphs; three frames in batches of two, so that the second is not full.
            for run in 0..2 {
                for (got, want) in encoder.frames(&frames, true).unwrap().iter().zip(&want) {
                    let embedding = error(&got.embedding, &want.embedding);
                    let tokens = error(got.tokens.as_ref().unwrap(), want.tokens.as_ref().unwrap());
                    println!("{name} {precision}, run {run}: {embedding:.1e} {tokens:.1e}");
                    assert!(embedding < tolerance && tokens < tolerance, "{name} {precision}, run {run}");
                }
            }
        }
    }
}
