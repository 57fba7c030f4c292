//! The processor's own path against candle, in every shape the encoder can have.

use std::sync::Arc;

use candle_core::Device;
use dc_encoder::backend::cpu::simd::Isa;
use dc_encoder::backend::cpu::{Encoder, Setup};
use dc_encoder::backend::{Encoded, Precision};
use dc_encoder::model::config::{Attention, LandmarkKind, Pooling};
use dc_encoder::model::{Config, Model, init};
use shared::image::Rgb;
use shared::preprocess::{PatchGeometry, patchify};

/// 40x72 pixels, patch 8: 5x9 patches, and widths that fill no panel.
fn ragged() -> Config {
    let json = r#"{
        "model_type": "nystrom-vit", "height": 40, "width": 72, "patch": 8, "dim": 44, "depth": 2, "heads": 3,
        "dim_head": 10, "mlp": 70, "embed_dim": 18, "landmarks": 64, "qkv_bias": true,
        "pooling": { "kind": "mean", "version": 1 },
        "preprocess": { "version": 1, "height": 40, "width": 72, "mean": [0.4, 0.5, 0.6], "std": [0.25, 0.2, 0.3] }
    }"#;
    Config::from_json(json).unwrap()
}

/// Every kind of attention, token and pooling.
fn shapes() -> Vec<(&'static str, Config)> {
    let exact = ragged();
    let nystrom = Config { attention: Attention::Nystrom, landmarks: 20, ..ragged() };
    let blocks = Config { landmark_kind: LandmarkKind::Blocks, class_token: true, ..nystrom.clone() };
    let conv = Config { conv_kernel: 5, ..nystrom.clone() };
    let wide = Config { dim_head: 40, heads: 2, conv_kernel: 3, class_token: true, ..ragged() };
    let regions = Config { pooling: Pooling::Regions { version: 1, rows: 2, cols: 3 }, ..ragged() };
    let pooling = Pooling::Cells { version: 1, cells: 2, rows: 3, cols: 5 };
    let cells = Config { pooling, embed_dim: 60, ..ragged() };
    vec![
        ("exact", exact),
        ("nystrom rows", nystrom),
        ("nystrom blocks, class token", blocks),
        ("nystrom, convolution", conv),
        ("wide heads, convolution, class token", wide),
        ("regions", regions),
        ("cells", cells),
    ]
}

fn frames(config: &Config) -> Vec<Arc<Rgb>> {
    let (width, height) = (config.width as u32, config.height as u32);
    let make = |seed: u32| {
        let byte = |i: u32| ((i.wrapping_mul(2_654_435_761) >> 20) as u8 ^ (seed as u8)) / 2 + (i % 97) as u8;
        Arc::new(Rgb::new(width, height, (0..width * height * 3).map(byte).collect()).unwrap())
    };
    (0..3).map(|seed| make(seed * 40)).collect()
}

fn patches(config: &Config, frame: &Rgb) -> Vec<f32> {
    let side = |pixels: usize| pixels as u32;
    let geometry =
        PatchGeometry { height: side(config.height), width: side(config.width), patch: side(config.patch) };
    patchify(&config.preprocess.normalise(frame), geometry)
}

fn reference(config: &Config, frames: &[Arc<Rgb>]) -> Vec<Encoded> {
    let model = Model::from_weights(config, init::random(config, 3).unwrap(), &Device::Cpu).unwrap();
    let each = frames.iter().map(|frame| {
        let shape = (1, config.patches(), config.patch_dim());
        let input = candle_core::Tensor::from_vec(patches(config, frame), shape, &Device::Cpu).unwrap();
        let (embedding, tokens) = model.encoder().encode_patches(&input, true).unwrap();
        let numbers = |t: candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        Encoded { embedding: numbers(embedding), tokens: tokens.map(numbers) }
    });
    each.collect()
}

fn encoder(config: &Config, precision: Precision, isa: Isa) -> Encoder {
    let setup = Setup { precision, isa, threads: 2, batch: 2 };
    Encoder::new(config, &init::random(config, 3).unwrap(), setup).unwrap()
}

/// Largest difference as a share of the largest number.
fn error(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    got.iter().zip(want).fold(0f32, |most, (a, b)| {
        assert!(a.is_finite(), "{a}");
        most.max((a - b).abs())
    }) / largest
}

#[test]
fn every_shape_gives_candles_numbers_with_any_instructions() {
    for (name, config) in shapes() {
        let frames = frames(&config);
        let want = reference(&config, &frames);
        for isa in [Isa::detect(), Isa::portable()] {
            for (precision, tolerance) in
                [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2), (Precision::Int8, 6e-2)]
            {
                let mut encoder = encoder(&config, precision, isa);
                for (got, want) in encoder.frames(&frames, true).iter().zip(&want) {
                    let embedding = error(&got.embedding, &want.embedding);
                    let tokens = error(got.tokens.as_ref().unwrap(), want.tokens.as_ref().unwrap());
                    println!("{name} {precision} {isa:?}: {embedding:.1e} {tokens:.1e}");
                    assert!(embedding < tolerance && tokens < tolerance, "{name} {precision} {isa:?}");
                }
            }
        }
    }
}
