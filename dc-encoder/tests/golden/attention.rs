//! One attention layer: exact, Nyström, and the intermediates of a few.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use dc_encoder::model::attention::{Attention, Landmarks, Plan, Shape, pinv};
use dc_encoder::model::ops::softmax;

use super::case::{Case, LOOSE, Outcome, PLAIN};
use super::peer;

pub(crate) fn run(mut case: Case) -> Outcome {
    let shape = Shape {
        heads: case.count("heads"),
        dim_head: case.count("dim_head"),
        qkv_bias: case.flag("qkv_bias"),
        conv_kernel: case.count("conv_kernel"),
        pinv_iterations: case.count("iters"),
    };
    let (tokens, landmarks) = (case.count("n"), case.count("landmarks"));
    let x = case.input("x");
    let weights = case.weights(&["x"]);
    let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu);
    let layer = Attention::new(case.count("dim"), &shape, vb).unwrap();

    case.check("y.exact", &layer.forward(&x, &Plan::Exact).unwrap(), PLAIN);
    if tokens >= landmarks {
        let grouping = Landmarks::rows(tokens, landmarks, &Device::Cpu).unwrap();
        intermediates(&mut case, &layer, &x, &grouping);
        case.check("y.nystrom", &layer.forward(&x, &Plan::Nystrom(grouping)).unwrap(), LOOSE);
        let global = peer::attention(&weights, "", &x, &shape, peer::Global { landmarks, front_pad: false });
        case.check("y.nystrom_global", &global, LOOSE);
    }
    let padded = peer::attention(&weights, "", &x, &shape, peer::Global { landmarks, front_pad: true });
    case.check("y.front_pad_global", &padded, LOOSE);
    case.finish()
}

fn intermediates(case: &mut Case, layer: &Attention, x: &Tensor, grouping: &Landmarks) {
    if case.names("mid.").is_empty() {
        return;
    }
    let (q, k, v) = layer.project(x).unwrap();
    let (ql, kl) = (grouping.means(&q).unwrap(), grouping.means(&k).unwrap());
    let kernel = |a: &Tensor, b: &Tensor| softmax(&a.matmul(&b.t().unwrap()).unwrap()).unwrap();
    let (k1, k2, k3) = (kernel(&q, &kl), kernel(&ql, &kl), kernel(&ql, &k));
    let inverse = pinv(&k2, 6).unwrap();
    let core = k1.matmul(&inverse.matmul(&k3.matmul(&v).unwrap()).unwrap()).unwrap();
    assert_eq!(core.dim(D::Minus1).unwrap(), v.dim(D::Minus1).unwrap());
    for (name, got) in [
        ("mid.q_scaled", &q),
        ("mid.k", &k),
        ("mid.v", &v),
        ("mid.q_landmarks", &ql),
        ("mid.k_landmarks", &kl),
        ("mid.kernel1", &k1),
        ("mid.kernel2", &k2),
        ("mid.kernel3", &k3),
    ] {
        case.check(name, got, PLAIN);
    }
    case.check("mid.pinv", &inverse, LOOSE);
    case.check("mid.core", &core, LOOSE);
}
