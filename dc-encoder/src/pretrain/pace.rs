//! How many steps fit into a time: a few are timed with all that belongs to them, and none changes a weight.
//!
//! ```text
//! time asked for − spent so far − validations (with their pictures) = steps × (next batch + gradients + update)
//! ```
//! Measuring and validating are overhead, and bounded: however slow the model is, the time goes into steps. Writing
//! checkpoints is not counted.

use std::sync::Arc;
use std::time::Instant;

use super::adamw::{self, Update};
use super::batch::Batch;
use super::error::PretrainError;
use super::frames::Frames;
use super::network::Network;
use super::picture::held_out_pictures;
use super::prefetch::Prefetch;
use super::recipe::Recipe;
use super::schedule::Schedule;
use super::target;
use super::validate::{BATCH, LOOKED_AT, looked_at, validate};

/// Most steps that are timed, after one that is not.
const TIMED_STEPS: u64 = 3;
/// Share of the time asked for after which no further step is timed; one always is.
const TIMING_SHARE: f64 = 0.03;
/// Share of the time left that validations may take. One, after the last step, always is.
const VALIDATING_SHARE: f64 = 0.1;

/// What is timed.
pub(super) struct Pace<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) frames: &'a Arc<Frames>,
    pub(super) network: &'a Network,
    /// Validations asked for in the whole run.
    pub(super) validations: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) steps: u64,
    /// Validations that fit, at most as many as were asked for.
    pub(super) validations: u64,
    /// Seconds a step takes.
    pub(super) step: f64,
}

impl Pace<'_> {
    /// Steps that fit into `seconds` from when the command was given, `began`.
    pub(super) fn fit(&self, seconds: f64, began: Instant) -> Result<Found, PretrainError> {
        let step = self.time_steps(seconds * TIMING_SHARE)?;
        let validation = self.time_validation()?;
        let spent = began.elapsed().as_secs_f64();
        divide(seconds - spent, step, validation, self.validations).ok_or_else(|| PretrainError::TooShort {
            asked: self.recipe.length.clone(),
            spent,
            step,
        })
    }

    /// The median of a few steps, in seconds: each waits for its batches as in training, where they may have to be
    /// decoded, and ends with an update that moves nothing.
    fn time_steps(&self, most: f64) -> Result<f64, PretrainError> {
        let schedule = Schedule { steps: 1 + TIMED_STEPS, ..self.recipe.schedule };
        let recipe = Recipe { schedule, ..self.recipe.clone() };
        let mut batches = Prefetch::start(&recipe, self.frames, 0);
        let began = Instant::now();
        self.step(&mut batches)?;
        let mut times = Vec::new();
        for _ in 0..TIMED_STEPS {
            let start = Instant::now();
            self.step(&mut batches)?;
            times.push(start.elapsed().as_secs_f64());
            if began.elapsed().as_secs_f64() > most {
                break;
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    /// Seconds of a validation with its pictures, from one over fewer frames.
    fn time_validation(&self) -> Result<f64, PretrainError> {
        let start = Instant::now();
        validate(self.recipe, self.frames, self.network, BATCH)?;
        let share = looked_at(self.frames, BATCH) as f64 / looked_at(self.frames, LOOKED_AT) as f64;
        let validating = start.elapsed().as_secs_f64() / share;
        let start = Instant::now();
        held_out_pictures(self.recipe, self.frames, self.network)?;
        Ok(validating + start.elapsed().as_secs_f64())
    }

    fn step(&self, batches: &mut Prefetch) -> Result<(), PretrainError> {
        let compute = PretrainError::compute("timing a step");
        let config = &self.recipe.model;
        let mut gradients = Vec::new();
        for _ in 0..self.recipe.accumulate {
            let batch = Batch::new(config, target(config), batches.next()?);
            let loss = self.network.loss(&batch).map_err(&compute)?;
            gradients = self.network.gradients(&loss.total).map_err(&compute)?;
        }
        adamw::norm(&gradients).map_err(&compute)?;
        let nothing = Update { step: 1, rate: 0.0, decay: 0.0, scale: 0.0 };
        adamw::step(&self.network.slots, &gradients, nothing).map_err(&compute)
    }
}

/// How `left` seconds are best spent, when a step and a validation take so long; none if not one of each fits.
fn divide(left: f64, step: f64, validation: f64, most: u64) -> Option<Found> {
    let validations = ((left * VALIDATING_SHARE / validation) as u64).clamp(1, most.max(1));
    let steps = ((left - validations as f64 * validation) / step).floor();
    (steps >= 1.0).then_some(Found { steps: steps as u64, validations, step })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_give_way_to_steps() {
        let of =
            |left, step, validation| divide(left, step, validation, 20).map(|f| (f.steps, f.validations));
        assert_eq!(of(1000.0, 1.0, 1.0), Some((980, 20)));
        // As many as fit into a tenth of the time.
        assert_eq!(of(1000.0, 1.0, 30.0), Some((910, 3)));
        // The last one is made however long it takes, and what is left are steps.
        assert_eq!(of(180.0, 8.0, 35.0), Some((18, 1)));
        assert_eq!(of(40.0, 8.0, 35.0), None);
        assert_eq!(of(-5.0, 8.0, 35.0), None);
    }
}
