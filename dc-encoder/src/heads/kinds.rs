//! The kinds of heads by name, and the choice among them.
//!
//! ```text
//! auto: departures, linear, kernel, trees ─► error in each fold of the same cross-validation ─► simplest near the best
//! ```

use std::time::{Duration, Instant};

use super::error::TrainError;
use super::frames::GridFrames;
use super::learn::{self, Labelled, Learned};
use super::score::{first_not_beaten, mean, standard_error};
use super::target::Target;
use super::{departures, folds, kernel, trees};

/// Standard errors by which another kind must beat departures: Student's t with as many degrees of freedom as five folds
/// leave, at 5 % divided by the three kinds that could win by luck.
const CERTAINLY: f64 = 4.0;

/// Departures are dropped where their error is more than this share of the best constant's: where the light changes with
/// the day, it departs as people do, and they explain nothing. Not 1: among few labels that hardly differ, a constant is
/// hard to beat for anything.
const EXPLAINS: f64 = 1.5;

/// Which kind of head to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KindChoice {
    /// The kind that cross-validation finds best, or a simpler one as good: departures, linear, kernel, trees
    Auto,
    /// Places that depart from a fixed camera's background, weighted by perspective; needs `embed --tokens`
    Departures,
    /// Ridge regression on the embedding
    Linear,
    /// Likeness to labelled frames: kernel ridge regression, with an interval of each frame's own
    Kernel,
    /// Extremely randomised trees, on the latent grid where the embeddings were made with `--tokens`
    Trees,
    /// A perceptron with one hidden layer on the embedding
    Mlp,
    /// A small network's response summed over the latent tokens; needs `embed --tokens`
    Tokens,
}

impl KindChoice {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Departures => "departures",
            Self::Linear => "linear",
            Self::Kernel => "kernel",
            Self::Trees => "trees",
            Self::Mlp => "mlp",
            Self::Tokens => "tokens",
        }
    }

    /// Whether it can use the latent grid.
    pub(super) fn may_read_grid(self) -> bool {
        !matches!(self, Self::Linear | Self::Kernel | Self::Mlp)
    }
}

/// How one kind did when `auto` tried it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The kind.
    pub kind: KindChoice,
    /// Mean absolute error over the folds of the cross-validation, and its standard error; or why there is none.
    pub score: Result<(f64, f64), String>,
    /// How long it took.
    pub took: Duration,
}

/// Everything there is to learn from.
pub(super) struct Material<'a> {
    /// Embeddings of the labelled rows.
    pub(super) data: Labelled<'a>,
    /// Latent grids, if the file has them and the kind may read them.
    pub(super) frames: Option<GridFrames<'a>>,
    pub(super) task: &'static str,
    pub(super) one_standard_error: bool,
}

impl Material<'_> {
    /// Learns one kind, or the best for [`KindChoice::Auto`]; with the kind, and what was tried.
    pub(super) fn learn(&self, kind: KindChoice) -> Result<(KindChoice, Learned, Vec<Tried>), TrainError> {
        match kind {
            KindChoice::Auto => self.learn_best(),
            _ => Ok((kind, self.learn_one(kind)?, Vec::new())),
        }
    }

    fn learn_one(&self, kind: KindChoice) -> Result<Learned, TrainError> {
        let grids = || self.frames.as_ref().ok_or(TrainError::NoTokens { kind: kind.name() });
        match kind {
            KindChoice::Departures if !matches!(self.data.target, Target::Scalar { .. }) => {
                Err(TrainError::WrongTask { kind: kind.name(), task: self.task })
            }
            KindChoice::Departures => departures::learn(&self.on_grid(grids()?).as_labelled(), grids()?),
            KindChoice::Linear => learn::linear(&self.data, self.one_standard_error),
            KindChoice::Kernel => kernel::learn(&self.data),
            KindChoice::Trees => match &self.frames {
                Some(frames) => trees::learn(&self.on_grid(frames).as_labelled(), Some(frames.grid)),
                None => trees::learn(&self.data, None),
            },
            KindChoice::Mlp => learn::mlp(&self.data),
            KindChoice::Tokens => learn::tokens(&self.data, grids()?),
            KindChoice::Auto => self.learn_best().map(|(_, learned, _)| learned),
        }
    }

    /// Tries the kinds from the simplest to the most flexible. Departures are taken unless they explain nothing, or
    /// another kind is certainly better; else the first of the others that none beats by more than one standard error of
    /// the difference between folds.
    ///
    /// Folds of the labels cannot see that the scene will drift, so they flatter what compares frames with labelled
    /// ones. Departures stand on the camera's background instead: where they explain the labels, giving them up takes
    /// evidence.
    fn learn_best(&self) -> Result<(KindChoice, Learned, Vec<Tried>), TrainError> {
        let mut kinds = vec![KindChoice::Linear, KindChoice::Kernel, KindChoice::Trees];
        if self.frames.is_some() && matches!(self.data.target, Target::Scalar { min: Some(_) }) {
            kinds.insert(0, KindChoice::Departures);
        }
        let (mut tried, mut learned, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for kind in kinds {
            let started = Instant::now();
            let score = match self.learn_one(kind) {
                Ok(one) => {
                    let folds = self.data.fold_errors(&one.answers);
                    let score = (mean(&folds), standard_error(&folds));
                    errors.push(folds);
                    learned.push((kind, one));
                    Ok(score)
                }
                // A camera without a background of its own is no reason not to learn otherwise.
                Err(error @ TrainError::NothingDeparts { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            tried.push(Tried { kind, score, took: started.elapsed() });
        }
        if learned.first().is_some_and(|(kind, _)| *kind == KindChoice::Departures) {
            if self.explain(&errors[0]) && first_not_beaten(&errors, CERTAINLY) == 0 {
                return Ok((KindChoice::Departures, learned.swap_remove(0).1, tried));
            }
            learned.remove(0);
            errors.remove(0);
        }
        let at = first_not_beaten(&errors, 1.0);
        let (kind, best) = learned.swap_remove(at);
        Ok((kind, best, tried))
    }

    /// Whether errors by fold are not plainly worse than the best constant's.
    fn explain(&self, errors: &[f64]) -> bool {
        let constant = folds::constant_answers(self.data.values, self.data.target);
        mean(errors) <= EXPLAINS * mean(&self.data.fold_errors(&constant))
    }

    fn on_grid<'b>(&'b self, frames: &'b GridFrames<'_>) -> OnGrid<'b> {
        OnGrid { rows: frames.labelled_tokens(), data: self.data }
    }
}

/// The labelled rows with their latent grids in the embeddings' place.
struct OnGrid<'a> {
    rows: Vec<&'a [f32]>,
    data: Labelled<'a>,
}

impl OnGrid<'_> {
    fn as_labelled(&self) -> Labelled<'_> {
        Labelled { rows: &self.rows, ..self.data }
    }
}
