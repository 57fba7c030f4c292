//! Masked pretraining: prediction, loss, gradients, one step of AdamW.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, VarBuilder};
use dc_encoder::model::mae::{Mae, loss, target, visible_count};

use super::case::{Case, LOOSE, Outcome, PLAIN};
use super::encoder;

pub(crate) fn run(mut case: Case) -> Outcome {
    let config = encoder::config(&case);
    let decoder = config.decoder.clone().expect("a pretraining case has a decoder");
    let image = case.input("image");
    let visible = case.input("ids_keep").to_dtype(DType::U32).unwrap();
    check_visible(&mut case, &visible, config.patches());
    let vars: HashMap<String, Var> = case
        .weights(&["image", "ids_keep", "noise"])
        .into_iter()
        .map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap()))
        .collect();
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let mae =
        Mae::new(&config, &decoder, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap();

    let masked = mae.forward(&image, &visible).unwrap();
    let target = target(&image, config.patch, true).unwrap();
    let loss = loss(&masked, &target).unwrap();
    let tolerance = encoder::tolerance(&config, visible.dim(1).unwrap());
    case.check("out.latent", &masked.latent, tolerance);
    case.check("out.pred", &masked.prediction, tolerance);
    case.check("out.mask", &masked.mask, PLAIN);
    case.check("out.target", &target, PLAIN);
    case.check("out.loss", &loss.reshape(1).unwrap(), tolerance);
    let in_f64 = Tensor::new(case.number("loss_f64"), &Device::Cpu).unwrap();
    case.compare("loss in f64", &loss, &in_f64, tolerance);

    let grads = loss.backward().unwrap();
    for name in case.names("grad.") {
        let var = &vars[name.trim_start_matches("grad.")];
        let grad = grads.get(var).unwrap_or_else(|| panic!("no gradient reached {name}"));
        case.check(&name, grad, LOOSE);
    }
    for name in case.names("adamw.") {
        let var = vars[name.trim_start_matches("adamw.")].clone();
        let mut optimizer = AdamW::new(vec![var.clone()], adamw(&case)).unwrap();
        for _ in 0..case.config["adamw"]["steps"].as_u64().unwrap() {
            optimizer.step(&grads).unwrap();
        }
        case.check(&name, var.as_tensor(), PLAIN);
    }
    case.finish()
}

fn adamw(case: &Case) -> ParamsAdamW {
    let value = |key: &str| case.config["adamw"][key].as_f64().unwrap();
    let beta = |i: usize| case.config["adamw"]["betas"][i].as_f64().unwrap();
    ParamsAdamW {
        lr: value("lr"),
        beta1: beta(0),
        beta2: beta(1),
        eps: value("eps"),
        weight_decay: value("weight_decay"),
    }
}

/// The visible patches are the first of the noise's order, as many as the ratio says.
fn check_visible(case: &mut Case, visible: &Tensor, patches: usize) {
    let count = visible.dim(1).unwrap();
    assert_eq!(count, visible_count(patches, case.number("mask_ratio")));
    assert_eq!(count, case.count("keep"));
    if case.has("noise") {
        let order = case.input("noise").arg_sort_last_dim(true).unwrap();
        case.compare("order of the noise", &order.narrow(1, 0, count).unwrap(), visible, PLAIN);
    }
}
