//! The steps themselves.

use std::path::PathBuf;
use std::time::Instant;

use candle_core::Tensor;

use super::adamw::{self, Update};
use super::batch::Batch;
use super::checkpoint::Place;
use super::error::PretrainError;
use super::health::Standing;
use super::journal::{Journal, Row};
use super::picture::{caption, held_out_pictures};
use super::prefetch::Prefetch;
use super::prepare::{Ready, prepare};
use super::validate::{LOOKED_AT, Validation, validate};
use super::{Event, Options, Summary, board::Image, target};
use crate::model::config::Origin;
use crate::model::file;

/// Rows of the table in a run, about: more would only make it long.
const ROWS: u64 = 1000;

/// Pretrains a model into `options.out`, continuing an earlier run where there is one.
///
/// # Errors
/// After any error but a setting's, the same call goes on from the last checkpoint.
pub fn run(options: &Options, watch: &mut dyn FnMut(Event<'_>)) -> Result<Summary, PretrainError> {
    let began = Instant::now();
    let ready = prepare(options, began, watch)?;
    let complete = ready.state.stopped_early || ready.state.step >= ready.recipe.schedule.steps;
    let already_complete = complete && options.out.join(file::CONFIG_FILE).exists();
    let before = ready.state.seconds;
    let standing = Standing::default();
    let mut run = Run { options, before, began: Instant::now(), last: None, standing, ready, watch };
    if !complete {
        run.steps()?;
    }
    if !already_complete {
        run.finish()?;
    }
    let Ready { state, recipe, .. } = &run.ready;
    Ok(Summary {
        steps: state.step,
        already_complete,
        validation: run.last,
        seconds: state.seconds,
        frames: recipe.training,
    })
}

struct Run<'a> {
    options: &'a Options,
    ready: Ready,
    /// Seconds of earlier runs.
    before: f64,
    began: Instant,
    last: Option<Validation>,
    standing: Standing,
    watch: &'a mut dyn FnMut(Event<'_>),
}

/// Sums since the last row of the table.
#[derive(Default)]
struct Since {
    steps: u64,
    loss: f64,
    latent: Option<f64>,
    images: u64,
}

/// What one step gave.
struct Stepped {
    loss: f64,
    latent: Option<f64>,
    norm: f64,
    rate: f64,
}

impl Run<'_> {
    /// From the state to the last step.
    fn steps(&mut self) -> Result<(), PretrainError> {
        let steps = self.ready.recipe.schedule.steps;
        let mut journal =
            Journal::open(&self.options.folder(), self.ready.state.step).map_err(|e| self.write_error(e))?;
        let mut batches = Prefetch::start(&self.ready.recipe, &self.ready.frames, self.ready.state.step);
        let (mut since, mut row_began) = (Since::default(), Instant::now());
        let mut saved = Instant::now();
        if self.ready.state.step == 0 {
            // From here on a kill loses time, never the run.
            self.save()?;
        }
        while self.ready.state.step < steps && !self.ready.state.stopped_early {
            let stepped = self.step(&mut batches)?;
            since.add(&stepped, (self.ready.recipe.batch * self.ready.recipe.accumulate) as u64);
            let step = self.ready.state.step;
            let validation = self.validation_due().then(|| self.validate()).transpose()?;
            let mut row = since.row(step, &stepped, row_began.elapsed().as_secs_f64());
            if validation.is_some() || step.is_multiple_of(steps.div_ceil(ROWS)) {
                journal.row(&row, validation.as_ref()).map_err(|e| self.write_error(e))?;
                (since, row_began) = (Since::default(), Instant::now());
            }
            row.loss = stepped.loss;
            (self.watch)(Event::Step { row, steps, validation });
            if let Some(validation) = &validation {
                self.pictures(&mut journal)?;
                self.judge(validation);
                row_began = Instant::now();
            }
            if saved.elapsed() >= self.options.checkpoint_every || self.ready.state.stopped_early {
                self.save()?;
                saved = Instant::now();
            }
        }
        self.save()
    }

    /// One step: loss and gradients of its batches, then AdamW.
    fn step(&mut self, batches: &mut Prefetch) -> Result<Stepped, PretrainError> {
        let compute = PretrainError::compute("training");
        let Ready { recipe, network, state, .. } = &self.ready;
        let (mut loss, mut latent) = (0.0, None);
        let mut gradients: Vec<Option<Tensor>> = Vec::new();
        let share = 1.0 / recipe.accumulate as f64;
        for micro in 0..recipe.accumulate {
            let batch = Batch::new(&recipe.model, target(&recipe.model), batches.next()?);
            let value = network.loss(&batch).map_err(&compute)?;
            loss += share * f64::from(value.total.to_scalar::<f32>().map_err(&compute)?);
            latent = value.latent.map(|value| latent.unwrap_or(0.0) + share * value);
            let more = network.gradients(&value.total).map_err(&compute)?;
            gradients = if micro == 0 { more } else { add(gradients, more).map_err(&compute)? };
        }
        let rate = recipe.schedule.rate(state.step);
        if !loss.is_finite() {
            return Err(self.diverged("the loss", rate));
        }
        let norm = share * adamw::norm(&gradients).map_err(&compute)?;
        if !norm.is_finite() {
            return Err(self.diverged("the gradient", rate));
        }
        let scale = share * (recipe.clip / norm.max(1e-12)).min(1.0);
        let update = Update { step: state.step + 1, rate, decay: recipe.decay, scale };
        adamw::step(&network.slots, &gradients, update).map_err(&compute)?;
        self.ready.state.step += 1;
        Ok(Stepped { loss, latent, norm, rate })
    }

    fn validation_due(&self) -> bool {
        let (step, recipe) = (self.ready.state.step, &self.ready.recipe);
        step.is_multiple_of(recipe.validate_every) || step == recipe.schedule.steps
    }

    fn validate(&mut self) -> Result<Validation, PretrainError> {
        let validation = validate(&self.ready.recipe, &self.ready.frames, &self.ready.network, LOOKED_AT)?;
        self.last = Some(validation);
        Ok(validation)
    }

    /// Warnings and early stop.
    fn judge(&mut self, validation: &Validation) {
        let Ready { recipe, state, .. } = &mut self.ready;
        let done = state.step as f64 / recipe.schedule.steps as f64;
        for warning in self.standing.look(validation, state.first_rank, done) {
            (self.watch)(Event::Warning(warning));
        }
        state.first_rank.get_or_insert(validation.rank);
        if state.best.is_none_or(|best| validation.loss < best) {
            (state.best, state.since_best) = (Some(validation.loss), 0);
        } else {
            state.since_best += 1;
        }
        if recipe.early_stop.is_some_and(|most| state.since_best >= most) {
            state.stopped_early = true;
            (self.watch)(Event::StoppedEarly { step: state.step });
        }
    }

    fn pictures(&self, journal: &mut Journal) -> Result<(), PretrainError> {
        let Ready { recipe, frames, network, state, .. } = &self.ready;
        for (number, small) in held_out_pictures(recipe, frames, network)?.iter().enumerate() {
            let tag = format!("held_out/{number}: {}", caption(&recipe.model));
            let image = Image { width: small.width, height: small.height, bytes: &small.jpeg };
            journal.picture(state.step, &tag, image).map_err(|e| self.write_error(e))?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), PretrainError> {
        self.ready.state.seconds = self.before + self.began.elapsed().as_secs_f64();
        let Ready { recipe, state, network, place, .. } = &self.ready;
        place.save(recipe, state, &network.slots).map_err(|error| self.write_error((place.file(), error)))?;
        (self.watch)(Event::Saved(&self.ready.place.file()));
        Ok(())
    }

    /// Writes the model folder.
    fn finish(&mut self) -> Result<(), PretrainError> {
        let Ready { recipe, state, network, .. } = &self.ready;
        let mut config = recipe.model.clone();
        config.weights = Some(Origin::Trained { note: self.note() });
        if self.options.drop_decoder {
            config.decoder = None;
        }
        let weights = network.weights().map_err(PretrainError::compute("collecting the weights"))?;
        debug_assert!(state.step > 0);
        Ok(file::save(&self.options.out, &config, &weights, self.options.dtype, true)?)
    }

    /// How the weights came about.
    fn note(&self) -> String {
        let Ready { recipe, state, .. } = &self.ready;
        format!(
            "masked autoencoding from {}; {} of {} steps of {} frames in {}, seed {}, {} frames (and {} held out); {}",
            recipe.start,
            state.step,
            recipe.schedule.steps,
            recipe.batch * recipe.accumulate,
            recipe.precision,
            recipe.seed,
            recipe.training,
            recipe.frames - recipe.training,
            self.options.command,
        )
    }

    fn kept(&self) -> String {
        kept(&self.ready.place)
    }

    fn write_error(&self, (path, source): (PathBuf, std::io::Error)) -> PretrainError {
        PretrainError::Write { path, source, kept: self.kept() }
    }

    fn diverged(&self, what: &'static str, rate: f64) -> PretrainError {
        let (step, peak) = (self.ready.state.step, self.ready.recipe.schedule.peak);
        PretrainError::Diverged { what, step, rate, peak, kept: self.kept() }
    }
}

fn kept(place: &Place) -> String {
    match place.read() {
        Ok(Some((_, state))) => format!("step {} is kept in {}", state.step, place.file().display()),
        _ => "no checkpoint was written yet".to_owned(),
    }
}

fn add(a: Vec<Option<Tensor>>, b: Vec<Option<Tensor>>) -> candle_core::Result<Vec<Option<Tensor>>> {
    let sum = |pair: (Option<Tensor>, Option<Tensor>)| match pair {
        (Some(a), Some(b)) => a.add(&b).map(Some),
        (one, other) => Ok(one.or(other)),
    };
    a.into_iter().zip(b).map(sum).collect()
}

impl Since {
    fn add(&mut self, stepped: &Stepped, images: u64) {
        self.steps += 1;
        self.images += images;
        self.loss += stepped.loss;
        self.latent = stepped.latent.map(|latent| self.latent.unwrap_or(0.0) + latent);
    }

    fn row(&self, step: u64, stepped: &Stepped, seconds: f64) -> Row {
        let steps = self.steps.max(1) as f64;
        Row {
            step,
            loss: self.loss / steps,
            latent: self.latent.map(|latent| latent / steps),
            rate: stepped.rate,
            norm: stepped.norm,
            images_per_s: self.images as f64 / seconds.max(1e-9),
        }
    }
}
