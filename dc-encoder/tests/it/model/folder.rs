//! Model folders: made, read, refused; configurations that cannot work.

use super::*;

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
    assert_eq!(model.space(), spaces::id(&tiny(), &weights).unwrap());
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
        assert_eq!(spaces::id(&config, &widened).unwrap(), model.space());
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
