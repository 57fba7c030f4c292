//! A learning-rate range test (Smith, 2017): one short run in which the rate rises at every step.

use super::adamw::{self, Update};
use super::draw::Order;
use super::error::PretrainError;
use super::network::Network;
use super::prepare::{read_frames, start, training_batch};
use super::recipe::Recipe;
use super::schedule::Schedule;
use super::{Event, Options};

/// The lowest and the highest rate tried.
const RANGE: (f64, f64) = (1e-5, 1e-1);
/// Steps, each at a rate higher by the same factor.
const STEPS: u64 = 60;
/// Share of the newest loss in the running mean.
const FRESH: f64 = 0.15;
/// A running mean this many times the lowest ends the test.
const BURST: f64 = 1.5;
/// What is suggested is this share of the rate at which the loss was lowest: there it is about to rise.
const SAFETY: f64 = 0.3;

/// What was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Each rate and the running mean of the loss after it.
    pub losses: Vec<(f64, f64)>,
    /// A rate to begin with.
    pub suggested: f64,
}

/// Tries rates from [`RANGE`] and suggests one. Writes nothing.
///
/// # Errors
/// Frames or a model that cannot be used.
pub fn find_rate(options: &Options, watch: &mut dyn FnMut(Event<'_>)) -> Result<Tried, PretrainError> {
    options.check()?;
    let compute = PretrainError::compute("trying learning rates");
    let (config, weights, name) = start(options)?;
    let frames = read_frames(options, &config, watch)?;
    let decoder =
        config.decoder.clone().ok_or_else(|| PretrainError::NoDecoder { path: options.out.clone() })?;
    let network = Network::new(options.setup(&config), &decoder, &weights).map_err(&compute)?;
    let recipe = super::prepare::recipe(options, config, name, &frames);
    let recipe = Recipe { schedule: Schedule { steps: STEPS, ..recipe.schedule }, ..recipe };
    let mut order = Order::new(recipe.seed, recipe.training);
    let mut losses: Vec<(f64, f64)> = Vec::new();
    for step in 0..STEPS {
        let rate = RANGE.0 * (RANGE.1 / RANGE.0).powf(step as f64 / (STEPS - 1) as f64);
        let batch = training_batch(&recipe, &frames, &mut order, step, 0)?;
        let loss = network.loss(&batch).map_err(&compute)?.total;
        let value = f64::from(loss.to_scalar::<f32>().map_err(&compute)?);
        let mean = losses.last().map_or(value, |(_, mean)| mean + FRESH * (value - mean));
        let lowest = losses.iter().map(|(_, mean)| *mean).fold(mean, f64::min);
        if !mean.is_finite() || mean > BURST * lowest {
            break;
        }
        losses.push((rate, mean));
        let gradients = network.gradients(&loss).map_err(&compute)?;
        let norm = adamw::norm(&gradients).map_err(&compute)?;
        let update = Update {
            step: step + 1,
            rate,
            decay: recipe.decay,
            scale: (recipe.clip / norm.max(1e-12)).min(1.0),
        };
        adamw::step(&network.slots, &gradients, update).map_err(&compute)?;
    }
    let suggested = suggest(&losses);
    Ok(Tried { losses, suggested })
}

/// A share of the rate with the lowest loss.
fn suggest(losses: &[(f64, f64)]) -> f64 {
    losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(RANGE.0, |(rate, _)| SAFETY * rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_rate_with_the_lowest_loss_is_suggested() {
        assert_eq!(suggest(&[(1e-3, 0.9), (1e-2, 0.5), (1e-1, 0.8)]), SAFETY * 1e-2);
        assert_eq!(suggest(&[]), RANGE.0);
    }
}
