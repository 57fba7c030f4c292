//! The forward pass as planned, on the processor, against the processor's own path.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use shared::image::Rgb;

use super::emulated::Run;
use super::network::{Network, pixels};
use super::plan::Element;
use crate::backend::cpu::{self, simd::Isa};
use crate::backend::source::Source;
use crate::backend::{Encoded, Precision};
use crate::model::config::{Attention, LandmarkKind, Pooling};
use crate::model::{Config, init};
use crate::parity::{Agreement, probe_frames};

/// 40x72 pixels, patch 8: 5x9 patches, and widths that fill no tile.
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
    let nystrom = Config { attention: Attention::Nystrom, landmarks: 20, ..ragged() };
    let blocks = Config { landmark_kind: LandmarkKind::Blocks, class_token: true, ..nystrom.clone() };
    let cells = Pooling::Cells { version: 1, cells: 2, rows: 3, cols: 5 };
    vec![
        ("exact", ragged()),
        ("nystrom, convolution", Config { conv_kernel: 5, ..nystrom }),
        ("nystrom blocks, class token", blocks),
        (
            "wide heads, convolution, class token",
            Config { dim_head: 40, heads: 2, conv_kernel: 3, class_token: true, ..ragged() },
        ),
        (
            "tall, regions",
            Config {
                height: 128,
                preprocess: shared::preprocess::Preprocess { height: 128, ..ragged().preprocess },
                pooling: Pooling::Regions { version: 1, rows: 2, cols: 3 },
                ..ragged()
            },
        ),
        ("cells", Config { pooling: cells, embed_dim: 60, ..ragged() }),
    ]
}

struct Model {
    config: Config,
    weights: HashMap<String, Tensor>,
    frames: Vec<Arc<Rgb>>,
}

impl Model {
    fn new(config: &Config) -> Self {
        let weights = init::random(config, 3).unwrap();
        Self { config: config.clone(), weights, frames: probe_frames(config, 3) }
    }

    /// As in a trained encoder on a fixed camera, every token of every frame looks much alike to every layer.
    fn alike(mut self) -> Self {
        for (name, tensor) in &mut self.weights {
            if name.contains("norm") && name.ends_with(".weight") {
                *tensor = (&*tensor * 0.05).unwrap();
            } else if name.contains("norm") && name.ends_with(".bias") {
                *tensor = (&*tensor + 1.0).unwrap();
            }
        }
        self
    }

    fn reference(&self) -> Vec<Encoded> {
        let setup = cpu::Setup { precision: Precision::F32, isa: Isa::portable(), threads: 1, batch: 1 };
        cpu::Encoder::new(&self.config, &self.weights, setup).unwrap().frames(&self.frames, true)
    }

    /// What the plan gives for the first `frames` frames, in memory for all of them; from normalised patches, or bytes.
    fn emulated(&self, element: Element, (frames, from_patches): (usize, bool)) -> Vec<Encoded> {
        let source = Source { weights: &self.weights };
        let network = Network::new(&self.config, &source, (element, self.frames.len())).unwrap().unwrap();
        let mut steps: Vec<_> = network.steps(true).collect();
        let input = if from_patches {
            let geometry = shared::preprocess::PatchGeometry {
                height: self.config.height as u32,
                width: self.config.width as u32,
                patch: self.config.patch as u32,
            };
            let normalised = self.frames[..frames].iter().flat_map(|frame| {
                shared::preprocess::patchify(&self.config.preprocess.normalise(frame), geometry)
            });
            let normalised: Vec<f32> = normalised.collect();
            (network.patches.memory, network.patches.encode(&pixels(&self.config, &normalised)))
        } else {
            steps.insert(0, &network.cut[1]);
            (network.frames[1], self.frames[..frames].iter().flat_map(|frame| frame.data.clone()).collect())
        };
        let (embedding, latent) = (&network.readout.embedding, &network.readout.latent);
        let outputs = vec![embedding.result.memory, latent.result.memory];
        let run = Run { plan: &network.plan, steps, frames, inputs: vec![input], outputs };
        let words: Vec<Vec<f32>> = run
            .outputs()
            .iter()
            .map(|bytes| bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect())
            .collect();
        let each = embedding.gather(&words[0], frames).into_iter().zip(latent.gather(&words[1], frames));
        each.map(|(embedding, tokens)| Encoded { embedding, tokens: Some(tokens) }).collect()
    }
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

fn assert_close(name: &str, (got, want): (&[Encoded], &[Encoded]), tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().zip(want) {
        let embedding = error(&got.embedding, &want.embedding);
        let tokens = error(got.tokens.as_ref().unwrap(), want.tokens.as_ref().unwrap());
        println!("{name}: {embedding:.1e} {tokens:.1e}");
        assert!(embedding < tolerance && tokens < tolerance, "{name}: {embedding} {tokens}");
    }
}

#[test]
fn every_shape_gives_the_processors_numbers_in_f32() {
    for (name, config) in shapes() {
        let model = Model::new(&config);
        let got = model.emulated(Element::F32, (3, false));
        assert_close(name, (&got, &model.reference()), 1e-5);
    }
}

#[test]
fn every_shape_gives_the_processors_numbers_in_bf16_but_for_rounding() {
    for (name, config) in shapes() {
        let model = Model::new(&config);
        let got = model.emulated(Element::Bf16, (3, false));
        assert_close(name, (&got, &model.reference()), 3e-2);
    }
}

#[test]
fn heads_of_whole_vectors_and_more_keys_than_a_block_holds() {
    let config = Config { dim_head: 24, ..ragged() };
    let tall = Config {
        height: 136,
        preprocess: shared::preprocess::Preprocess { height: 136, ..config.preprocess.clone() },
        ..config
    };
    let model = Model::new(&tall);
    assert_close("aligned", (&model.emulated(Element::Bf16, (3, false)), &model.reference()), 3e-2);
}

#[test]
fn fewer_frames_than_a_batch_and_patches_give_the_same() {
    let model = Model::new(&shapes().remove(2).1);
    let want = model.reference();
    assert_close("one frame", (&model.emulated(Element::F32, (1, false)), &want[..1]), 1e-5);
    assert_close("patches", (&model.emulated(Element::F32, (2, true)), &want[..2]), 1e-5);
}

#[test]
fn what_all_tokens_have_in_common_costs_no_digits_of_what_changes() {
    // A residual convolution adds its own share of what values have in common, which stays in the rows.
    for (name, config) in shapes().into_iter().filter(|(_, config)| config.conv_kernel == 0) {
        let model = Model::new(&config).alike();
        let error = Agreement::of(&model.reference(), &model.emulated(Element::Bf16, (3, false))).difference;
        println!("{name}: {error:.1e}");
        assert!(error < 0.02, "{name}: {error}");
    }
}
