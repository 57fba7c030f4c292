//! The learning curve: every method, at every number of labels, over every draw.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;

use super::baseline::{Baseline, Job};
use super::bench::{Bench, HeadFacts, Trainee};
use super::draw::{Division, Protocol, sizes};
use super::error::EvalError;
use super::score::{Estimate, Statistic, estimate};
use crate::heads::KindChoice;
use crate::heads::target::Target;

/// What to evaluate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Kinds of head; the first is the one a verdict is given on.
    pub kinds: Vec<KindChoice>,
    /// Numbers of labels.
    pub labels: Vec<usize>,
    /// Draws of the labels at each number.
    pub draws: usize,
    /// Seed of draws, trainings and intervals.
    pub seed: u64,
    /// Also split the same rows at random, as long as that ends before the deadline.
    pub random_split: bool,
    /// When to be done; what does not fit is left out, and said to be.
    pub deadline: Option<Instant>,
}

/// Something that was done, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How frames are held out.
    pub protocol: Protocol,
    /// The method.
    pub method: String,
    /// Labels it got.
    pub labels: usize,
    /// Draws done of it.
    pub draws: usize,
    /// How long they took.
    pub took: Duration,
}

/// Every method's scores under one protocol.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// How frames are held out.
    pub protocol: Protocol,
    /// Rows of the pool.
    pub pool: usize,
    /// Rows tested on, in time order.
    #[serde(skip)]
    pub test: Vec<usize>,
    /// Numbers of labels, ascending.
    pub labels: Vec<usize>,
    /// Heads first, then the peers.
    pub methods: Vec<Method>,
    /// Seconds it all took.
    pub took_s: f64,
}

/// One method's scores, one for each number of labels.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Whether it is a simple peer rather than a head.
    pub peer: bool,
    /// Its scores.
    pub scores: Vec<Score>,
}

/// A method's score at one number of labels.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// Labels.
    pub labels: usize,
    /// Mean absolute error.
    pub mean: Estimate,
    /// Median absolute error, for the time of day: a few frames at night weigh on the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<Estimate>,
    /// The head, as trained on the first draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadFacts>,
    /// Draws whose labels were all the same, so that the head answers that.
    pub without_variation: usize,
    /// Answers on the first draw, `[test rows]`.
    #[serde(skip)]
    pub answers: Vec<f64>,
    /// Absolute errors, `[draws][test rows]`.
    #[serde(skip)]
    pub errors: Vec<Vec<f64>>,
}

/// One protocol's work.
struct Work<'a> {
    bench: &'a Bench,
    plan: &'a Plan,
    division: Division,
}

/// What a method made of all draws at one number of labels.
#[derive(Default)]
struct Raw {
    answers: Vec<Vec<f64>>,
    facts: Option<HeadFacts>,
    without_variation: usize,
}

impl Curve {
    /// Trains and tests everything under one protocol.
    ///
    /// # Errors
    /// The first training or answer that fails.
    pub fn measure(
        bench: &Bench,
        plan: &Plan,
        protocol: Protocol,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Self, EvalError> {
        let started = Instant::now();
        let division = Division::new(&bench.folder.split, protocol, plan.seed);
        let labels = sizes(&plan.labels, division.pool.len());
        let work = Work { bench, plan, division };
        let mut methods = Vec::new();
        // Heads are given the pool's embeddings and no others: nothing in a training can look at a test frame.
        let pool = bench.embeddings.select(&work.division.pool);
        for kind in &plan.kinds {
            let trainee = Trainee { pool: &pool, all: &bench.embeddings, kind: *kind, size: None };
            let answer = |job: &Job<'_>| bench.head(&trainee, job).map(|done| (done.answers, done.facts));
            let name = format!("head, {}", kind.name());
            methods.push(
                work.method((name, false), &labels, &answer, &mut |p| watch(Progress { protocol, ..p }))?,
            );
        }
        for peer in Baseline::of(bench.folder.split.task) {
            let answer = |job: &Job<'_>| Ok((bench.features.answers(*peer, &bench.folder, job), None));
            let name = peer.name().to_owned();
            methods.push(
                work.method((name, true), &labels, &answer, &mut |p| watch(Progress { protocol, ..p }))?,
            );
        }
        let Work { division: Division { pool, test }, .. } = work;
        let took_s = started.elapsed().as_secs_f64();
        Ok(Self { protocol, pool: pool.len(), test, labels, methods, took_s })
    }

    /// The simple peer with the least mean error at this place of the curve: chosen on the test, in the peers' favour.
    pub fn best_peer(&self, at: usize) -> Option<&Method> {
        let peers = self.methods.iter().filter(|method| method.peer);
        peers.min_by(|a, b| a.scores[at].mean.value.total_cmp(&b.scores[at].mean.value))
    }

    /// The heads.
    pub fn heads(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().filter(|method| !method.peer)
    }
}

type Answer<'a> = dyn Fn(&Job<'_>) -> Result<(Vec<f64>, Option<HeadFacts>), EvalError> + 'a;

impl Work<'_> {
    fn method(
        &self,
        (name, peer): (String, bool),
        labels: &[usize],
        answer: &Answer<'_>,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Method, EvalError> {
        let mut raws = Vec::with_capacity(labels.len());
        for labels in labels {
            let started = Instant::now();
            let raw = self.draws(*labels, peer, answer)?;
            watch(Progress {
                protocol: Protocol::Chronological,
                method: name.clone(),
                labels: *labels,
                draws: raw.answers.len(),
                took: started.elapsed(),
            });
            raws.push((*labels, raw));
        }
        let scores = raws.into_par_iter().map(|(labels, raw)| self.score(labels, raw)).collect();
        Ok(Method { name, peer, scores })
    }

    fn draws(&self, labels: usize, peer: bool, answer: &Answer<'_>) -> Result<Raw, EvalError> {
        let mut raw = Raw::default();
        for (draw, train) in self.division.draws(labels, self.plan.draws, self.plan.seed).iter().enumerate() {
            let seed = self.plan.seed.wrapping_add(draw as u64);
            let (answers, facts) = answer(&Job { train, test: &self.division.test, seed })?;
            raw.without_variation += usize::from(!peer && facts.is_none());
            raw.facts = raw.facts.or(facts);
            raw.answers.push(answers);
        }
        Ok(raw)
    }

    fn score(&self, labels: usize, raw: Raw) -> Score {
        let test = &self.division.test;
        let errors: Vec<Vec<f64>> =
            raw.answers.iter().map(|answers| self.bench.errors(test, answers)).collect();
        let circular = matches!(self.bench.folder.target, Target::Circular { .. });
        Score {
            labels,
            mean: estimate(&errors, Statistic::Mean, self.plan.seed),
            median: circular.then(|| estimate(&errors, Statistic::Median, self.plan.seed)),
            head: raw.facts,
            without_variation: raw.without_variation,
            answers: raw.answers.into_iter().next().unwrap_or_default(),
            errors,
        }
    }
}
