//! From an embeddings file and labels to a head file and its score.

use std::io::Write;
use std::path::Path;

use shared::head::{
    self, Head, HeldOut, Input, InputSpec, IntervalOffsets, Manifest, SelfTestTolerance, Task,
};

use super::classes::{self, as_label};
use super::error::TrainError;
use super::folds;
use super::frames::{self, GridFrames};
use super::join::{Sample, join};
use super::kinds::{KindChoice, Material};
use super::labels::{Label, Labels, Rows};
use super::learn::{Labelled, Learned};
use super::report::{Report, task_name};
use super::score::{self, Mae};
use super::target::Target;
use crate::embed::EmbeddingsFile;

/// Fewest labels to train on: two for each of the five folds.
const MIN_LABELS: usize = 2 * folds::FOLDS;

/// Fewest test frames a score with an interval can be stated on.
const MIN_TEST: usize = 10;

/// Level of the interval around answers.
const INTERVAL_LEVEL: f64 = 0.9;

/// Allowed relative difference of the self-test between machines: f32 sums in another order differ by 1e-5.
const SELF_TEST_TOLERANCE: f64 = 1e-3;

/// What to train, on which rows.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the labels mean.
    pub task: Task,
    /// Which kind of head.
    pub kind: KindChoice,
    /// Name of the head.
    pub name: String,
    /// Unit of the answers.
    pub unit: String,
    /// Rows of the labels file to train on; all when none.
    pub rows: Option<Rows>,
    /// Rows to score on; the score is cross-validated when none.
    pub test: Option<Rows>,
    /// Frames of the embeddings file that may be looked at without their labels, for what a camera usually sees;
    /// all but the test rows' when none.
    pub pool: Option<Vec<usize>>,
    /// Prefer the strongest ridge within one standard error of the best.
    pub one_standard_error: bool,
    /// Hidden units of a perceptron or token head, or trees of a forest; what suits few labels when none.
    pub size: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Options {
    /// Everything at its default for a task.
    pub fn new(task: Task) -> Self {
        let (name, unit) = match task {
            Task::Count => ("people-count", "people"),
            Task::TimeOfDay => ("time-of-day", "min"),
            Task::Scalar => ("value", "units"),
            Task::Class => ("class", "probability"),
        };
        Self {
            task,
            kind: KindChoice::Auto,
            name: name.to_owned(),
            unit: unit.to_owned(),
            rows: None,
            test: None,
            pool: None,
            one_standard_error: false,
            size: None,
            seed: 0,
        }
    }
}

/// A trained head.
#[derive(Debug)]
pub struct Trained {
    /// The head file.
    pub bytes: Vec<u8>,
    /// How it went.
    pub report: Report,
}

/// Trains a head.
///
/// # Errors
/// [`TrainError`], in words a person who labels frames can act on.
pub fn train(embeddings: &EmbeddingsFile, labels: &Labels, options: &Options) -> Result<Trained, TrainError> {
    let split = Split::new(embeddings, labels, options)?;
    let target = Target::of(options.task, &split.classes);
    let rows: Vec<&[f32]> = split.train.iter().map(|s| embeddings.row(s.frame)).collect();
    let values: Vec<f64> = split.train.iter().map(|s| s.value).collect();
    let material = Material {
        data: Labelled { rows: &rows, values: &values, target, size: options.size, seed: options.seed },
        frames: split.grids(embeddings, options)?,
        task: task_name(options.task),
        one_standard_error: options.one_standard_error,
    };
    let (kind, learned, tried) = material.learn(options.kind)?;
    let residuals = residuals(target, &values, &learned.answers);
    let mut manifest = split.manifest(embeddings, labels, options, &learned);
    manifest.interval = match target {
        Target::Class { .. } => None,
        _ => interval(&residuals, learned.deviations.as_deref()),
    };

    let seal = |manifest: &Manifest| head::seal(manifest, learned.tensors.clone(), &learned.self_test_input);
    let (score, held_out) = if split.test.is_empty() {
        cross_validated(target, &values, &residuals, options.seed)
    } else {
        let head = Head::from_bytes(&seal(&manifest)?)?;
        tested(&head, embeddings, &split, (target, &values), options)?
    };
    let held_out = if options.task == Task::Class { accuracy(held_out) } else { held_out };
    manifest.held_out = Some(held_out.clone());
    let bytes = seal(&manifest)?;
    let report = Report {
        task: options.task,
        unit: options.unit.clone(),
        kind,
        choice: learned.choice,
        tried,
        labelled: split.train.len(),
        embedded: embeddings.len(),
        block: score.block,
        held_out,
        interval: manifest.interval,
        model: embeddings.model.clone(),
    };
    Ok(Trained { bytes, report })
}

/// The samples to train and to test on, in time order.
struct Split {
    train: Vec<Sample>,
    test: Vec<Sample>,
    /// Classes of the training rows; the samples' values are places among them. Empty for other tasks.
    classes: Vec<String>,
}

impl Split {
    fn new(embeddings: &EmbeddingsFile, labels: &Labels, options: &Options) -> Result<Self, TrainError> {
        let train = select(labels, "--rows", options.rows.as_ref())?.unwrap_or(&labels.rows);
        let test = select(labels, "--test", options.test.as_ref())?.unwrap_or(&[]);
        if let Some(test) = &options.test {
            let rows = options.rows.clone().unwrap_or(Rows(0..labels.rows.len()));
            if rows.0.start < test.0.end && test.0.start < rows.0.end {
                return Err(TrainError::Overlap { rows: rows.to_string(), test: test.to_string() });
            }
        }
        let too_few = |purpose, got, want| Err(TrainError::TooFew { purpose, got, want });
        if train.len() < MIN_LABELS {
            return too_few("train and cross-validate a head", train.len(), MIN_LABELS);
        }
        if options.test.is_some() && test.len() < MIN_TEST {
            return too_few("score a head on (--test)", test.len(), MIN_TEST);
        }
        if train.iter().all(|label| label.value == train[0].value) {
            let value = labels.classes.get(train[0].value as usize);
            let value = value.map_or_else(|| train[0].value.to_string(), |class| format!("`{class}`"));
            return Err(TrainError::NoVariation { n: train.len(), value });
        }
        let ids = &embeddings.ids;
        let (mut train, mut test) = (join(train, ids)?, join(test, ids)?);
        let classes = classes::among(&labels.classes, &mut train, &mut test, ids)?;
        let split = Self { train, test, classes };
        let finite = |frame: usize| embeddings.row(frame).iter().all(|x| x.is_finite());
        match split.train.iter().chain(&split.test).find(|sample| !finite(sample.frame)) {
            Some(sample) => Err(TrainError::NotFinite { file: embeddings.ids[sample.frame].clone() }),
            None => Ok(split),
        }
    }

    /// What the head's file says of it, before anything was measured.
    fn manifest(
        &self,
        embeddings: &EmbeddingsFile,
        labels: &Labels,
        options: &Options,
        learned: &Learned,
    ) -> Manifest {
        let (frames, labels) = (self.train.len() as u64, Some(labels.digest.clone()));
        Manifest {
            format: head::FORMAT,
            name: options.name.clone(),
            task: options.task,
            kind: learned.kind,
            input: InputSpec {
                space: embeddings.space.to_string(),
                dim: u32::try_from(embeddings.dim).unwrap_or(u32::MAX),
                grid: frames::grid(embeddings).filter(|_| learned.reads_grid),
            },
            output: Target::of(options.task, &self.classes).output(&options.unit, &self.classes),
            interval: None,
            uplink: embeddings.uplink.clone(),
            trained: head::Trained { frames, labels, seed: options.seed },
            held_out: None,
            self_test: SelfTestTolerance { tolerance: SELF_TEST_TOLERANCE },
        }
    }

    /// The latent grids, for kinds that may read them. Unlabelled frames need no labels, but the frames the head is
    /// scored on are not looked at.
    fn grids<'a>(
        &self,
        embeddings: &'a EmbeddingsFile,
        options: &Options,
    ) -> Result<Option<GridFrames<'a>>, TrainError> {
        if !options.kind.may_read_grid() {
            return Ok(None);
        }
        let mut unlabelled = options.pool.clone().unwrap_or_else(|| (0..embeddings.len()).collect());
        unlabelled.retain(|frame| self.test.binary_search_by_key(frame, |s| s.frame).is_err());
        GridFrames::new(embeddings, unlabelled, self.train.iter().map(|s| s.frame).collect())
    }
}

pub(crate) fn select<'a>(
    labels: &'a Labels,
    option: &'static str,
    rows: Option<&Rows>,
) -> Result<Option<&'a [Label]>, TrainError> {
    let available = labels.rows.len();
    let beyond = |rows: &Rows| TrainError::Rows { option, rows: rows.to_string(), available };
    rows.map(|rows| labels.rows.get(rows.0.clone()).ok_or_else(|| beyond(rows))).transpose()
}

/// Offsets that hold the stated share of held-out residuals; in the head's own deviations where it states them.
fn interval(residuals: &[f64], deviations: Option<&[f64]>) -> Option<IntervalOffsets> {
    let scaled: Vec<f64> = match deviations {
        Some(deviations) => residuals.iter().zip(deviations).map(|(r, d)| r / d).collect(),
        None => residuals.to_vec(),
    };
    let offsets = score::residual_quantiles(&scaled, INTERVAL_LEVEL);
    offsets.map(|[lower, upper]| IntervalOffsets { level: INTERVAL_LEVEL, lower, upper })
}

fn residuals(target: Target, truths: &[f64], answers: &[f64]) -> Vec<f64> {
    truths.iter().zip(answers).map(|(truth, answer)| target.residual(*truth, *answer)).collect()
}

/// The score of the held-out answers of cross-validation, beside the constant answer's in the same folds.
fn cross_validated(target: Target, values: &[f64], residuals: &[f64], seed: u64) -> (Mae, HeldOut) {
    let constants = folds::constant_answers(values, target);
    let constant_errors: Vec<f64> =
        self::residuals(target, values, &constants).into_iter().map(f64::abs).collect();
    let method = format!(
        "cross-validation over {} folds contiguous in time, {} neighbours dropped at each edge",
        folds::FOLDS,
        folds::gap(values.len())
    );
    held_out(residuals, score::mean(&constant_errors), method, seed)
}

/// The score on the test rows, each answered by the head file itself.
fn tested(
    head: &Head,
    embeddings: &EmbeddingsFile,
    split: &Split,
    (target, values): (Target, &[f64]),
    options: &Options,
) -> Result<(Mae, HeldOut), TrainError> {
    let answer = |sample: &Sample| {
        let input =
            Input { embedding: embeddings.row(sample.frame), tokens: embeddings.token_row(sample.frame) };
        let failed = |source| TrainError::Answer {
            file: embeddings.ids[sample.frame].clone(),
            source: Box::new(source),
        };
        head.run(&input)
            .map(|prediction| as_label(prediction, &split.classes, &split.classes))
            .map_err(failed)
    };
    let answers = split.test.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    let truths: Vec<f64> = split.test.iter().map(|s| s.value).collect();
    let constant = target.constant(values.iter().copied());
    let constant_errors: Vec<f64> = truths.iter().map(|t| target.residual(*t, constant).abs()).collect();
    let rows = options.test.as_ref().map_or_else(String::new, Rows::to_string);
    let method = format!("rows {rows} of the labels, not trained on");
    let residuals = residuals(target, &truths, &answers);
    Ok(held_out(&residuals, score::mean(&constant_errors), method, options.seed))
}

fn held_out(residuals: &[f64], baseline: f64, method: String, seed: u64) -> (Mae, HeldOut) {
    let score = score::mae(residuals, seed);
    let Mae { value, ci95: [low, high], .. } = score;
    let (n, metric) = (residuals.len() as u64, "mae".to_owned());
    let held_out = HeldOut { metric, value, ci95: [low, high], n, method, baseline };
    (score, held_out)
}

/// The same score as the share of right answers.
fn accuracy(wrong: HeldOut) -> HeldOut {
    let [low, high] = wrong.ci95;
    HeldOut {
        metric: "accuracy".to_owned(),
        value: 1.0 - wrong.value,
        ci95: [(1.0 - high).max(0.0), 1.0 - low],
        baseline: 1.0 - wrong.baseline,
        ..wrong
    }
}

/// Writes a head file so that there is the old file or the whole new one, whatever happens.
///
/// # Errors
/// [`TrainError::Write`]; the temporary file is removed.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let failed = |source| TrainError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".head-");
    #[cfg(unix)]
    {
        // A head is no secret: readable as the umask allows, where temporary files are private.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
