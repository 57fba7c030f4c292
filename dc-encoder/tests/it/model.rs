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
use dc_encoder::model::import::{self, ClassToken, Options};
use dc_encoder::model::mae::{Mae, loss, target};
use dc_encoder::model::preset::Preset;
use dc_encoder::model::{Config, Encoder, Model, init, space};
use shared::image::Rgb;

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

fn vb(weights: &Weights) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

// ---- folders ----

#[test]
fn a_seed_gives_the_same_model_on_every_machine() {
    let (dir, weights) = saved(&tiny());
    let (again, _) = saved(&tiny());
    let bytes = |dir: &Path, name| std::fs::read(dir.join(name)).unwrap();
    for name in ["config.json", "model.safetensors"] {
        assert_eq!(bytes(dir.path(), name), bytes(again.path(), name), "{name}");
    }
    let model = Model::load(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(model.config(), &tiny());
    assert_eq!(model.space(), space::id(&tiny(), &weights).unwrap());
    assert_eq!(model.config().note(), "random weights (seed 7)");
    // Pinned: covers the generator, the initialisation and the definition of the space.
    assert_eq!(model.space().to_string(), PINNED_SPACE);
}

const PINNED_SPACE: &str = "daa1b89da6c2068b3fdefc5fdc6bf112310202848d5076c5dfec48ee8ab8cc27";

#[test]
fn a_model_is_not_overwritten_unless_told() {
    let (dir, weights) = saved(&tiny());
    let error = file::save(dir.path(), &tiny(), &weights, Precision::F32, false).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    file::save(dir.path(), &tiny(), &weights, Precision::F16, true).unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
}

#[test]
fn half_precision_weights_are_read_and_nearly_the_same() {
    let (dir, weights) = saved(&tiny());
    let images = waves(&[1, 3, 32, 48], 1.7);
    let whole = Model::load(dir.path(), &Device::Cpu).unwrap().forward(&images).unwrap().embedding;
    for (precision, tolerance) in [(Precision::F16, 5e-3), (Precision::Bf16, 4e-2)] {
        let dir = tempfile::tempdir().unwrap();
        file::save(dir.path(), &tiny(), &weights, precision, false).unwrap();
        let model = Model::load(dir.path(), &Device::Cpu).unwrap();
        let difference = largest_difference(&model.forward(&images).unwrap().embedding, &whole);
        assert!(difference > 0.0 && difference < tolerance, "{precision:?}: {difference}");
        // What counts is what the numbers widen to: the same values in f32 are the same space.
        let (config, widened) = file::load(dir.path()).unwrap();
        assert_eq!(space::id(&config, &widened).unwrap(), model.space());
    }
}

/// The message of loading a folder whose tensors were changed by `edit`.
fn error_after(edit: impl Fn(&mut HashMap<String, Tensor>)) -> String {
    let (dir, _) = saved(&tiny());
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    edit(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    Model::load(dir.path(), &Device::Cpu).unwrap_err().to_string()
}

fn assert_says(message: &str, wanted: &[&str]) {
    for want in wanted {
        assert!(message.contains(want), "{want:?} in: {message}");
    }
}

#[test]
fn every_problem_with_a_tensor_names_it_and_the_file_and_a_remedy() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let missing = error_after(|tensors| drop(tensors.remove("blocks.1.mlp.fc1.bias")));
    assert_says(&missing, &["model.safetensors", "`blocks.1.mlp.fc1.bias` [32] is missing", "another model"]);
    let shape = error_after(|tensors| drop(tensors.insert("norm.bias".into(), zeros(&[25], DType::F32))));
    assert_says(
        &shape,
        &["model.safetensors", "`norm.bias` has shape [25]", "wants [24]", "different models"],
    );
    let dtype = error_after(|tensors| drop(tensors.insert("norm.bias".into(), zeros(&[24], DType::F64))));
    assert_says(
        &dtype,
        &["model.safetensors", "`norm.bias` is stored as F64", "F32, F16 or BF16", "convert"],
    );
    let extra = error_after(|tensors| drop(tensors.insert("blocks.2.x".into(), zeros(&[1], DType::F32))));
    assert_says(&extra, &["model.safetensors", "`blocks.2.x` [1]", "no place for it"]);
    let nan = error_after(|tensors| {
        let bad = Tensor::new(&[f32::NAN; 24], &Device::Cpu).unwrap();
        tensors.insert("norm.weight".into(), bad);
    });
    assert_says(&nan, &["model.safetensors", "`norm.weight`", "not finite", "earlier checkpoint"]);
    let decoder = error_after(|tensors| drop(tensors.remove("decoder.mask_token")));
    assert_says(&decoder, &["`decoder.mask_token` [16] is missing", "remove `decoder` from config.json"]);
}

#[test]
fn a_weights_file_that_is_cut_short_or_something_else_is_refused_before_reading_it() {
    let (dir, _) = saved(&tiny());
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Model::load(dir.path(), &Device::Cpu).unwrap_err().to_string()
    };
    assert_says(&message(&whole[..whole.len() - 5]), &["model.safetensors", "cut short", "copy or make"]);
    assert_says(&message(&whole[..100]), &["model.safetensors", "cut short"]);
    assert_says(&message(b"hi"), &["too short"]);
    assert_says(&message(&u64::MAX.to_le_bytes()), &["not a safetensors file"]);
    assert_says(&message(&[&whole[..], b"more"].concat()), &["appended"]);
    std::fs::remove_file(&path).unwrap();
    let absent = Model::load(dir.path(), &Device::Cpu).unwrap_err().to_string();
    assert_says(&absent, &["model.safetensors", "dc-encoder model init"]);
}

// ---- configuration ----

#[test]
fn a_configuration_that_cannot_work_says_why() {
    let refuse = |key: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(tiny()).unwrap();
        let (object, key) = match key.split_once('.') {
            Some((outer, inner)) => (json.get_mut(outer).unwrap(), inner),
            None => (&mut json, key),
        };
        object[key] = value;
        Config::from_json(&json.to_string()).unwrap_err().to_string()
    };
    assert_says(&refuse("landmark", 4.into()), &["unknown field `landmark`", "line 1"]);
    assert_says(&refuse("height", 36.into()), &["`height` is 36", "multiple of `patch` (8)", "32 and 40"]);
    assert_says(&refuse("patch", 0.into()), &["`patch` is 0"]);
    assert_says(&refuse("dim", 1_000_000.into()), &["`dim` is 1000000", "between 1 and"]);
    assert_says(&refuse("depth", 0.into()), &["`depth` is 0"]);
    assert_says(&refuse("ln_eps", 0.into()), &["`ln_eps` is 0"]);
    assert_says(&refuse("conv_kernel", 4.into()), &["`conv_kernel` is 4", "odd"]);
    assert_says(&refuse("attention", "nystrom".into()), &["`landmarks` is 64", "a frame has 24"]);
    assert_says(&refuse("attention", "linear".into()), &["unknown variant `linear`"]);
    assert_says(&refuse("model_type", "vit_mae".into()), &["\"vit_mae\"", "dc-encoder model import"]);
    assert_says(&refuse("preprocess.height", 64.into()), &["`preprocess`", "32x48"]);
    assert_says(&refuse("preprocess.version", 2.into()), &["version"]);
    assert_says(&refuse("pooling.version", 2.into()), &["`pooling.version` is 2", "version 1 only"]);
    assert_says(&refuse("decoder.heads", 0.into()), &["`decoder.heads` is 0"]);
    let regions = serde_json::json!({ "kind": "regions", "version": 1, "rows": 3, "cols": 3 });
    assert_says(&refuse("pooling", regions), &["`embed_dim` is 16", "9 pooling regions"]);
    let regions = serde_json::json!({ "kind": "regions", "version": 1, "rows": 5, "cols": 1 });
    assert_says(&refuse("pooling", regions), &["`pooling.rows` is 5", "between 1 and 4"]);
}

// ---- embedding space ----

#[test]
fn every_meaning_bearing_change_makes_another_space() {
    let config = tiny();
    let weights = init::random(&config, 7).unwrap();
    let original = space::id(&config, &weights).unwrap();
    let mut seen = vec![original];
    let mut other = |edit: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        edit(&mut changed);
        changed.validate().unwrap();
        // Weights of the changed shape where it changed; otherwise the same.
        let fresh = init::random(&changed, 7).unwrap();
        let id = space::id(&changed, &fresh).unwrap();
        assert!(!seen.contains(&id), "{changed:?}");
        seen.push(id);
    };
    other(&|c| c.ln_eps = 1e-6);
    other(&|c| c.preprocess.mean[1] = 0.45);
    other(&|c| c.preprocess.std[2] = 0.3);
    other(&|c| c.pooling = Pooling::Regions { version: 1, rows: 1, cols: 1 });
    other(&|c| (c.heads, c.dim_head) = (4, 4));
    other(&|c| c.landmarks = 12);
    other(&|c| (c.landmarks, c.landmark_kind) = (12, LandmarkKind::Blocks));
    other(&|c| (c.landmarks, c.pinv_iterations) = (12, 7));
    other(&|c| (c.landmarks, c.attention) = (11, Attention::Nystrom));
    other(&|c| c.conv_kernel = 3);
    other(&|c| c.qkv_bias = true);
    other(&|c| c.class_token = true);
    other(&|c| c.depth = 1);
    other(&|c| (c.height, c.preprocess.height) = (40, 40));

    let mut nudged = weights.clone();
    let bias = (&weights["embed.bias"] + 1e-6).unwrap();
    nudged.insert("embed.bias".to_owned(), bias);
    assert_ne!(space::id(&config, &nudged).unwrap(), original);
}

#[test]
fn what_changes_no_embedding_leaves_the_space_alone() {
    let config = tiny();
    let weights = init::random(&config, 7).unwrap();
    let original = space::id(&config, &weights).unwrap();
    let same = |edit: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        edit(&mut changed);
        assert_eq!(space::id(&changed, &weights).unwrap(), original, "{changed:?}");
    };
    same(&|c| c.decoder = None);
    same(&|c| c.weights = Some(Origin::Trained { note: "a while".to_owned() }));
    // A frame has 24 tokens: exact either way.
    same(&|c| c.attention = Attention::Exact);
    same(&|c| (c.landmarks, c.pinv_iterations) = (100, 9));
    let mut retrained = weights.clone();
    retrained.insert("decoder.mask_token".to_owned(), Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(space::id(&config, &retrained).unwrap(), original);
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
    let config = Config { landmarks: 5, landmark_kind: LandmarkKind::Blocks, ..tiny() };
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

// ---- import ----

fn checkpoint() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases/hf_vitmae")
}

/// The checkpoint with its tensors renamed or otherwise edited.
fn edited(edit: impl Fn(HashMap<String, Tensor>) -> HashMap<String, Tensor>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(checkpoint().join("config.json"), dir.path().join("config.json")).unwrap();
    let tensors =
        candle_core::safetensors::load(checkpoint().join("model.safetensors"), &Device::Cpu).unwrap();
    candle_core::safetensors::save(&edit(tensors), dir.path().join("model.safetensors")).unwrap();
    dir
}

#[test]
fn names_of_transformers_4_and_5_import_to_the_same_model() {
    let (config, weights) = import::vit_mae(&checkpoint(), &Options::default()).unwrap();
    let want = space::id(&config, &weights).unwrap();
    let rename = |pairs: &'static [(&str, &str)]| {
        edited(move |tensors| {
            let new =
                |name: &str| pairs.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
            tensors.into_iter().map(|(name, tensor)| (new(&name), tensor)).collect()
        })
    };
    let saved_by_5 = rename(&[("decoder.decoder_layers", "decoder.decoder_encoder.layer")]);
    let in_memory_5 = rename(&[
        ("encoder.layer", "layers"),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ]);
    let bare_encoder = edited(|tensors| {
        let encoder = tensors.into_iter().filter(|(name, _)| name.starts_with("vit."));
        encoder.map(|(name, tensor)| (name.trim_start_matches("vit.").to_owned(), tensor)).collect()
    });
    for (dir, has_decoder) in [(saved_by_5, true), (in_memory_5, true), (bare_encoder, false)] {
        let (config, weights) = import::vit_mae(dir.path(), &Options::default()).unwrap();
        assert_eq!(config.decoder.is_some(), has_decoder);
        assert_eq!(space::id(&config, &weights).unwrap(), want);
    }
}

#[test]
fn an_imported_model_can_drop_its_class_token_change_size_and_attend_through_landmarks() {
    let options = Options {
        class_token: ClassToken::Drop,
        attention: Attention::Nystrom,
        landmarks: Some(12),
        landmark_kind: LandmarkKind::Blocks,
        size: Some((48, 64)),
        encoder_only: true,
    };
    let (config, weights) = import::vit_mae(&checkpoint(), &options).unwrap();
    assert_eq!((config.tokens(), config.class_token, config.decoder.is_none()), (48, false, true));
    let dir = tempfile::tempdir().unwrap();
    file::save(dir.path(), &config, &weights, Precision::F32, false).unwrap();
    let model = Model::load(dir.path(), &Device::Cpu).unwrap();
    let output = model.forward(&waves(&[1, 3, 48, 64], 1.3)).unwrap();
    assert_eq!((output.embedding.dims(), output.tokens.dims()), (&[1, 32][..], &[1, 48, 32][..]));
    assert!(model.config().note().contains("ViT-MAE, hf_vitmae"), "{}", model.config().note());
}

#[test]
fn the_embedding_of_an_imported_model_is_the_mean_of_its_patch_tokens() {
    let (config, weights) = import::vit_mae(&checkpoint(), &Options::default()).unwrap();
    let io = candle_core::safetensors::load(checkpoint().join("io.safetensors"), &Device::Cpu).unwrap();
    let encoder = Encoder::new(&config, vb(&weights)).unwrap();
    let got = encoder.forward(&io["pixel_values"]).unwrap();
    let patches = io["last_hidden_state_full"].i((.., 1.., ..)).unwrap();
    assert!(largest_difference(&got.tokens, &patches) < 1e-4);
    assert!(largest_difference(&got.embedding, &patches.mean(1).unwrap()) < 1e-4);
}

#[test]
fn a_checkpoint_that_is_not_understood_is_refused() {
    let message = |dir: &Path, options: &Options| import::vit_mae(dir, options).unwrap_err().to_string();
    let defaults = Options::default();
    let extra = edited(|mut tensors| {
        tensors.insert("classifier.weight".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        tensors
    });
    assert_says(&message(extra.path(), &defaults), &["`classifier.weight` has no place"]);
    let missing = edited(|mut tensors| {
        tensors.remove("vit.encoder.layer.1.attention.attention.key.weight");
        tensors
    });
    let text = message(missing.path(), &defaults);
    assert_says(
        &text,
        &["vit.encoder.layer.1.attention.attention.key.weight", "or vit.layers.1.attention.k_proj.weight"],
    );
    let (ours, _) = saved(&tiny());
    assert_says(&message(ours.path(), &defaults), &["`model_type` is \"nystrom-vit\"", "\"vit_mae\""]);
    let size = Options { size: Some((30, 32)), ..Options::default() };
    assert_says(&message(&checkpoint(), &size), &["`height` is 30", "multiple of `patch` (8)"]);
    let pickle = edited(|tensors| tensors);
    std::fs::rename(pickle.path().join("model.safetensors"), pickle.path().join("pytorch_model.bin"))
        .unwrap();
    assert_says(&message(pickle.path(), &defaults), &["pickle", "save_pretrained"]);
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
    // A bright square well inside the region in row 2, column 5 of 4x8: patch rows 6..9, columns 12..15.
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
        .chunks(16)
        .zip(encoded[1].embedding.chunks(16))
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>())
        .collect();
    let most = (0..32).max_by(|a, b| change[*a].total_cmp(&change[*b])).unwrap();
    assert_eq!(most, 2 * 8 + 5, "{change:?}");
    assert!(change[most] > 0.5 * change.iter().sum::<f32>(), "{change:?}");
}
