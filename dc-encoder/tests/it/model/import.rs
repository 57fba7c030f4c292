//! ViT-MAE checkpoints, imported.

use dc_encoder::model::config::TargetKind;
use dc_encoder::model::import::{self, ClassToken, Options};

use super::*;

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
    let want = spaces::id(&config, &weights).unwrap();
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
        assert_eq!(spaces::id(&config, &weights).unwrap(), want);
    }
}

#[test]
fn what_the_decoder_predicts_is_what_the_checkpoint_says() {
    let target = |dir: &Path| import::vit_mae(dir, &Options::default()).unwrap().0.decoder.unwrap().target;
    assert_eq!(target(&checkpoint()), TargetKind::Normalised);
    let dir = edited(|tensors| tensors);
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (said, want) in [("false", TargetKind::Raw), ("true", TargetKind::Normalised)] {
        std::fs::write(&path, text.replace("\"norm_pix_loss\": true", &format!("\"norm_pix_loss\": {said}")))
            .unwrap();
        assert_eq!(target(dir.path()), want);
    }
    // transformers' own default, for files that leave it out.
    std::fs::write(&path, text.replace("norm_pix_loss", "something_else")).unwrap();
    assert_eq!(target(dir.path()), TargetKind::Raw);
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
