//! What all learners share, and the networks among them: labelled embeddings in, a head's tensors and held-out answers out.

use std::collections::BTreeMap;

use candle_core::Result as CandleResult;
use rand_distr::{Distribution, StandardNormal};
use shared::head::{Kind, TensorData, Tokens};

use super::background::{Background, Directions, TokenSet};
use super::error::TrainError;
use super::folds;
use super::frames::GridFrames;
use super::network::{self, Dense, Mlp, MlpRecipe, Scale, Schedule};
use super::ridge;
use super::score::mean;
use super::target::Target;
use super::tokens::TokenRecipe;

/// Hidden width of the perceptron head: 16 thousand weights on 512 numbers, past which 300 labels gain nothing.
const MLP_HIDDEN: usize = 32;

/// Hidden width of the token head's shared network.
const TOKEN_HIDDEN: usize = 8;

/// Directions of departure that the token head is trained on.
const TOKEN_DIRECTIONS: usize = 12;

/// Tokens in a batch of the token head: 32 frames of the standard grid; finer grids get fewer frames a step, not
/// slower steps.
const TOKEN_BATCH: usize = 32 * 240;

/// The perceptron's schedule.
const MLP_SCHEDULE: Schedule = Schedule {
    learning_rate: 1e-3,
    weight_decay: 0.1,
    batch: 128,
    max_steps: 300,
    check_every: 5,
    patience: 10,
    seed: 0,
};

/// The token head's schedule: few parameters, shared by all tokens, bear large steps.
const TOKEN_SCHEDULE: Schedule = Schedule {
    learning_rate: 0.02,
    weight_decay: 0.01,
    batch: 32,
    max_steps: 160,
    check_every: 10,
    patience: 8,
    seed: 0,
};

/// What a learner makes of the labels.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) kind: Kind,
    /// Whether the head reads the latent grid instead of the embedding.
    pub(super) reads_grid: bool,
    pub(super) tensors: BTreeMap<String, TensorData>,
    pub(super) self_test_input: Vec<f32>,
    /// Each training row's answer from the fold that did not see it.
    pub(super) answers: Vec<f64>,
    /// Deviations that the head itself states with those answers, if its kind does.
    pub(super) deviations: Option<Vec<f64>>,
    /// What was chosen, in words.
    pub(super) choice: String,
}

/// Labelled embeddings in time order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a> {
    pub(super) rows: &'a [&'a [f32]],
    pub(super) values: &'a [f64],
    pub(super) target: Target,
    pub(super) seed: u64,
}

impl Labelled<'_> {
    /// Absolute error of each row's answer.
    pub(super) fn errors(&self, answers: &[f64]) -> Vec<f64> {
        self.values.iter().zip(answers).map(|(v, a)| self.target.residual(*v, *a).abs()).collect()
    }

    /// Mean absolute error in each fold of the cross-validation.
    pub(super) fn fold_errors(&self, answers: &[f64]) -> Vec<f64> {
        let errors = self.errors(answers);
        folds::contiguous(errors.len()).into_iter().map(|fold| mean(&errors[fold.held])).collect()
    }
}

/// Closed-form ridge.
pub(super) fn linear(data: &Labelled<'_>, one_standard_error: bool) -> Result<Learned, TrainError> {
    let ridge_data = ridge::Data { rows: data.rows, values: data.values, target: data.target };
    let ridge::Choice { strength, answers } = ridge::choose(&ridge_data, one_standard_error)?;
    let fitted = ridge::fit(&ridge_data, strength)?;
    let (dim, width) = (fitted.mean.len(), data.target.width());
    let mut tensors = norm_tensors(&fitted.mean, &fitted.std);
    tensors.insert("weight".into(), TensorData::f32(&[width, dim], &narrow(&fitted.weight.concat())));
    tensors.insert("bias".into(), TensorData::f32(&[width], &narrow(&fitted.bias)));
    Ok(Learned {
        kind: Kind::Linear,
        reads_grid: false,
        deviations: None,
        tensors,
        self_test_input: synthetic(&narrow(&fitted.mean), &narrow(&fitted.std), data.seed),
        answers,
        choice: format!("ridge strength {strength:.2e}"),
    })
}

/// A perceptron with one hidden layer.
pub(super) fn mlp(data: &Labelled<'_>) -> Result<Learned, TrainError> {
    let recipe = MlpRecipe { rows: data.rows, hidden: MLP_HIDDEN, width: data.target.width() };
    let schedule = Schedule { seed: data.seed, ..MLP_SCHEDULE };
    let fit = network::train(&recipe, data.values, data.target, &schedule)?;
    let all: Vec<usize> = (0..data.rows.len()).collect();
    let (mean, std) = ridge::standardise(data.rows, &all);
    let mut tensors = norm_tensors(&mean, &std);
    tensors.extend(mlp_tensors(&fit.network, &fit.scale)?);
    Ok(Learned {
        kind: Kind::Mlp,
        reads_grid: false,
        deviations: None,
        tensors,
        self_test_input: synthetic(&narrow(&mean), &narrow(&std), data.seed),
        answers: fit.answers,
        choice: format!("{MLP_HIDDEN} hidden units, {}", steps_text(fit.steps)),
    })
}

/// A response shared by all tokens, summed over the grid.
pub(super) fn tokens(data: &Labelled<'_>, frames: &GridFrames<'_>) -> Result<Learned, TrainError> {
    let grid = frames.grid;
    let set = TokenSet { values: frames.all_tokens(), tokens: grid.tokens(), dim: grid.dim as usize };
    let background = Background::learn(&set, &frames.unlabelled);
    let directions = Directions::learn(&set, &background, &frames.unlabelled, TOKEN_DIRECTIONS)?;
    let features = directions.features(&set, &background, &frames.labelled)?;
    let recipe = TokenRecipe { features, grid, hidden: TOKEN_HIDDEN, target: data.target };
    let batch = (TOKEN_BATCH / grid.tokens()).max(8);
    let schedule = Schedule { seed: data.seed, batch, ..TOKEN_SCHEDULE };
    let fit = network::train(&recipe, data.values, data.target, &schedule)?;
    Ok(Learned {
        kind: Kind::Tokens(Tokens { response: fit.network.response(), background: true, departure: true }),
        reads_grid: true,
        deviations: None,
        tensors: fit.network.tensors(&fit.scale, &background, &directions)?,
        self_test_input: synthetic(&background.mean, &background.std, data.seed),
        answers: fit.answers,
        choice: format!(
            "{TOKEN_HIDDEN} hidden units per token, {}, background of {} frames",
            steps_text(fit.steps),
            frames.unlabelled.len()
        ),
    })
}

fn steps_text(steps: usize) -> String {
    match steps {
        0 => "0 steps (any more did worse on held-out frames: it answers the mean)".to_owned(),
        steps => format!("{steps} steps"),
    }
}

fn mlp_tensors(network: &Mlp, scale: &Scale) -> CandleResult<BTreeMap<String, TensorData>> {
    let tensors = |dense: &Dense, factor: f64, offset: &[f64]| -> CandleResult<[TensorData; 2]> {
        let weight: Vec<f32> = (dense.weight.as_tensor() * factor)?.flatten_all()?.to_vec1()?;
        let bias: Vec<f32> = (dense.bias.as_tensor() * factor)?.to_vec1()?;
        let bias: Vec<f32> = bias.iter().zip(offset).map(|(b, o)| b + *o as f32).collect();
        Ok([TensorData::f32(dense.weight.dims(), &weight), TensorData::f32(dense.bias.dims(), &bias)])
    };
    let [weight1, bias1] = tensors(&network.fc1, 1.0, &[0.0; MLP_HIDDEN])?;
    // The labels' scale moves into the last layer, so that the file's network answers in their unit.
    let [weight2, bias2] = tensors(&network.fc2, scale.spread, &scale.centre)?;
    let names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"].map(str::to_owned);
    Ok(names.into_iter().zip([weight1, bias1, weight2, bias2]).collect())
}

pub(super) fn norm_tensors(mean: &[f64], std: &[f64]) -> BTreeMap<String, TensorData> {
    let tensor = |values: &[f64]| TensorData::f32(&[values.len()], &narrow(values));
    BTreeMap::from([("norm.mean".to_owned(), tensor(mean)), ("norm.std".to_owned(), tensor(std))])
}

pub(super) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// A self-test input that looks like these rows.
pub(super) fn self_test_like(rows: &[&[f32]], seed: u64) -> Vec<f32> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let (mean, std) = ridge::standardise(rows, &all);
    synthetic(&narrow(&mean), &narrow(&std), seed)
}

/// A self-test input that looks like a frame's, and is none: a head file must not carry anyone's picture.
fn synthetic(mean: &[f32], std: &[f32], seed: u64) -> Vec<f32> {
    let mut rng = network::rng(seed);
    let draw = |(mean, std): (&f32, &f32)| {
        let x: f32 = StandardNormal.sample(&mut rng);
        mean + std * x
    };
    mean.iter().zip(std).map(draw).collect()
}
