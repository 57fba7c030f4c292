//! A folder's rows with everything that answers them: embeddings for heads, pixels for the peers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::head::{Head, Input};

use super::baseline::{Features, Job};
use super::error::EvalError;
use super::folder::Folder;
use crate::embed::EmbeddingsFile;
use crate::heads::join::locate;
use crate::heads::{KindChoice, Options, TrainError, as_label, train};

/// Times a head answers the test rows for its speed; the fastest counts, as the machine may be busy with other things.
const TIMED: usize = 3;

/// A folder, its frames' embeddings, and what the peers read of its frames.
#[derive(Debug)]
pub struct Bench {
    /// The folder.
    pub folder: Folder,
    /// Where each row's frame is.
    pub frames: Vec<PathBuf>,
    /// One embedding a row, in the order of the labels.
    pub embeddings: EmbeddingsFile,
    /// What the peers read.
    pub features: Features,
}

/// What a head is trained from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trainee<'a> {
    /// The embeddings a training has at hand: the pool's and no others.
    pub(super) pool: &'a EmbeddingsFile,
    /// The embeddings of all rows, for answering.
    pub(super) all: &'a EmbeddingsFile,
    /// The kind of head.
    pub(super) kind: KindChoice,
    /// Its size; by default what suits few labels.
    pub(super) size: Option<usize>,
}

/// A trained head's size and speed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadFacts {
    /// Numbers in its tensors.
    pub parameters: usize,
    /// Bytes of its file.
    pub bytes: usize,
    /// Seconds that its training took, cross-validation included.
    pub training_s: f64,
    /// Microseconds an answer takes, on this machine.
    pub answer_us: f64,
    /// What cross-validation chose, in words.
    pub choice: String,
}

/// A trained head's answers for the test rows.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answers: Vec<f64>,
    /// None where the labels are all the same, so that there was nothing to learn but that.
    pub(super) facts: Option<HeadFacts>,
}

impl Bench {
    /// Brings a folder and its frames' embeddings together, and reads the pixels for the peers.
    ///
    /// # Errors
    /// A label without its frame or embedding; a frame that cannot be read.
    pub fn new(folder: Folder, embeddings: EmbeddingsFile) -> Result<Self, EvalError> {
        let places = locate(&folder.labels.rows, &embeddings.ids)?;
        let frames = folder.frames()?;
        let features = Features::read(&folder, &frames)?;
        // Embedded from the labels file, as is usual, they need no second copy in memory.
        let as_they_are = places.iter().copied().eq(0..embeddings.len());
        let embeddings = if as_they_are { embeddings } else { embeddings.select(&places) };
        Ok(Self { embeddings, folder, frames, features })
    }

    /// Trains a head on the labels of `job.train` and lets the head file answer the test rows.
    pub(super) fn head(&self, trainee: &Trainee<'_>, job: &Job<'_>) -> Result<Answered, EvalError> {
        let labels = self.folder.labels_of(job.train);
        let options = Options {
            kind: trainee.kind,
            size: trainee.size,
            name: format!("eval-{}", trainee.kind.name()),
            seed: job.seed,
            ..Options::new(self.folder.split.task)
        };
        let started = Instant::now();
        let trained = match train(trainee.pool, &labels, &options) {
            Err(TrainError::NoVariation { .. }) => {
                return Ok(Answered { answers: vec![labels.rows[0].value; job.test.len()], facts: None });
            }
            trained => trained?,
        };
        let training_s = started.elapsed().as_secs_f64();
        let head = Head::from_bytes(&trained.bytes)
            .map_err(|source| EvalError::Head { what: options.name.clone(), source: Box::new(source) })?;
        let classes = &self.folder.labels.classes;
        let run = || run(&head, trainee.all, job.test, classes);
        let (answers, mut took) = run()?;
        for _ in 1..TIMED {
            took = took.min(run()?.1);
        }
        let facts = HeadFacts {
            parameters: head.parameters(),
            bytes: trained.bytes.len(),
            training_s,
            answer_us: took.as_secs_f64() * 1e6 / job.test.len().max(1) as f64,
            choice: trained.report.choice,
        };
        Ok(Answered { answers, facts: Some(facts) })
    }

    /// The absolute errors of answers to these rows.
    pub(super) fn errors(&self, rows: &[usize], answers: &[f64]) -> Vec<f64> {
        let target = self.folder.target;
        let error = |(row, answer): (&usize, &f64)| target.residual(self.folder.truth(*row), *answer).abs();
        rows.iter().zip(answers).map(error).collect()
    }
}

/// A head's answers for these frames, as labels that list these classes, and how long they took.
pub(super) fn run(
    head: &Head,
    embeddings: &EmbeddingsFile,
    frames: &[usize],
    classes: &[String],
) -> Result<(Vec<f64>, Duration), EvalError> {
    let started = Instant::now();
    let known = head.manifest().output.kind.classes();
    let answer = |frame: &usize| {
        let input = Input { embedding: embeddings.row(*frame), tokens: embeddings.token_row(*frame) };
        head.run(&input).map(|prediction| as_label(prediction, known, classes)).map_err(|source| {
            let file = embeddings.ids[*frame].clone();
            EvalError::Train(TrainError::Answer { file, source: Box::new(source) })
        })
    };
    let answers = frames.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    Ok((answers, started.elapsed()))
}
