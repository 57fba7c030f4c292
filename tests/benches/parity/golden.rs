//! The golden encoder: 63 tokens, Nyström attention, numbers that PyTorch computed in f64.

use std::path::Path;

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use dc_encoder::backend::cpu::{Encoder, Setup};
use dc_encoder::backend::{Encoded, cuda, wgpu};
use dc_encoder::model::file::Weights;
use dc_encoder::model::{Config, Model, patches};
use dc_encoder::parity::Agreement;
use serde_json::{Value, json};

use super::Row;
use super::ways::{Way, ways};

const CASE: &str = "../dc-encoder/tests/golden/cases/enc_p8_63tok_uneven.safetensors";

/// Every way on the case; how many rows are past their tolerance.
pub(crate) fn run() -> anyhow::Result<usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(CASE);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes)?;
    let text = metadata.metadata().as_ref().and_then(|map| map.get("config")).context("a configuration")?;
    let config = config(&serde_json::from_str(text)?)?;
    let mut weights: Weights = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let images = weights.remove("image").context("images")?;
    let want = weights.remove("out.embedding").context("embeddings")?.to_dtype(candle_core::DType::F32)?;
    weights.retain(|name, _| !name.starts_with("out.") && !name.starts_with("mid."));
    let reference: Vec<Encoded> =
        want.to_vec2()?.into_iter().map(|embedding| Encoded { embedding, tokens: None }).collect();
    let mut failed = 0;
    for way in &ways() {
        for batch in [1, reference.len()] {
            let got = encode(way, (&config, &weights), &images, batch)?;
            let agreement = Agreement::of(&reference, &got);
            failed += usize::from(Row { case: "golden", way, batch, agreement, moves: None }.fails());
        }
    }
    Ok(failed)
}

fn encode(
    way: &Way,
    (config, weights): (&Config, &Weights),
    images: &Tensor,
    batch: usize,
) -> anyhow::Result<Vec<Encoded>> {
    let flat = patches::for_embedding(images, config.patch)?.to_dtype(candle_core::DType::F32)?;
    let frames: Vec<Vec<f32>> = flat.flatten_from(1)?.to_vec2()?;
    let mut all = Vec::new();
    match *way {
        Way::Candle => {
            let model = Model::from_weights(config, weights.clone(), &Device::Cpu)?;
            for first in (0..frames.len()).step_by(batch) {
                let part = flat.narrow(0, first, batch.min(frames.len() - first))?;
                let (embedding, _) = model.encoder().encode_patches(&part, false)?;
                all.extend(embedding.to_vec2()?.into_iter().map(|e| Encoded { embedding: e, tokens: None }));
            }
        }
        Way::Own(precision, isa) => {
            let setup = Setup { precision, isa, threads: 2, batch };
            let mut encoder = Encoder::new(config, weights, setup)?;
            let frames: Vec<&[f32]> = frames.iter().map(Vec::as_slice).collect();
            for part in frames.chunks(batch) {
                all.extend(encoder.patches(part, false));
            }
        }
        Way::Cuda(precision) => {
            let setup = cuda::Setup { device: 0, precision, batch };
            let mut encoder = cuda::Encoder::new(config, weights, setup)?;
            let frames: Vec<&[f32]> = frames.iter().map(Vec::as_slice).collect();
            for part in frames.chunks(batch) {
                all.extend(encoder.patches(part, false)?);
            }
        }
        Way::Wgpu => {
            let mut encoder = wgpu::Encoder::new(config, weights, wgpu::Setup { adapter: 0, batch })?;
            let frames: Vec<&[f32]> = frames.iter().map(Vec::as_slice).collect();
            for part in frames.chunks(batch) {
                all.extend(encoder.patches(part, false)?);
            }
        }
    }
    Ok(all)
}

/// The case's configuration in the product's terms.
fn config(case: &Value) -> anyhow::Result<Config> {
    let (height, width) = (&case["height"], &case["width"]);
    let config = json!({
        "model_type": "nystrom-vit", "height": height, "width": width, "patch": case["patch"], "dim": case["dim"],
        "depth": case["depth"], "heads": case["heads"], "dim_head": case["dim_head"], "mlp": case["mlp"],
        "embed_dim": case["embed"], "attention": "nystrom", "landmarks": case["landmarks"],
        "pinv_iterations": case["iters"], "conv_kernel": case["conv_kernel"],
        "qkv_bias": case["qkv_bias"].as_bool().unwrap_or(false), "ln_eps": case["ln_eps"],
        "pooling": { "kind": "mean", "version": 1 },
        "preprocess": {
            "version": 1, "height": height, "width": width, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]
        },
    });
    Ok(Config::from_json(&config.to_string())?)
}
