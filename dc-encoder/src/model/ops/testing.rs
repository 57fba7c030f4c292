//! Fused operations against the same operations composed in f64, which never take a fused path.

use candle_core::{DType, Device, Result, Tensor, Var};

/// `count` numbers from `low` to `high` in equal steps.
pub(super) fn grid(low: f32, high: f32, count: usize) -> Vec<f32> {
    (0..count).map(|i| low + (high - low) * i as f32 / (count.max(2) - 1) as f32).collect()
}

/// Numbers between -1 and 1 without a visible pattern.
pub(super) fn noise(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product();
    let value = |i: usize| ((i * 2_654_435_761 + seed * 40_503) % 65_521) as f32 / 32_760.5 - 1.0;
    Tensor::from_vec((0..count).map(value).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

/// Largest difference as a share of the largest wanted number.
pub(super) fn error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.dims(), want.dims());
    let most =
        |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    let got = got.to_dtype(DType::F64).unwrap();
    let want = want.to_dtype(DType::F64).unwrap();
    most((got - &want).unwrap()) / most(want).max(1e-30)
}

/// Value and gradients of `f` at inputs of these shapes.
pub(super) fn check(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    check_against(shapes, &f, &f);
}

/// Value and gradients of `fused` (in f32) against `composed` (in f64).
pub(super) fn check_against(
    shapes: &[&[usize]],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    composed: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let vars: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| Var::from_tensor(&(noise(shape, i) * 3.0).unwrap()).unwrap())
        .collect();
    let wide: Vec<Var> =
        vars.iter().map(|v| Var::from_tensor(&v.to_dtype(DType::F64).unwrap()).unwrap()).collect();
    let tensors = |vars: &[Var]| vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let got = fused(&tensors(&vars)).unwrap();
    let want = composed(&tensors(&wide)).unwrap();
    assert!(error(&got, &want) < 2e-6, "value is off by {:e}", error(&got, &want));

    let weight = noise(got.dims(), 99);
    let grads = (&got * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    let weight = weight.to_dtype(DType::F64).unwrap();
    let wide_grads = (&want * &weight).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, (var, wide)) in vars.iter().zip(&wide).enumerate() {
        let off = error(grads.get(var).unwrap(), wide_grads.get(wide).unwrap());
        assert!(off < 3e-6, "gradient {i} is off by {off:e}");
    }
}
