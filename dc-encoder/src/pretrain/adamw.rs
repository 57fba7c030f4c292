//! AdamW (Loshchilov and Hutter, 2019) over named variables, with moments that can be saved.

use candle_core::{CpuStorage, Device, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var};
use rayon::prelude::*;

/// Running means of gradient and squared gradient keep these shares at a step (He et al., 2022).
const BETAS: (f64, f64) = (0.9, 0.95);
/// Added to the root of the second moment.
const EPS: f64 = 1e-8;
/// Numbers that one thread updates at a time.
const CHUNK: usize = 1 << 14;

/// One variable and its moments, all of one shape.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) var: Var,
    pub(super) first: Var,
    pub(super) second: Var,
    /// Whether weight decay pulls it towards zero.
    pub(super) decays: bool,
}

impl Slot {
    /// A variable with moments of zero.
    pub(super) fn new(name: String, var: Var, decays: bool) -> Result<Self> {
        let zeros = || Var::from_tensor(&var.zeros_like()?);
        Ok(Self { first: zeros()?, second: zeros()?, name, var, decays })
    }
}

/// What one update takes besides the gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    /// Steps done, this one included.
    pub(super) step: u64,
    pub(super) rate: f64,
    pub(super) decay: f64,
    /// Multiplies the gradients: clipping, and one over the accumulated batches.
    pub(super) scale: f64,
}

/// Updates every variable that has a gradient; `gradients` stand in the order of `slots`.
pub(super) fn step(slots: &[Slot], gradients: &[Option<Tensor>], update: Update) -> Result<()> {
    for (slot, gradient) in slots.iter().zip(gradients) {
        let Some(gradient) = gradient else { continue };
        let gradient = gradient.contiguous()?;
        let decay = if slot.decays { update.decay } else { 0.0 };
        let correction = |beta: f64| 1.0 / (1.0 - beta.powi(update.step.min(1 << 20) as i32));
        let apply = Apply {
            keep: 1.0 - update.rate * decay,
            rate: update.rate * correction(BETAS.0),
            second: correction(BETAS.1),
        };
        if matches!(slot.var.device(), Device::Cpu) {
            fused(slot, &gradient, update.scale, &apply)?;
        } else {
            composed(slot, &(gradient * update.scale)?, &apply)?;
        }
    }
    Ok(())
}

fn fused(slot: &Slot, gradient: &Tensor, scale: f64, apply: &Apply) -> Result<()> {
    slot.first.inplace_op2(gradient, &Mean { keep: BETAS.0, scale, square: false })?;
    slot.second.inplace_op2(gradient, &Mean { keep: BETAS.1, scale, square: true })?;
    slot.var.inplace_op3(&slot.first, &slot.second, apply)
}

/// The same through candle's operations, for other devices than the processor.
fn composed(slot: &Slot, gradient: &Tensor, apply: &Apply) -> Result<()> {
    let mean = |old: &Var, new: &Tensor, keep: f64| (old.as_tensor() * keep)? + (new * (1.0 - keep))?;
    slot.first.set(&mean(&slot.first, gradient, BETAS.0)?)?;
    slot.second.set(&mean(&slot.second, &gradient.sqr()?, BETAS.1)?)?;
    let root = ((slot.second.as_tensor() * apply.second)?.sqrt()? + EPS)?;
    let moved = ((slot.first.as_tensor() / root)? * apply.rate)?;
    slot.var.set(&((slot.var.as_tensor() * apply.keep)? - moved)?)
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = span(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn numbers_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = span(layout)?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("AdamW updates f32 variables"),
    }
}

fn span(layout: &Layout) -> Result<(usize, usize)> {
    layout.contiguous_offsets().ok_or_else(|| candle_core::Error::RequiresContiguous { op: "adamw" }.bt())
}

/// `m = keep * m + (1 - keep) * g`, with `g²` for the second moment.
struct Mean {
    keep: f64,
    scale: f64,
    square: bool,
}

impl InplaceOp2 for Mean {
    fn name(&self) -> &'static str {
        "adamw-mean"
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        to_layout: &Layout,
        from: &CpuStorage,
        from_layout: &Layout,
    ) -> Result<()> {
        let (to, from) = (numbers_mut(to, to_layout)?, numbers(from, from_layout)?);
        let (keep, add, scale) = (self.keep as f32, (1.0 - self.keep) as f32, self.scale as f32);
        to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
            for (to, from) in to.iter_mut().zip(from) {
                let gradient = from * scale;
                let value = if self.square { gradient * gradient } else { gradient };
                *to = keep * *to + add * value;
            }
        });
        Ok(())
    }
}

/// `w = keep * w - rate * m / (sqrt(second * v) + eps)`.
struct Apply {
    keep: f64,
    rate: f64,
    second: f64,
}

impl InplaceOp3 for Apply {
    fn name(&self) -> &'static str {
        "adamw-apply"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let weight = numbers_mut(weight, weight_layout)?;
        let (first, second) = (numbers(first, first_layout)?, numbers(second, second_layout)?);
        let (keep, rate, scale) = (self.keep as f32, self.rate as f32, self.second as f32);
        let moments = first.par_chunks(CHUNK).zip(second.par_chunks(CHUNK));
        weight.par_chunks_mut(CHUNK).zip(moments).for_each(|(weight, (first, second))| {
            for ((weight, first), second) in weight.iter_mut().zip(first).zip(second) {
                *weight = keep * *weight - rate * first / ((scale * second).sqrt() + EPS as f32);
            }
        });
        Ok(())
    }
}

/// Euclidean length of all gradients together.
pub(super) fn norm(gradients: &[Option<Tensor>]) -> Result<f64> {
    let (here, elsewhere): (Vec<&Tensor>, Vec<&Tensor>) =
        gradients.iter().flatten().partition(|gradient| matches!(gradient.device(), Device::Cpu));
    let mut total = squares_elsewhere(&elsewhere)?;
    for gradient in here {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        let parts: Vec<f64> = values
            .par_chunks(CHUNK)
            .map(|part| part.iter().map(|value| f64::from(*value) * f64::from(*value)).sum())
            .collect();
        total += parts.iter().sum::<f64>();
    }
    Ok(total.sqrt())
}

/// The sum of squares, made where the gradients are: one number comes back, and is waited for once.
fn squares_elsewhere(gradients: &[&Tensor]) -> Result<f64> {
    let sums = gradients.iter().map(|gradient| gradient.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
    if sums.is_empty() {
        return Ok(0.0);
    }
    Tensor::stack(&sums, 0)?.sum_all()?.to_scalar::<f32>().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};

    #[test]
    fn three_steps_agree_with_candles_optimiser() {
        let start = Tensor::new(&[[0.5f32, -1.0, 2.0], [0.1, 0.0, -0.3]], &Device::Cpu).unwrap();
        let ours = Slot::new("w".into(), Var::from_tensor(&start).unwrap(), true).unwrap();
        let theirs = Var::from_tensor(&start).unwrap();
        let params = ParamsAdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: EPS, weight_decay: 0.1 };
        let mut optimiser = AdamW::new(vec![theirs.clone()], params).unwrap();
        for number in 1..=3u64 {
            let loss =
                |var: &Var| (var.as_tensor().sqr().unwrap() * number as f64).unwrap().sum_all().unwrap();
            let gradients = loss(&ours.var).backward().unwrap();
            let gradient = gradients.get(&ours.var).map(|g| (g * 2.0).unwrap());
            let update = Update { step: number, rate: 0.01, decay: 0.1, scale: 0.5 };
            step(std::slice::from_ref(&ours), &[gradient], update).unwrap();
            optimiser.step(&loss(&theirs).backward().unwrap()).unwrap();
        }
        let error = (ours.var.as_tensor() - theirs.as_tensor()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 1e-6);
    }

    #[test]
    fn other_devices_take_the_same_step() {
        let slot = || {
            let start = Tensor::new(&[0.5f32, -1.0, 2.0], &Device::Cpu).unwrap();
            Slot::new("w".into(), Var::from_tensor(&start).unwrap(), true).unwrap()
        };
        let (here, elsewhere) = (slot(), slot());
        let apply = Apply { keep: 0.9, rate: 0.01, second: 20.0 };
        for number in 1..=3 {
            let gradient = Tensor::new(&[0.3f32, -0.2, number as f32], &Device::Cpu).unwrap();
            fused(&here, &gradient, 0.5, &apply).unwrap();
            composed(&elsewhere, &(gradient * 0.5).unwrap(), &apply).unwrap();
        }
        for (a, b) in [(&here.var, &elsewhere.var), (&here.second, &elsewhere.second)] {
            let error = (a.as_tensor() - b.as_tensor()).unwrap().abs().unwrap().max_all().unwrap();
            assert!(error.to_scalar::<f32>().unwrap() < 1e-6);
        }
    }

    #[test]
    fn the_norm_is_over_everything() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let (a, b) = (tensor(&[3.0]), tensor(&[0.0, 4.0]));
        assert_eq!(squares_elsewhere(&[&a, &b]).unwrap(), 25.0);
        assert_eq!(norm(&[Some(a), None, Some(b)]).unwrap(), 5.0);
    }
}
