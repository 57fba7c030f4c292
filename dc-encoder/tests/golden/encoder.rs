//! Whole encoders: image to tokens to embedding.

use std::collections::HashMap;

use candle_core::{DType, Device, IndexOp as _, Tensor};
use candle_nn::VarBuilder;
use dc_encoder::backend::wgpu;
use dc_encoder::model::config::{Attention, Decoder, LandmarkKind, MODEL_TYPE, Pooling};
use dc_encoder::model::{Config, Encoder, patches};
use shared::preprocess::Preprocess;

use super::case::{Case, LOOSE, Outcome, PLAIN};
use super::peer;

/// The case's configuration in this crate's terms.
pub(crate) fn config(case: &Case) -> Config {
    assert_eq!(case.config["pinv_scope"], "matrix", "a scale over the whole batch is not built, by design");
    let (height, width) = (case.count("height"), case.count("width"));
    let decoder = (case.count("dec_depth") > 0).then(|| Decoder {
        dim: case.count("dec_dim"),
        depth: case.count("dec_depth"),
        heads: case.count("dec_heads"),
        dim_head: case.count("dec_dim_head"),
        mlp: case.count("dec_mlp"),
        target: Default::default(),
    });
    let config = Config {
        model_type: MODEL_TYPE.to_owned(),
        height,
        width,
        patch: case.count("patch"),
        dim: case.count("dim"),
        depth: case.count("depth"),
        heads: case.count("heads"),
        dim_head: case.count("dim_head"),
        mlp: case.count("mlp"),
        embed_dim: case.count("embed"),
        attention: match case.config["attn"].as_str() {
            // The reference goes through landmarks as soon as there are more tokens than these.
            Some("auto") if case.count("landmarks") < height * width / case.count("patch").pow(2) => {
                Attention::Nystrom
            }
            Some("auto") => Attention::Exact,
            Some("exact") => Attention::Exact,
            Some("nystrom") => Attention::Nystrom,
            other => panic!("attention {other:?} is not built, by design"),
        },
        landmarks: case.count("landmarks"),
        landmark_kind: LandmarkKind::Rows,
        pinv_iterations: case.count("iters"),
        conv_kernel: case.count("conv_kernel"),
        qkv_bias: case.flag("qkv_bias"),
        ln_eps: case.number("ln_eps"),
        class_token: false,
        pooling: Pooling::Mean { version: 1 },
        preprocess: Preprocess::imagenet(height as u32, width as u32),
        decoder,
        weights: None,
        readout: None,
    };
    config.validate().unwrap();
    config
}

/// The tolerance that this shape's attention allows.
pub(crate) fn tolerance(config: &Config, tokens: usize) -> f64 {
    if config.is_exact(tokens) { PLAIN } else { LOOSE }
}

pub(crate) fn run(mut case: Case) -> Outcome {
    let config = config(&case);
    let image = case.input("image");
    let weights = case.weights(&["image"]);
    let vb = || VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu);
    let encoder = Encoder::new(&config, vb()).unwrap();
    let tolerance = tolerance(&config, config.tokens());

    let flat = patches::for_embedding(&image, config.patch).unwrap();
    let embedded = encoder.embed_patches(&flat).unwrap();
    case.check("mid.patch_tokens", &embedded, PLAIN);
    case.check("mid.block0", &encoder.after_blocks(&embedded, 1).unwrap(), tolerance);
    let hidden = encoder.patch_hidden(&flat).unwrap();
    case.check("out.tokens", &hidden, tolerance);
    case.check("out.pooled", &hidden.mean(1).unwrap(), tolerance);
    let output = encoder.forward(&image).unwrap();
    case.check("out.embedding", &output.embedding, tolerance);
    // The embedding is the mean of the latent tokens.
    case.compare("mean of latent tokens", &output.tokens.mean(1).unwrap(), &output.embedding, PLAIN);

    let exact = Config { attention: Attention::Exact, ..config.clone() };
    let exact = Encoder::new(&exact, vb()).unwrap().patch_hidden(&flat).unwrap();
    case.check("out.tokens_exact", &exact, PLAIN);
    case.check("out.tokens_front_pad_global", &peer::encoder(&weights, &flat, &config), LOOSE);
    one_at_a_time(&mut case, &encoder, &image, &output.embedding, tolerance);
    let gpu = on_wgpu(&config, &weights, &flat);
    case.compare("embedding by wgpu", &gpu, &output.embedding, tolerance);
    case.finish()
}

/// The embeddings that the first Vulkan driver computes, `[batch, embed_dim]`.
fn on_wgpu(config: &Config, weights: &HashMap<String, Tensor>, flat: &Tensor) -> Tensor {
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let weights = weights.iter().map(|(name, tensor)| (name.clone(), single(tensor))).collect();
    let frames = single(flat).flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let frames: Vec<&[f32]> = frames.iter().map(Vec::as_slice).collect();
    let setup = wgpu::Setup { adapter: 0, batch: frames.len() };
    let mut encoder = wgpu::Encoder::new(config, &weights, setup).unwrap_or_else(|error| panic!("{error}"));
    let encoded = encoder.patches(&frames, false).unwrap();
    let numbers: Vec<f32> = encoded.into_iter().flat_map(|frame| frame.embedding).collect();
    Tensor::from_vec(numbers, (frames.len(), config.embed_dim), &Device::Cpu).unwrap()
}

/// A batch gives what its images give alone.
fn one_at_a_time(case: &mut Case, encoder: &Encoder, image: &Tensor, batched: &Tensor, tolerance: f64) {
    for i in 0..image.dim(0).unwrap() {
        let alone = encoder.forward(&image.i(i..i + 1).unwrap()).unwrap().embedding;
        case.compare(&format!("image {i} alone"), &alone, &batched.i(i..i + 1).unwrap(), tolerance);
    }
}
