//! Giving an encoder addressed latent tokens without labels (`dc-encoder model calibrate`).
//!
//! ```text
//! frames ─► uplink, decode, resize ─┬─► encoder ─► hidden tokens ─┐
//!                                   └─► cells::targets ───────────┴─► least squares ─► embed ─► model folder
//! ```
//! The readout `embed` is fitted in closed form so that the latent tokens say the log-colour of their patch's cells
//! (see [`crate::model::cells`]). It works on any encoder: a pretrained one, an imported one, even one with random
//! weights, and takes one pass over some hundred frames.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use rayon::prelude::*;
use shared::frames::{self, FrameRef, ListError};
use shared::image::Limits;
use shared::uplink::Uplink;

use crate::embed::Preparation;
use crate::model::config::{ConfigError, Pooling};
use crate::model::file::{self, Precision};
use crate::model::{Model, ModelError, cells, patches, tensors};

pub mod equations;
mod score;

use equations::{Equations, Readout};
use score::Score;

/// Frames encoded at a time.
const BATCH: usize = 8;
/// Every so many-th part of the frames, the last in time, is held out to score the readout.
const HELD_OUT_SHARE: usize = 5;
/// The embedding's regions where the model has none yet: 8x16 regions of 4 numbers are 512.
const REGIONS: (usize, usize) = (8, 16);

/// What to calibrate, on what.
#[derive(Debug, Clone)]
pub struct Config {
    /// Model folder to read.
    pub model: PathBuf,
    /// Model folder to write.
    pub out: PathBuf,
    /// A folder of pictures, or a list of them; labels are not looked at.
    pub frames: PathBuf,
    /// Most frames used, evenly spread over the list.
    pub max_frames: usize,
    /// Cells along a patch's side, for models whose latent tokens have no addresses yet.
    pub cells: usize,
    /// What every frame passes through first.
    pub uplink: Uplink,
    /// How the weights are stored.
    pub precision: Precision,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Frames that were used.
    pub used: usize,
    /// Frames that could not be used.
    pub skipped: Vec<(String, String)>,
    /// Frames held out for the score.
    pub held_out: usize,
    /// Share of the change over time at each place that the latent tokens explain on frames held out, for log luma,
    /// red − blue and red − green; `None` where nothing changed.
    pub explained: [Option<f64>; cells::CHANNELS],
}

/// Why a model was not calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The frames cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// The model cannot be read or written, or the device failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's shape does not go with cells.
    #[error("the model cannot have addressed tokens: {0}; choose another --cells")]
    Shape(#[from] ConfigError),
    /// Too few frames to tell what changes from what does not.
    #[error("{usable} of {listed} frames can be used, calibration needs at least {MIN_FRAMES}{}", example(.first))]
    TooFew {
        /// Frames in the list that could be read.
        usable: usize,
        /// Frames in the list.
        listed: usize,
        /// The first that could not, and why.
        first: Option<(String, String)>,
    },
}

/// Fewest frames: below this the held-out part says nothing.
const MIN_FRAMES: usize = 10;

fn example(skipped: &Option<(String, String)>) -> String {
    skipped.as_ref().map_or_else(String::new, |(file, why)| format!("; the first that cannot, {file}: {why}"))
}

/// Fits the readout and writes the model. `watch` is told how many frames of how many are done.
///
/// # Errors
/// Nothing is written before everything is known.
pub fn run(config: &Config, watch: &mut dyn FnMut(usize, usize)) -> Result<Summary, CalibrateError> {
    let listed = frames::list(&config.frames)?;
    let chosen = spread(&listed, config.max_frames);
    let (mut model_config, mut weights) = file::load(&config.model)?;
    if !matches!(model_config.pooling, Pooling::Cells { .. }) {
        let (rows, cols) = REGIONS;
        model_config.pooling = Pooling::Cells { version: 1, cells: config.cells, rows, cols };
        model_config.embed_dim = rows * cols * cells::REGION_NUMBERS;
        model_config.validate()?;
    }
    let embed = ["embed.weight", "embed.bias"];
    let zero = |name: &str| {
        let specs = tensors::specs(&model_config);
        let spec = specs.iter().find(|spec| spec.name == name).expect("every encoder has a readout");
        Tensor::zeros(spec.shape.clone(), candle_core::DType::F32, &candle_core::Device::Cpu)
    };
    for name in embed {
        weights.insert(name.into(), zero(name).map_err(ModelError::compute("making the readout"))?);
    }
    let mut encoder_only = weights.clone();
    encoder_only.retain(|name, _| !name.starts_with(tensors::DECODER));
    let model = Model::from_weights(&model_config, encoder_only, &candle_core::Device::Cpu)?;

    let mut fit = Fit::new(&model, config).map_err(ModelError::compute("fitting the readout"))?;
    let (train, held_out) = chosen.split_at(chosen.len() - chosen.len() / HELD_OUT_SHARE);
    let total = chosen.len();
    let scored = fit
        .frames(train, &mut |done| watch(done, total))
        .and_then(|training| {
            let readout = training.solve()?;
            let held = fit.scored_frames(held_out, &readout, &mut |done| watch(train.len() + done, total))?;
            let mut all = training;
            all.merge(&held)?;
            all.solve()
        })
        .map_err(ModelError::compute("fitting the readout"))?;
    if fit.used < MIN_FRAMES {
        let first = fit.skipped.into_iter().next();
        return Err(CalibrateError::TooFew { usable: fit.used, listed: listed.len(), first });
    }
    let explained = fit.score.explained(model_config.latent_dim());
    for (name, tensor) in embed.into_iter().zip([scored.weight, scored.bias]) {
        weights.insert(name.into(), tensor);
    }
    model_config.readout = Some(note(fit.used, &explained));
    let overwrite = same_folder(&config.model, &config.out);
    file::save(&config.out, &model_config, &weights, config.precision, overwrite)?;
    Ok(Summary { used: fit.used, held_out: held_out.len(), skipped: fit.skipped, explained })
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A few words for the configuration: `calibrated on 300 frames, explains 92 % of the changes of brightness`.
fn note(frames: usize, explained: &[Option<f64>; cells::CHANNELS]) -> String {
    let [luma, ..] = explained;
    let share = luma.map_or_else(String::new, |share| {
        format!(", explains {:.0} % of the changes of brightness", 100.0 * share)
    });
    format!("calibrated on {frames} frames{share}")
}

/// At most `most` frames, evenly spread, in the list's order.
fn spread(listed: &[FrameRef], most: usize) -> Vec<&FrameRef> {
    let count = listed.len().min(most);
    (0..count).map(|i| &listed[i * listed.len() / count]).collect()
}

/// What a run gathers.
struct Fit<'a> {
    model: &'a Model,
    preparation: Preparation,
    used: usize,
    skipped: Vec<(String, String)>,
    score: Score,
    empty: Equations,
}

impl<'a> Fit<'a> {
    fn new(model: &'a Model, config: &Config) -> candle_core::Result<Self> {
        let shape = model.config();
        let preparation = Preparation {
            uplink: config.uplink,
            limits: Limits::default(),
            input: (shape.height, shape.width),
        };
        let empty = Equations::new(shape.dim, shape.latent_dim())?;
        Ok(Self { model, preparation, used: 0, skipped: Vec::new(), score: Score::default(), empty })
    }

    /// The equations of these frames.
    fn frames(
        &mut self,
        frames: &[&FrameRef],
        done: &mut dyn FnMut(usize),
    ) -> candle_core::Result<Equations> {
        self.each_batch(frames, done, &mut |_, _, _| Ok(()))
    }

    /// The equations of these frames, after scoring a readout on them.
    fn scored_frames(
        &mut self,
        frames: &[&FrameRef],
        readout: &Readout,
        done: &mut dyn FnMut(usize),
    ) -> candle_core::Result<Equations> {
        self.each_batch(frames, done, &mut |score, hidden, targets| {
            let got = hidden.broadcast_matmul(&readout.weight.t()?)?.broadcast_add(&readout.bias)?;
            score.add(&got, targets)
        })
    }

    fn each_batch(
        &mut self,
        frames: &[&FrameRef],
        done: &mut dyn FnMut(usize),
        see: &mut dyn FnMut(&mut Score, &Tensor, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Equations> {
        let mut equations = self.empty.clone();
        for (batch, chunk) in frames.chunks(BATCH).enumerate() {
            let prepared: Vec<_> =
                chunk.par_iter().map(|frame| self.preparation.prepare(&frame.path)).collect();
            let mut pixels = Vec::new();
            for (frame, prepared) in chunk.iter().zip(prepared) {
                match prepared {
                    Ok(image) => pixels.push(self.model.config().preprocess.normalise(&image)),
                    Err(why) => self.skipped.push((frame.id.clone(), why)),
                }
            }
            if !pixels.is_empty() {
                self.used += pixels.len();
                let (hidden, targets) = self.encode(pixels)?;
                see(&mut self.score, &hidden, &targets)?;
                equations.add(&hidden.flatten(0, 1)?, &targets.flatten(0, 1)?)?;
            }
            done((batch * BATCH + chunk.len()).min(frames.len()));
        }
        Ok(equations)
    }

    /// Hidden tokens `[batch, patches, dim]` and targets `[batch, patches, latent]` of normalised images.
    fn encode(&self, pixels: Vec<Vec<f32>>) -> candle_core::Result<(Tensor, Tensor)> {
        let shape = self.model.config();
        let dims = (pixels.len(), 3, shape.height, shape.width);
        let images = Tensor::from_vec(pixels.concat(), dims, self.model.device())?;
        let patches = patches::for_embedding(&images, shape.patch)?;
        let hidden = self.model.encoder().patch_hidden(&patches)?;
        let targets = cells::targets(&patches, &shape.preprocess, shape.patch, shape.cells())?;
        Ok((hidden.contiguous()?, targets))
    }
}
