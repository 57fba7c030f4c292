//! The embedding space: what changes it and what does not.

use super::*;

#[test]
fn every_meaning_bearing_change_makes_another_space() {
    let config = tiny();
    let weights = init::random(&config, 7).unwrap();
    let original = spaces::id(&config, &weights).unwrap();
    let mut seen = vec![original];
    let mut other = |edit: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        edit(&mut changed);
        changed.validate().unwrap();
        // Weights of the changed shape where it changed; otherwise the same.
        let fresh = init::random(&changed, 7).unwrap();
        let id = spaces::id(&changed, &fresh).unwrap();
        assert!(!seen.contains(&id), "{changed:?}");
        seen.push(id);
    };
    other(&|c| c.ln_eps = 1e-6);
    other(&|c| c.preprocess.mean[1] = 0.45);
    other(&|c| c.preprocess.std[2] = 0.3);
    other(&|c| c.pooling = Pooling::Regions { version: 1, rows: 1, cols: 1 });
    other(&|c| (c.heads, c.dim_head) = (4, 4));
    other(&|c| (c.landmarks, c.attention) = (12, Attention::Nystrom));
    other(&|c| {
        (c.landmarks, c.attention, c.landmark_kind) = (12, Attention::Nystrom, LandmarkKind::Blocks);
    });
    other(&|c| (c.landmarks, c.attention, c.pinv_iterations) = (12, Attention::Nystrom, 7));
    other(&|c| (c.landmarks, c.attention) = (11, Attention::Nystrom));
    other(&|c| c.conv_kernel = 3);
    other(&|c| c.qkv_bias = true);
    other(&|c| c.class_token = true);
    other(&|c| c.depth = 1);
    other(&|c| (c.height, c.preprocess.height) = (40, 40));

    let mut nudged = weights.clone();
    let bias = (&weights["embed.bias"] + 1e-6).unwrap();
    nudged.insert("embed.bias".to_owned(), bias);
    assert_ne!(spaces::id(&config, &nudged).unwrap(), original);
}

#[test]
fn what_changes_no_embedding_leaves_the_space_alone() {
    let config = tiny();
    let weights = init::random(&config, 7).unwrap();
    let original = spaces::id(&config, &weights).unwrap();
    let same = |edit: &dyn Fn(&mut Config)| {
        let mut changed = config.clone();
        edit(&mut changed);
        assert_eq!(spaces::id(&changed, &weights).unwrap(), original, "{changed:?}");
    };
    same(&|c| c.decoder = None);
    same(&|c| c.weights = Some(Origin::Trained { note: "a while".to_owned() }));
    // A frame has 24 tokens: exact either way.
    same(&|c| c.attention = Attention::Exact);
    same(&|c| (c.landmarks, c.pinv_iterations) = (100, 9));
    let mut retrained = weights.clone();
    retrained.insert("decoder.mask_token".to_owned(), Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap());
    assert_eq!(spaces::id(&config, &retrained).unwrap(), original);
}
