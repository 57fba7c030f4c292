//! Everything before the first step: the model, the frames, the recipe, an earlier run's checkpoint.

use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::batch::{Batch, Change, Item};
use super::checkpoint::{Place, State};
use super::draw::{Order, Purpose, generator, mask};
use super::error::PretrainError;
use super::frames::{Frames, Source};
use super::network::Network;
use super::pace::{Found, Pace};
use super::recipe::Recipe;
use super::schedule::{Schedule, WARMUP_SHARE};
use super::{Event, Length, Options, Start, health, target};
use crate::model::file::{self, CONFIG_FILE, Weights};
use crate::model::mae::visible_count;
use crate::model::{Config, init, space};

/// Steps assumed until they are calibrated: a schedule needs some.
const UNKNOWN_STEPS: u64 = 1;

/// A run that is ready for its next step.
pub(super) struct Ready {
    pub(super) recipe: Recipe,
    pub(super) state: State,
    pub(super) frames: Arc<Frames>,
    pub(super) network: Network,
    pub(super) place: Place,
    /// Keeps other processes out for as long as it is open.
    _lock: File,
}

/// The model to begin with: configuration (with decoder), weights, and a name for people.
pub(super) fn start(options: &Options) -> Result<(Config, Weights, String), PretrainError> {
    let seed = options.seed;
    let (mut config, weights, name) = match &options.start {
        Start::Preset(preset) => {
            let config = preset.config();
            let weights = init::random(&config, seed)?;
            (config, weights, format!("preset {}, seed {seed}", preset.name))
        }
        Start::Config { name, config } => {
            (config.as_ref().clone(), init::random(config, seed)?, format!("{name}, seed {seed}"))
        }
        Start::Model(path) => {
            let (config, weights) = file::load(path)?;
            let name = format!("embedding space {}", space::id(&config, &weights)?);
            (config, weights, name)
        }
    };
    let Some(decoder) = &mut config.decoder else {
        let path = match &options.start {
            Start::Model(path) => path.clone(),
            Start::Preset(_) | Start::Config { .. } => "this configuration".into(),
        };
        return Err(PretrainError::NoDecoder { path });
    };
    decoder.target = options.target.unwrap_or(decoder.target);
    config.weights = None;
    Ok((config, weights, name))
}

/// Reads the frames, telling `watch` how far it is.
pub(super) fn read_frames(
    options: &Options,
    config: &Config,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Frames, PretrainError> {
    let total = shared::frames::list(&options.frames)?.len();
    let source = Source {
        path: &options.frames,
        uplink: options.uplink,
        limits: options.limits,
        input: (config.height, config.width),
        cache: options.cache,
        strict: options.strict,
        hold_out: options.hold_out,
    };
    let done = AtomicUsize::new(0);
    // One that waits is enough: whoever watches wants the newest number.
    let (sender, receiver) = mpsc::sync_channel(1);
    let frames = std::thread::scope(|scope| {
        let (source, done) = (&source, &done);
        let reader = scope.spawn(move || {
            Frames::read(source, &|| {
                let _ = sender.try_send(done.fetch_add(1, Ordering::Relaxed) + 1);
            })
        });
        for done in receiver {
            watch(Event::Read { done, total });
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    watch(Event::Frames {
        usable: frames.len(),
        training: frames.training(),
        kept: frames.kept(),
        skipped: &frames.skipped,
    });
    if let Some(warning) = health::duplicates(frames.duplicates) {
        watch(Event::Warning(warning));
    }
    Ok(frames)
}

/// Gets a run ready; `began` is when the command was given.
pub(super) fn prepare(
    options: &Options,
    began: Instant,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Ready, PretrainError> {
    options.check()?;
    let place = Place::new(&options.folder());
    let earlier = place.read()?;
    if earlier.is_none() && options.out.join(CONFIG_FILE).exists() {
        return Err(PretrainError::InTheWay { path: options.out.clone() });
    }
    let lock = lock(options)?;
    let (config, weights, name) = start(options)?;
    let frames = Arc::new(read_frames(options, &config, watch)?);
    let decoder =
        config.decoder.clone().ok_or_else(|| PretrainError::NoDecoder { path: options.out.clone() })?;
    let network = Network::new(options.setup(&config), &decoder, &weights)
        .map_err(PretrainError::compute("building the model"))?;
    let mut recipe = recipe(options, config, name, &frames);
    let state = match earlier {
        Some((then, state)) => {
            // A calibrated number of steps is a fact of the run that measured it.
            if then.length == recipe.length && matches!(options.length, Length::For(_)) {
                fix_steps(&mut recipe, options, then.schedule.steps, 1);
                recipe.validate_every = then.validate_every;
            }
            if let Some(difference) = then.difference(&recipe) {
                return Err(PretrainError::OtherRun { path: place.file(), difference });
            }
            place.load(&network.slots, network.device())?;
            watch(Event::Continuing { step: state.step, steps: recipe.schedule.steps });
            state
        }
        None => {
            if let Length::For(time) = options.length {
                let pace = Pace {
                    recipe: &recipe,
                    frames: &frames,
                    network: &network,
                    place: &place,
                    validations: options.validations,
                    checkpoint_every: options.checkpoint_every,
                };
                let Found { steps, validations, step } = pace.fit(time.as_secs_f64(), began)?;
                watch(Event::Calibrated { steps, step });
                fix_steps(&mut recipe, options, steps, validations);
            }
            State::default()
        }
    };
    Ok(Ready { recipe, state, frames, network, place, _lock: lock })
}

fn lock(options: &Options) -> Result<File, PretrainError> {
    let path = options.folder().join("lock");
    let write =
        |source| PretrainError::Write { path: path.clone(), source, kept: "nothing was begun".into() };
    std::fs::create_dir_all(options.folder()).map_err(write)?;
    let file = File::create(&path).map_err(write)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(PretrainError::Busy { path: options.out.clone() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file), // or a file system without locks
    }
}

pub(super) fn recipe(options: &Options, model: Config, start: String, frames: &Frames) -> Recipe {
    let (length, steps) = match options.length {
        Length::Steps(steps) => (format!("{steps} steps"), steps),
        Length::For(time) => (humantime::format_duration(time).to_string(), UNKNOWN_STEPS),
    };
    let mut recipe = Recipe {
        start,
        model,
        frames: frames.len(),
        frames_digest: frames.digest.clone(),
        training: frames.training(),
        uplink: options.uplink.id(),
        length,
        schedule: Schedule { peak: options.rate, warmup: 0, steps },
        batch: options.batch,
        accumulate: options.accumulate,
        decay: options.decay,
        clip: options.clip,
        mask_ratio: options.mask_ratio,
        latent_weight: options.latent_weight,
        augment: options.augment,
        precision: options.precision.on(&options.device),
        seed: options.seed,
        validate_every: 1,
        early_stop: options.early_stop,
    };
    fix_steps(&mut recipe, options, steps, options.validations);
    recipe
}

fn fix_steps(recipe: &mut Recipe, options: &Options, steps: u64, validations: u64) {
    let warmup = options.warmup.unwrap_or((steps as f64 * WARMUP_SHARE).ceil() as u64);
    recipe.schedule = Schedule { peak: options.rate, warmup: warmup.min(steps), steps };
    recipe.validate_every = steps.div_ceil(validations.max(1)).max(1);
}

/// One batch of a step.
pub(super) fn training_batch<'a>(
    recipe: &'a Recipe,
    frames: &Frames,
    order: &mut Order,
    step: u64,
    micro: usize,
) -> Result<Batch<'a>, PretrainError> {
    let items = training_items(recipe, frames, order, step * recipe.accumulate as u64 + micro as u64)?;
    Ok(Batch::new(&recipe.model, target(&recipe.model), items))
}

/// The frames, masks and changes of a batch: a function of the recipe and the batch's number alone.
pub(super) fn training_items(
    recipe: &Recipe,
    frames: &Frames,
    order: &mut Order,
    number: u64,
) -> Result<Vec<Item>, PretrainError> {
    let config = &recipe.model;
    let visible = visible_count(config.patches(), recipe.mask_ratio).clamp(1, config.patches().max(2) - 1);
    let first = number * recipe.batch as u64;
    let items = (first..first + recipe.batch as u64).map(|position| {
        let draw = |purpose| generator(recipe.seed, purpose, position);
        let change = if recipe.augment {
            Change::draw(config, &mut draw(Purpose::Augment))
        } else {
            Change::none(config)
        };
        let mask = mask(config.patches(), visible, &mut draw(Purpose::Mask));
        Ok(Item { image: frames.get(order.frame(position))?, change, mask })
    });
    items.collect()
}
