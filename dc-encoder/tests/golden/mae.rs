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
        let stepped = where_gradient_is_resolved(&mut case, &name, var.as_tensor());
        case.check(&name, &stepped, PLAIN);
    }
    case.finish()
}

/// A first step of AdamW moves a weight by the learning rate times nearly the sign of its gradient, however small:
/// where the gradient lies within its own tolerance of zero the sign is rounding, and a weight may be two steps off.
fn where_gradient_is_resolved(case: &mut Case, name: &str, got: &Tensor) -> Tensor {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (want, mut stepped) = (values(&case.input(name)), values(got));
    let grad = values(&case.input(&name.replacen("adamw.", "grad.", 1)));
    let unresolved = LOOSE as f32 * grad.iter().fold(0f32, |most, g| most.max(g.abs()));
    let two_steps = 2.0 * adamw(case).lr as f32;
    for ((got, want), grad) in stepped.iter_mut().zip(&want).zip(&grad) {
        if grad.abs() < unresolved && (*got - want).abs() <= two_steps {
            *got = *want;
        }
    }
    Tensor::from_vec(stepped, got.shape(), got.device()).unwrap()
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
