//! How many steps fit into a time: a few are timed with all that belongs to them, and none changes a weight.
//!
//! ```text
//! time asked for − spent so far − validations (with their pictures) − checkpoints
//!     = steps × (next batch + gradients + update)
//! ```
//! Measuring and validating are overhead, and bounded: however slow the model is, the time goes into steps. How often a
//! checkpoint is written was asked for, and is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adamw::{self, Update};
use super::batch::Batch;
use super::checkpoint::{Place, State};
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

/// Checkpoints of every run: before the first step, after the last, and the model folder, which takes no longer.
const CHECKPOINTS: f64 = 3.0;

/// What is timed.
pub(super) struct Pace<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) frames: &'a Arc<Frames>,
    pub(super) network: &'a Network,
    pub(super) place: &'a Place,
    /// Validations asked for in the whole run.
    pub(super) validations: u64,
    /// Time between checkpoints.
    pub(super) checkpoint_every: Duration,
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
        let (validation, checkpoint) = (self.time_validation()?, self.time_checkpoint()?);
        let spent = began.elapsed().as_secs_f64();
        let every = self.checkpoint_every.as_secs_f64();
        let costs = Costs { step, validation, checkpoint, every };
        costs.divide(seconds - spent, self.validations).ok_or_else(|| PretrainError::TooShort {
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

    /// Seconds of a checkpoint, from one that does not stay.
    fn time_checkpoint(&self) -> Result<f64, PretrainError> {
        let start = Instant::now();
        self.place.rehearse(self.recipe, &State::default(), &self.network.slots).map_err(|source| {
            PretrainError::Write { path: self.place.file(), source, kept: "nothing was begun".into() }
        })?;
        Ok(start.elapsed().as_secs_f64())
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

/// What takes how long, in seconds.
#[derive(Debug, Clone, Copy)]
struct Costs {
    step: f64,
    /// A validation with its pictures.
    validation: f64,
    checkpoint: f64,
    /// From one checkpoint to the next; one is written after the step in which this is over.
    every: f64,
}

impl Costs {
    /// How `left` seconds are best spent with at most so many validations; none if not one of each fits.
    fn divide(&self, left: f64, most: u64) -> Option<Found> {
        let Self { step, validation, checkpoint, every } = *self;
        let left = left - CHECKPOINTS * checkpoint;
        let validations = ((left * VALIDATING_SHARE / validation) as u64).clamp(1, most.max(1));
        let saved = 1.0 + checkpoint / every.max(step);
        let steps = ((left - validations as f64 * validation) / (step * saved)).floor();
        (steps >= 1.0).then_some(Found { steps: steps as u64, validations, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_give_way_to_steps() {
        let of = |left, step, validation| {
            let costs = Costs { step, validation, checkpoint: 0.0, every: 120.0 };
            costs.divide(left, 20).map(|f| (f.steps, f.validations))
        };
        assert_eq!(of(1000.0, 1.0, 1.0), Some((980, 20)));
        // As many as fit into a tenth of the time.
        assert_eq!(of(1000.0, 1.0, 30.0), Some((910, 3)));
        // The last one is made however long it takes, and what is left are steps.
        assert_eq!(of(180.0, 8.0, 35.0), Some((18, 1)));
        assert_eq!(of(40.0, 8.0, 35.0), None);
        assert_eq!(of(-5.0, 8.0, 35.0), None);
    }

    #[test]
    fn checkpoints_take_their_time_from_steps() {
        let of = |left, step, checkpoint, every| {
            let costs = Costs { step, validation: 10.0, checkpoint, every };
            costs.divide(left, 1).map(|found| found.steps)
        };
        // 1000 s less a validation and three writes; each 100 s of steps are followed by 10 s of writing.
        assert_eq!(of(1000.0, 1.0, 10.0, 100.0), Some(872));
        // After every step, whether the time between is shorter than a step or nothing.
        assert_eq!(of(1000.0, 5.0, 5.0, 2.0), Some(97));
        assert_eq!(of(1000.0, 5.0, 5.0, 0.0), Some(97));
        assert_eq!(of(1000.0, 5.0, 0.0, 0.0), Some(198));
        assert_eq!(of(60.0, 5.0, 16.0, 100.0), None, "what must be written leaves no time");
    }
}
