//! The decoder's last layer and the squared error as one operation.
//!
//! The layer is as wide as a patch has numbers (6912 at 48 pixels): predictions, differences and their gradients
//! would be the largest tensors of a step by far. Here a run of rows is predicted, compared with a target made on
//! the spot, and turned into gradients before the next run begins (as fused cross-entropy losses do for large
//! vocabularies). All gradients are known when the loss is: the backward pass only scales them.

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Storage, Tensor};
use candle_nn::Linear;
use rayon::prelude::*;

use super::matmul::{Mat, MatMut, Threads, product};
use super::{fused, linear};

/// Rows predicted at once: with 6912 numbers each they take 7 MB.
const RUN: usize = 256;

/// What each row should predict.
pub trait Target: Sync {
    /// Writes the target of a row and returns the weight of its error.
    fn fill(&self, row: usize, to: &mut [f32]) -> f32;
}

/// Mean over rows of `weight * mean((layer(x) - target)²)`: `x` `[rows, dim]` to a scalar with gradients for `x` and
/// the layer.
///
/// # Errors
/// The tensor library's.
pub fn prediction_loss(x: &Tensor, layer: &Linear, target: &dyn Target) -> Result<Tensor> {
    match layer.bias() {
        Some(bias) if fused(x) && fused(layer.weight()) && x.track_op() => {
            let x = x.contiguous()?;
            let known = Known::new(&x, layer.weight(), bias, target)?;
            x.apply_op3(layer.weight(), bias, known)
        }
        _ => composed(x, layer, target),
    }
}

fn composed(x: &Tensor, layer: &Linear, target: &dyn Target) -> Result<Tensor> {
    let prediction = linear(layer, x)?.to_dtype(x.dtype())?;
    let (rows, width) = prediction.dims2()?;
    let mut values = vec![0f32; rows * width];
    let fill = |(row, to): (usize, &mut [f32])| target.fill(row, to);
    let weights: Vec<f32> = values.par_chunks_exact_mut(width).enumerate().map(fill).collect();
    let place = |t: Tensor| t.to_device(x.device())?.to_dtype(x.dtype());
    let values = place(Tensor::from_vec(values, (rows, width), &candle_core::Device::Cpu)?)?;
    let weights = place(Tensor::from_vec(weights, rows, &candle_core::Device::Cpu)?)?;
    ((prediction - values)?.sqr()?.mean(D::Minus1)? * weights)?.mean_all()
}

/// A loss with its gradients.
struct Known {
    loss: f32,
    into_x: Tensor,
    into_weight: Tensor,
    into_bias: Tensor,
}

impl Known {
    fn new(x: &Tensor, weight: &Tensor, bias: &Tensor, target: &dyn Target) -> Result<Self> {
        let (rows, dim) = x.dims2()?;
        let width = weight.dim(0)?;
        let mut sums = Sums {
            loss: 0.0,
            into_x: vec![0f32; rows * dim],
            into_weight: vec![0f32; width * dim],
            into_bias: vec![0f32; width],
        };
        let storages = [x, weight, bias].map(Tensor::storage_and_layout);
        let [x_numbers, weight_numbers, bias_numbers] = &storages;
        let inputs = Inputs {
            x: in_memory(&x_numbers.0, x_numbers.1)?,
            weight: in_memory(&weight_numbers.0, weight_numbers.1)?,
            bias: in_memory(&bias_numbers.0, bias_numbers.1)?,
            target,
            rows,
            dim,
            width,
        };
        let mut errors = vec![0f32; RUN.min(rows) * width];
        for first in (0..rows).step_by(RUN) {
            sums.add(&inputs, first, &mut errors[..RUN.min(rows - first) * width]);
        }
        let device = x.device();
        Ok(Self {
            loss: (sums.loss / rows as f64) as f32,
            into_x: Tensor::from_vec(sums.into_x, x.shape(), device)?,
            into_weight: Tensor::from_vec(sums.into_weight, weight.shape(), device)?,
            into_bias: Tensor::from_vec(sums.into_bias, bias.shape(), device)?,
        })
    }
}

/// The contiguous numbers of a CPU tensor.
fn in_memory<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => super::numbers(storage, layout),
        _ => candle_core::bail!("a fused kernel met a tensor that is not in main memory"),
    }
}

struct Inputs<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    target: &'a dyn Target,
    rows: usize,
    dim: usize,
    width: usize,
}

struct Sums {
    loss: f64,
    into_x: Vec<f32>,
    into_weight: Vec<f32>,
    into_bias: Vec<f32>,
}

impl Sums {
    /// Adds the rows from `first`, as many as `errors` has room for.
    fn add(&mut self, inputs: &Inputs<'_>, first: usize, errors: &mut [f32]) {
        let Inputs { dim, width, bias, target, .. } = *inputs;
        let count = errors.len() / width;
        let span = first * dim..(first + count) * dim;
        let (x, weight) =
            (Mat::new(&inputs.x[span.clone()], count, dim), Mat::new(inputs.weight, width, dim));
        product(MatMut::new(errors, count, width), x, weight.t(), 1.0, Threads::All);
        let scale = 2.0 / (inputs.rows * width) as f32;
        let losses: Vec<f64> = errors
            .par_chunks_exact_mut(width)
            .enumerate()
            .map_init(
                || vec![0f32; width],
                |want, (row, errors)| {
                    let share = target.fill(first + row, want);
                    f64::from(share) * compare(errors, want, bias, share * scale) / width as f64
                },
            )
            .collect();
        self.loss += losses.iter().sum::<f64>();
        let (errors, ones) = (Mat::new(errors, count, width), vec![1f32; count]);
        product(MatMut::new(&mut self.into_x[span], count, dim), errors, weight, 1.0, Threads::All);
        let into_weight = MatMut::new(&mut self.into_weight, width, dim);
        product(into_weight.adding(), errors.t(), x, 1.0, Threads::All);
        let into_bias = MatMut::new(&mut self.into_bias, 1, width);
        product(into_bias.adding(), Mat::new(&ones, 1, count), errors, 1.0, Threads::All);
    }
}

/// Turns predictions without their bias into scaled differences from `want`; returns the sum of the squared ones.
fn compare(predicted: &mut [f32], want: &[f32], bias: &[f32], scale: f32) -> f64 {
    const LANES: usize = 16;
    let mut totals = [0f32; LANES];
    let mut total = 0f64;
    let lanes = predicted.chunks_mut(LANES).zip(want.chunks(LANES)).zip(bias.chunks(LANES));
    for (at, ((predicted, want), bias)) in lanes.enumerate() {
        for (((total, predicted), want), bias) in
            totals.iter_mut().zip(predicted.iter_mut()).zip(want).zip(bias)
        {
            let error = *predicted + bias - want;
            *total += error * error;
            *predicted = error * scale;
        }
        // Short runs in f32, their sums in f64.
        if at % 32 == 31 {
            total += f64::from(totals.iter().sum::<f32>());
            totals = [0.0; LANES];
        }
    }
    total + f64::from(totals.iter().sum::<f32>())
}

impl CustomOp3 for Known {
    fn name(&self) -> &'static str {
        "prediction-loss"
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _weight: &CpuStorage,
        _weight_layout: &Layout,
        _bias: &CpuStorage,
        _bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _weight: &Tensor,
        _bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let scale = f64::from(grad.to_scalar::<f32>()?);
        // candle would add a scaled copy to zeros: the usual scale of 1 needs no copy.
        let scaled = |t: &Tensor| if scale == 1.0 { Ok(t.clone()) } else { t * scale };
        Ok((Some(scaled(&self.into_x)?), Some(scaled(&self.into_weight)?), Some(scaled(&self.into_bias)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_against;
    use super::*;

    struct Waves;

    impl Target for Waves {
        fn fill(&self, row: usize, to: &mut [f32]) -> f32 {
            for (i, to) in to.iter_mut().enumerate() {
                *to = ((row * 31 + i * 17) % 101) as f32 / 50.0 - 1.0;
            }
            0.5 + (row % 3) as f32
        }
    }

    #[test]
    fn the_loss_and_its_gradients_in_one_run_and_in_several() {
        for rows in [7, 2 * RUN + 9] {
            let layer = |x: &[Tensor]| Linear::new(x[1].clone(), Some(x[2].clone()));
            // Scaled, so that the gradient that arrives is not the usual 1.
            check_against(
                &[&[rows, 5], &[600, 5], &[600]],
                |x| prediction_loss(&x[0], &layer(x), &Waves)? * 3.0,
                |x| composed(&x[0], &layer(x), &Waves)? * 3.0,
            );
        }
    }
}
