//! The wgpu path against candle, in every shape the encoder can have. Needs a Vulkan driver, of which Debian's
//! mesa-vulkan-drivers has one in software; without one these tests fail and say so.

use std::path::Path;
use std::process::Command;

use dc_encoder::backend::wgpu::{Encoder, Setup};
use dc_encoder::backend::{DeviceChoice, Encoded, open};
use dc_encoder::model::{Config, file, init};

use crate::cpu::{error, frames, patches, reference, shapes};
use crate::pretrain;

fn encoder(config: &Config, batch: usize) -> Encoder {
    let weights = init::random(config, 3).unwrap();
    Encoder::new(config, &weights, Setup { adapter: 0, batch }).unwrap_or_else(|error| panic!("{error}"))
}

fn save(dir: &Path, config: &Config) {
    file::save(dir, config, &init::random(config, 3).unwrap(), file::Precision::F32, false).unwrap();
}

fn assert_close(name: &str, got: &[Encoded], want: &[Encoded]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().zip(want) {
        let embedding = error(&got.embedding, &want.embedding);
        let tokens = got.tokens.as_ref().map(|tokens| error(tokens, want.tokens.as_ref().unwrap()));
        println!("{name}: {embedding:.1e} {tokens:?}");
        assert!(
            embedding < 1e-5 && tokens.is_none_or(|tokens| tokens < 1e-5),
            "{name}: {embedding} {tokens:?}"
        );
    }
}

#[test]
fn every_shape_gives_candles_numbers_alone_and_in_batches() {
    for (name, config) in shapes() {
        let frames = frames(&config);
        let want = reference(&config, &frames);
        // Three frames in batches of two: the second batch is not full.
        let mut encoder = encoder(&config, 2);
        assert_close(name, &encoder.frames(&frames, true).unwrap(), &want);
        let alone = encoder.frames(&frames[1..2], false).unwrap();
        assert!(alone[0].tokens.is_none());
        assert_close(name, &alone, &want[1..2]);
    }
}

#[test]
fn patches_give_what_their_frames_give() {
    let (name, config) = shapes().remove(0);
    let frames = frames(&config);
    let patches: Vec<Vec<f32>> = frames.iter().map(|frame| patches(&config, frame)).collect();
    let patches: Vec<&[f32]> = patches.iter().map(Vec::as_slice).collect();
    let got = encoder(&config, 3).patches(&patches, true).unwrap();
    assert_close(name, &got, &reference(&config, &frames));
}

#[test]
fn a_model_folder_opens_by_the_adapters_number_and_shares_the_processors_space() {
    let (_, config) = shapes().remove(0);
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &config);
    let mut gpu = open(dir.path(), DeviceChoice::Wgpu(0)).unwrap_or_else(|error| panic!("{error}"));
    let processor = open(dir.path(), DeviceChoice::Cpu).unwrap();
    assert_eq!(gpu.info().space, processor.info().space);
    assert!(gpu.info().device.contains("Vulkan"), "{:?}", gpu.info());
    let frames = frames(&config);
    assert_close("opened", &gpu.encode(&frames, true).unwrap(), &reference(&config, &frames));
    assert!(gpu.encode(&[], true).unwrap().is_empty());
}

/// What `dc-encoder embed --device wgpu…` says with some drivers.
fn embed(device: &str, drivers: Option<&str>) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let frames = pretrain::frames(dir.path(), 2);
    let model = dir.path().join("model");
    save(&model, &pretrain::tiny());
    let mut command = Command::new(env!("CARGO_BIN_EXE_dc-encoder"));
    command.args(["embed", "--device", device, "--model"]).arg(&model);
    command.arg("--frames").arg(&frames).arg("--out").arg(dir.path().join("embeddings.safetensors"));
    if let Some(drivers) = drivers {
        // The loader's two names for the files that say where drivers are; the older is the only one that old ones know.
        command.env("VK_DRIVER_FILES", drivers).env("VK_ICD_FILENAMES", drivers);
    }
    let output = command.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn the_command_says_which_adapter_it_runs_on() {
    let (done, text) = embed("wgpu", None);
    assert!(done && text.contains("Vulkan") && text.contains("wgpu 30"), "{text}");
}

#[test]
fn without_a_driver_the_command_says_what_to_install() {
    let (done, text) = embed("wgpu", Some("/nowhere/driver.json"));
    assert!(!done && !text.contains("panicked"), "{text}");
    for part in ["wgpu:0 cannot be used", "mesa-vulkan-drivers", "--device cpu"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_number_beyond_the_adapters_lists_them() {
    let (done, text) = embed("wgpu:99", None);
    assert!(!done && text.contains("wgpu:99") && text.contains("wgpu:0 = "), "{text}");
}
