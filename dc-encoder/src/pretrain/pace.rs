//! How many steps fit into a time: a few are timed with all that belongs to them, and none changes a weight.
//!
//! ```text
//! time asked for − frames read − validations (with their pictures) = steps × (next batch + gradients + update)
//! ```

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
use super::validate::validate;

/// Steps that are timed, after one that is not.
const TIMED_STEPS: u64 = 3;

/// What is timed.
pub(super) struct Pace<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) frames: &'a Arc<Frames>,
    pub(super) network: &'a Network,
    /// Validations of the whole run.
    pub(super) validations: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) steps: u64,
    /// Seconds a step takes.
    pub(super) step: f64,
}

impl Pace<'_> {
    /// Steps that fit into `seconds` from when the command was given, `began`.
    pub(super) fn fit(&self, seconds: f64, began: Instant) -> Result<Found, PretrainError> {
        let step = self.time_steps()?;
        let start = Instant::now();
        validate(self.recipe, self.frames, self.network)?;
        held_out_pictures(self.recipe, self.frames, self.network)?;
        let validating = start.elapsed().as_secs_f64() * self.validations as f64;
        let spent = began.elapsed().as_secs_f64() + validating;
        let steps = ((seconds - spent) / step).floor();
        if steps < 1.0 {
            return Err(PretrainError::TooShort { asked: self.recipe.length.clone(), spent, step });
        }
        Ok(Found { steps: steps as u64, step })
    }

    /// The median of a few steps, in seconds: each waits for its batches as in training, where they may have to be
    /// decoded, and ends with an update that moves nothing.
    fn time_steps(&self) -> Result<f64, PretrainError> {
        let schedule = Schedule { steps: 1 + TIMED_STEPS, ..self.recipe.schedule };
        let recipe = Recipe { schedule, ..self.recipe.clone() };
        let mut batches = Prefetch::start(&recipe, self.frames, 0);
        self.step(&mut batches)?;
        let mut times = Vec::new();
        for _ in 0..TIMED_STEPS {
            let start = Instant::now();
            self.step(&mut batches)?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
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
