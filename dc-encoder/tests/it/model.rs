//! Model folders: made, read, refused, imported; attention and backend seen from outside.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, IndexOp as _, Tensor};
use candle_nn::VarBuilder;
use dc_encoder::backend::{BackendError, DeviceChoice, open};
use dc_encoder::model::attention::{Landmarks, exact, nystrom};
use dc_encoder::model::config::{Attention, LandmarkKind, Origin, Pooling};
use dc_encoder::model::file::{self, Precision, Weights};
use dc_encoder::model::mae::{Mae, loss, target};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::space as spaces;
use dc_encoder::model::{Config, Encoder, Model, init};
use shared::image::Rgb;

mod folder;
mod import;
mod space;

/// A few thousand parameters: 32x48 pixels, patch 8, 24 tokens.
fn tiny() -> Config {
    let json = r#"{
        "model_type": "nystrom-vit", "height": 32, "width": 48, "patch": 8, "dim": 24, "depth": 2, "heads": 2,
        "dim_head": 8, "mlp": 32, "embed_dim": 16, "landmarks": 64, "pooling": { "kind": "mean", "version": 1 },
        "preprocess": { "version": 1, "height": 32, "width": 48, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] },
        "decoder": { "dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "mlp": 24 },
        "weights": { "origin": "random", "seed": 7 }
    }"#;
    Config::from_json(json).unwrap()
}

fn saved(config: &Config) -> (tempfile::TempDir, Weights) {
    let dir = tempfile::tempdir().unwrap();
    let weights = init::random(config, 7).unwrap();
    file::save(dir.path(), config, &weights, Precision::F32, false).unwrap();
    (dir, weights)
}

/// Numbers that look random and are the same everywhere.
fn waves(shape: &[usize], step: f64) -> Tensor {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i| ((i as f64 * step).sin() * 1e4).fract() as f32 * 2.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn assert_says(message: &str, wanted: &[&str]) {
    for want in wanted {
        assert!(message.contains(want), "{want:?} in: {message}");
    }
}

fn vb(weights: &Weights) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

// ---- attention ----

#[test]
fn a_batch_gives_what_its_images_give_alone() {
    let regions = Pooling::Regions { version: 1, rows: 2, cols: 2 };
    for (landmarks, kind, pooling) in [
        (64, LandmarkKind::Rows, Pooling::Mean { version: 1 }),
        (7, LandmarkKind::Rows, regions.clone()),
        (7, LandmarkKind::Blocks, regions),
    ] {
        let config = Config { landmarks, landmark_kind: kind, pooling, ..tiny() };
        config.validate().unwrap();
        let encoder = Encoder::new(&config, vb(&init::random(&config, 3).unwrap())).unwrap();
        // The neighbours are far larger: a scale taken over the batch would show.
        let quiet = waves(&[1, 3, 32, 48], 1.3);
        let loud = (waves(&[2, 3, 32, 48], 2.9) * 40.0).unwrap();
        let both = encoder.forward(&Tensor::cat(&[&quiet, &loud], 0).unwrap()).unwrap();
        let alone = encoder.forward(&quiet).unwrap();
        let scale = alone.embedding.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let difference = largest_difference(&both.embedding.i(..1).unwrap(), &alone.embedding);
        assert!(difference < 1e-5 * scale, "{landmarks} {kind:?}: {difference} of {scale}");
        let difference = largest_difference(&both.tokens.i(..1).unwrap(), &alone.tokens);
        assert!(difference < 1e-4 * scale, "{landmarks} {kind:?}: {difference} of {scale}");
    }
}

/// Queries, keys or values `[1, 2, 45 * 80, 16]` that vary smoothly over the patch grid, as pictures do.
fn smooth_field(phase: f32) -> Tensor {
    let mut values = Vec::with_capacity(2 * 3600 * 16);
    for head in 0..2 {
        for patch in 0..3600 {
            let (y, x) = ((patch / 80) as f32 / 45.0, (patch % 80) as f32 / 80.0);
            for channel in 0..16 {
                let (a, b) = ((channel % 4) as f32 + 0.5, (channel / 4) as f32 + 0.5);
                let angle =
                    std::f32::consts::PI * (a * y + b * x) + phase + channel as f32 + 0.7 * head as f32;
                values.push(angle.sin());
            }
        }
    }
    Tensor::from_vec(values, (1, 2, 3600, 16), &Device::Cpu).unwrap()
}

#[test]
fn blocks_come_nearer_to_exact_attention_than_rows_on_smooth_fields() {
    let (q, k, v) = (smooth_field(0.0), smooth_field(1.1), smooth_field(2.3));
    let want = exact(&q, &k, &v).unwrap();
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let error = |landmarks: &Landmarks| {
        norm(&(nystrom(&q, &k, &v, landmarks, 6).unwrap() - &want).unwrap()) / norm(&want)
    };
    let all: Vec<u32> = (0..3600).collect();
    let rows = error(&Landmarks::rows(3600, 256, &Device::Cpu).unwrap());
    let blocks = error(&Landmarks::blocks((45, 80), 256, &all, false, &Device::Cpu).unwrap());
    assert!(blocks < 0.6 * rows, "rows {rows}, blocks {blocks}");
}

// ---- pretraining ----

#[test]
fn masked_passes_with_blocks_take_each_images_own_landmarks_and_train() {
    let blocks = Config { landmark_kind: LandmarkKind::Blocks, ..tiny() };
    let config = Config { attention: Attention::Nystrom, landmarks: 5, ..blocks };
    let weights = init::random(&config, 3).unwrap();
    let vars: HashMap<String, candle_core::Var> =
        weights.iter().map(|(n, t)| (n.clone(), candle_core::Var::from_tensor(t).unwrap())).collect();
    let tracked: Weights = vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    let mae = Mae::new(&config, config.decoder.as_ref().unwrap(), vb(&tracked)).unwrap();
    let images = waves(&[2, 3, 32, 48], 1.3);
    // The first image shows the upper left only, the second is spread out: other blocks are empty.
    let visible = Tensor::new(&[[0u32, 1, 2, 6, 7, 8, 12], [0, 5, 9, 14, 18, 20, 23]], &Device::Cpu).unwrap();
    let masked = mae.forward(&images, &visible).unwrap();
    for image in 0..2 {
        let alone =
            mae.forward(&images.i(image..=image).unwrap(), &visible.i(image..=image).unwrap()).unwrap();
        let both = masked.prediction.i(image..=image).unwrap();
        assert!(largest_difference(&both, &alone.prediction) < 1e-4);
    }
    let loss = loss(&masked, &target(&images, config.patch, true).unwrap()).unwrap();
    let grads = loss.backward().unwrap();
    let pooling_only = ["embed.weight", "embed.bias"];
    for (name, var) in vars.iter().filter(|(name, _)| !pooling_only.contains(&name.as_str())) {
        let grad = grads.get(var).unwrap_or_else(|| panic!("no gradient for {name}"));
        let size = grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
    }
}

// ---- backend ----

fn frame(config: &Config, seed: u8) -> Arc<Rgb> {
    let (width, height) = (config.width as u32, config.height as u32);
    let data = (0..width * height * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect();
    Arc::new(Rgb::new(width, height, data).unwrap())
}

#[test]
fn the_backend_encodes_batches_as_it_encodes_single_frames() {
    let config = tiny();
    let (dir, _) = saved(&config);
    let mut backend = open(dir.path(), DeviceChoice::Cpu).unwrap();
    let info = backend.info();
    assert_eq!((info.embed_dim, info.grid, info.input), (16, (4, 6, 16), (32, 48)));
    assert_eq!(info.note, "random weights (seed 7)");
    assert_eq!(info.space, Model::load(dir.path(), &Device::Cpu).unwrap().space());

    let frames: Vec<_> = (0..3).map(|seed| frame(&config, seed * 80)).collect();
    let batch = backend.encode(&frames, true).unwrap();
    for (frame, batched) in frames.iter().zip(&batch) {
        let alone = &backend.encode(std::slice::from_ref(frame), false).unwrap()[0];
        assert_eq!((alone.embedding.len(), &alone.tokens), (16, &None));
        assert_eq!(batched.tokens.as_ref().unwrap().len(), 24 * 16);
        for (a, b) in alone.embedding.iter().zip(&batched.embedding) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
    assert_ne!(batch[0].embedding, batch[1].embedding);
    assert!(backend.encode(&[], false).unwrap().is_empty());
    let error = backend.encode(&[frames[0].clone(), Arc::new(Rgb::filled(8, 9, [0; 3]))], false).unwrap_err();
    assert!(
        matches!(error, BackendError::FrameSize { index: 1, got_width: 8, got_height: 9, .. }),
        "{error}"
    );
}

#[test]
fn the_demo_preset_keeps_the_layout_of_the_picture_even_with_random_weights() {
    let config = Config { decoder: None, ..Preset::find("demo").unwrap().config() };
    let (dir, _) = saved(&config);
    let mut backend = open(dir.path(), DeviceChoice::Cpu).unwrap();
    let plain = Rgb::filled(640, 384, [90, 100, 110]);
    // A bright square in patch rows 6..9 and columns 12..15: of the 8x16 regions, rows 4..6 and columns 9..12.
    let mut marked = plain.clone();
    for y in 200..280 {
        for x in 390..470 {
            let at = (y * 640 + x) * 3;
            marked.data[at..at + 3].copy_from_slice(&[250, 240, 60]);
        }
    }
    let encoded = backend.encode(&[Arc::new(plain), Arc::new(marked)], false).unwrap();
    let change: Vec<f32> = encoded[0]
        .embedding
        .chunks(4)
        .zip(encoded[1].embedding.chunks(4))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>())
        .collect();
    let inside: f32 =
        (4..6).flat_map(|row| (9..12).map(move |col| row * 16 + col)).map(|at| change[at]).sum();
    assert!(inside > 0.9 * change.iter().sum::<f32>(), "{change:?}");
}
