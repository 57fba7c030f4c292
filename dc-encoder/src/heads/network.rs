//! Heads that are trained by gradient: AdamW, the number of steps chosen by cross-validation.
//!
//! ```text
//! five folds in lockstep ─► every few steps: mean absolute error over all held-out rows ─► best step count
//! all rows ─► that many steps ─► the head
//! ```
//! The held-out answers at the chosen step are kept: they give the interval, and without test rows the score.

use candle_core::{D, Device, Result as CandleResult, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::error::TrainError;
use super::folds;
use super::score::mean;
use super::target::{Encoded, Target};

/// A network in training.
pub trait Network: Send + Sync {
    /// The trained tensors.
    fn variables(&self) -> Vec<Var>;
    /// Standardised outputs `[n, width]` for these rows' inputs.
    ///
    /// # Errors
    /// The tensor library's.
    fn forward(&self, input: &Tensor) -> CandleResult<Tensor>;
}

/// What is learned from: everything a fold needs to build its own network and inputs.
pub trait Recipe: Sync {
    /// The network.
    type Net: Network;
    /// A fresh network, the same for the same seed.
    ///
    /// # Errors
    /// The tensor library's.
    fn network(&self, scale: &Scale, seed: u64) -> CandleResult<Self::Net>;
    /// Inputs of the given rows, normalised by what the rows in `train` say.
    ///
    /// # Errors
    /// The tensor library's.
    fn inputs(&self, train: &[usize], rows: &[usize]) -> CandleResult<Tensor>;
}

/// How a recipe is trained.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Learning rate, constant: the step count is the regulariser.
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Rows in a batch: all of them when there are fewer.
    pub batch: usize,
    /// Most steps.
    pub max_steps: usize,
    /// Steps between two looks at the held-out error.
    pub check_every: usize,
    /// Looks without a better error before the search stops.
    pub patience: usize,
    /// Seed of the initial weights and of the batches.
    pub seed: u64,
}

/// Centre and spread of the encoded labels: networks learn `(output − centre) / spread`, so that one that gives
/// zeros gives the constant answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Subtracted, one number per output.
    pub centre: Encoded,
    /// Divided by.
    pub spread: f64,
}

impl Scale {
    /// Of labels. A circle's `(cos, sin)` and the zeros and ones of classes have a natural size and are only centred.
    pub fn of(target: Target, values: &[f64]) -> Self {
        let encoded: Vec<Encoded> = values.iter().map(|v| target.encode(*v)).collect();
        let centre = std::array::from_fn(|at| mean(&encoded.iter().map(|e| e[at]).collect::<Vec<_>>()));
        let variance = mean(&values.iter().map(|v| (v - centre[0]).powi(2)).collect::<Vec<_>>());
        let spread = match target {
            Target::Scalar { .. } if variance > 0.0 => variance.sqrt(),
            Target::Scalar { .. } | Target::Circular { .. } | Target::Class { .. } => 1.0,
        };
        Self { centre, spread }
    }
}

/// A trained network and how its recipe did on held-out rows.
#[derive(Debug)]
pub struct Fit<N> {
    /// Trained on all rows.
    pub network: N,
    /// The labels' scale it was trained with.
    pub scale: Scale,
    /// Steps it was trained for.
    pub steps: usize,
    /// Each row's answer from the fold that did not see it, `[n]`.
    pub answers: Vec<f64>,
}

/// Chooses the step count over folds contiguous in time, then trains on all rows.
///
/// # Errors
/// [`TrainError::Diverged`] when a held-out answer is not finite, [`TrainError::Compute`] from the tensor library.
pub fn train<R: Recipe>(
    recipe: &R,
    values: &[f64],
    target: Target,
    schedule: &Schedule,
) -> Result<Fit<R::Net>, TrainError> {
    let mut runs = folds::contiguous(values.len())
        .into_iter()
        .map(|fold| {
            let run = Run::new(recipe, values, target, &fold.train, schedule)?;
            let held: Vec<usize> = fold.held.collect();
            Ok((run, recipe.inputs(&fold.train, &held)?))
        })
        .collect::<CandleResult<Vec<_>>>()?;
    let (mut best, mut best_error, mut since) = ((0, Vec::new()), f64::INFINITY, 0);
    let mut step = 0;
    // The first look is at step 0: the constant answer, which a head that learns nothing should stay at.
    loop {
        let answers: Vec<f64> = runs
            .par_iter()
            .map(|(run, inputs)| run.answers(inputs))
            .collect::<CandleResult<Vec<_>>>()?
            .concat();
        if answers.iter().any(|a| !a.is_finite()) {
            return Err(TrainError::Diverged { step });
        }
        let errors = values.iter().zip(&answers).map(|(v, a)| target.residual(*v, *a).abs());
        let error = mean(&errors.collect::<Vec<_>>());
        if error < best_error {
            (best, best_error, since) = ((step, answers), error, 0);
        } else {
            since += 1;
        }
        if since >= schedule.patience || step >= schedule.max_steps {
            break;
        }
        runs.par_iter_mut().try_for_each(|(run, _)| run.advance(schedule.check_every))?;
        step += schedule.check_every;
    }
    drop(runs);
    let (steps, answers) = best;
    let all: Vec<usize> = (0..values.len()).collect();
    let mut run = Run::new(recipe, values, target, &all, schedule)?;
    run.advance(steps)?;
    Ok(Fit { network: run.network, scale: run.scale, steps, answers })
}

/// One network being trained on one set of rows.
struct Run<N> {
    network: N,
    optimiser: AdamW,
    inputs: Tensor,
    targets: Tensor,
    scale: Scale,
    target: Target,
    batches: Batches,
}

/// The rows of each step: a seeded shuffle, cut into batches, again and again.
struct Batches {
    order: Vec<u32>,
    next: usize,
    size: usize,
    rng: ChaCha8Rng,
}

impl Batches {
    fn new(rows: usize, schedule: &Schedule) -> Self {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        // Past the end, so that the first batch shuffles.
        Self { order: (0..rows).collect(), next: usize::MAX, size: schedule.batch, rng: rng(schedule.seed) }
    }

    /// The next batch's rows; none when a batch is all rows.
    fn next(&mut self) -> Option<Vec<u32>> {
        if self.order.len() <= self.size {
            return None;
        }
        // The rows left over at the end of a shuffle sit out: batches stay of one size.
        if self.next.saturating_add(self.size) > self.order.len() {
            self.order.shuffle(&mut self.rng);
            self.next = 0;
        }
        let batch = self.order[self.next..self.next + self.size].to_vec();
        self.next += self.size;
        Some(batch)
    }
}

impl<N: Network> Run<N> {
    fn new<R: Recipe<Net = N>>(
        recipe: &R,
        values: &[f64],
        target: Target,
        train: &[usize],
        schedule: &Schedule,
    ) -> CandleResult<Self> {
        let labels: Vec<f64> = train.iter().map(|i| values[*i]).collect();
        let scale = Scale::of(target, &labels);
        let width = target.width();
        let targets: Vec<f32> = labels
            .iter()
            .flat_map(|v| target.encode(*v).into_iter().zip(scale.centre).take(width))
            .map(|(y, centre)| ((y - centre) / scale.spread) as f32)
            .collect();
        let network = recipe.network(&scale, schedule.seed)?;
        let params = ParamsAdamW {
            lr: schedule.learning_rate,
            weight_decay: schedule.weight_decay,
            ..ParamsAdamW::default()
        };
        Ok(Self {
            optimiser: AdamW::new(network.variables(), params)?,
            inputs: recipe.inputs(train, train)?,
            targets: Tensor::from_vec(targets, (labels.len(), width), &Device::Cpu)?,
            network,
            scale,
            target,
            batches: Batches::new(labels.len(), schedule),
        })
    }

    fn advance(&mut self, steps: usize) -> CandleResult<()> {
        for _ in 0..steps {
            let (inputs, targets) = match self.batches.next() {
                Some(rows) => {
                    let count = rows.len();
                    let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
                    (self.inputs.index_select(&rows, 0)?, self.targets.index_select(&rows, 0)?)
                }
                None => (self.inputs.clone(), self.targets.clone()),
            };
            let loss = (self.network.forward(&inputs)? - &targets)?.sqr()?.mean_all()?;
            self.optimiser.backward_step(&loss)?;
        }
        Ok(())
    }

    fn answers(&self, inputs: &Tensor) -> CandleResult<Vec<f64>> {
        let outputs: Vec<Vec<f32>> = self.network.forward(inputs)?.to_vec2()?;
        let unscaled = |row: &Vec<f32>| -> Vec<f64> {
            let scaled = row.iter().zip(self.scale.centre);
            scaled.map(|(x, centre)| f64::from(*x) * self.scale.spread + centre).collect()
        };
        Ok(outputs.iter().map(|row| self.target.decode(unscaled(row))).collect())
    }
}

/// A fully connected layer in training: `x · weightᵀ + bias`, stored as head files store it.
#[derive(Debug)]
pub struct Dense {
    /// `[out, in]`
    pub weight: Var,
    /// `[out]`
    pub bias: Var,
}

impl Dense {
    /// Normal weights with deviation `1 / √in`, zero bias.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn new(out: usize, input: usize, rng: &mut ChaCha8Rng) -> CandleResult<Self> {
        let deviation = 1.0 / (input as f64).sqrt();
        let weight: Vec<f32> = (0..out * input)
            .map(|_| {
                let x: f64 = StandardNormal.sample(rng);
                (x * deviation) as f32
            })
            .collect();
        Ok(Self {
            weight: Var::from_vec(weight, (out, input), &Device::Cpu)?,
            bias: Var::zeros(out, candle_core::DType::F32, &Device::Cpu)?,
        })
    }

    /// All zeros: a last layer that starts the head at the constant answer.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn zeros(out: usize, input: usize) -> CandleResult<Self> {
        let weight = Var::zeros((out, input), candle_core::DType::F32, &Device::Cpu)?;
        Ok(Self { weight, bias: Var::zeros(out, candle_core::DType::F32, &Device::Cpu)? })
    }

    /// `[rows, in]` to `[rows, out]`.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(self.bias.as_tensor())
    }
}

/// A generator for initial weights.
pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The perceptron head: `fc2 · gelu(fc1 · x)` on standardised embeddings.
#[derive(Debug)]
pub struct Mlp {
    /// `[hidden, dim]`
    pub fc1: Dense,
    /// `[width, hidden]`
    pub fc2: Dense,
}

impl Network for Mlp {
    fn variables(&self) -> Vec<Var> {
        [&self.fc1, &self.fc2].into_iter().flat_map(|d| [d.weight.clone(), d.bias.clone()]).collect()
    }

    fn forward(&self, input: &Tensor) -> CandleResult<Tensor> {
        self.fc2.forward(&self.fc1.forward(input)?.gelu_erf()?)
    }
}

/// How a perceptron head is made.
#[derive(Debug, Clone, Copy)]
pub struct MlpRecipe<'a> {
    /// One embedding a row, `[n][dim]`.
    pub rows: &'a [&'a [f32]],
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Width of the output.
    pub width: usize,
}

impl Recipe for MlpRecipe<'_> {
    type Net = Mlp;

    fn network(&self, _: &Scale, seed: u64) -> CandleResult<Mlp> {
        let mut rng = rng(seed);
        let dim = self.rows.first().map_or(0, |row| row.len());
        Ok(Mlp { fc1: Dense::new(self.hidden, dim, &mut rng)?, fc2: Dense::zeros(self.width, self.hidden)? })
    }

    fn inputs(&self, train: &[usize], rows: &[usize]) -> CandleResult<Tensor> {
        let (mean, std) = super::ridge::standardise(self.rows, train);
        let mut values = Vec::with_capacity(rows.len() * mean.len());
        for row in rows {
            let scaled = self.rows[*row].iter().zip(mean.iter().zip(&std));
            values.extend(scaled.map(|(x, (mean, std))| ((f64::from(*x) - mean) / std) as f32));
        }
        Tensor::from_vec(values, (rows.len(), mean.len()), &Device::Cpu)
    }
}

/// Sum over the token dimension of `[n, tokens, width]`.
pub(super) fn sum_tokens(x: &Tensor) -> CandleResult<Tensor> {
    x.sum(D::Minus2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_shuffles_cut_evenly_and_repeat_for_a_seed() {
        let schedule = Schedule {
            learning_rate: 0.0,
            weight_decay: 0.0,
            batch: 4,
            max_steps: 0,
            check_every: 1,
            patience: 1,
            seed: 3,
        };
        let draw = || {
            let mut batches = Batches::new(10, &schedule);
            (0..5).map(|_| batches.next().unwrap()).collect::<Vec<_>>()
        };
        let batches = draw();
        for pair in batches.chunks_exact(2) {
            let mut rows = pair.concat();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 8, "a row comes once in a shuffle: {pair:?}");
        }
        assert_ne!(batches[0], batches[2]);
        assert_eq!(batches, draw());
        assert_eq!(Batches::new(4, &schedule).next(), None);
    }
}
