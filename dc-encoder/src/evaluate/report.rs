//! A whole evaluation: curves, goals and verdicts, and how people read them.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Instant;

use serde::Serialize;

use super::bench::Bench;
use super::curve::{Curve, Method, Plan, Progress, Score};
use super::draw::Protocol;
use super::error::EvalError;
use super::goal::Goal;
use super::score::Estimate;
use super::table::{Style, Table};
use super::verdict::Verdict;
use crate::heads::Measure;
use crate::heads::report::task_name;

/// A whole evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// The folder's name.
    pub folder: String,
    /// What the labels mean.
    pub task: &'static str,
    /// How scores are written.
    #[serde(flatten)]
    pub measure: Measure,
    /// The encoder, as it names itself.
    pub model: String,
    /// Its embedding space.
    pub space: String,
    /// Rows that labels are drawn from.
    pub pool: Range<usize>,
    /// Rows tested on.
    pub test: Range<usize>,
    /// Draws of the labels.
    pub draws: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// The folder's own split; then the random one, if it was measured.
    pub curves: Vec<Curve>,
    /// Each head at each number of labels.
    pub verdicts: Vec<Verdict>,
    /// What is wanted of this task, and what the first head reached.
    pub goals: Vec<Goal>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// Seconds it took.
    pub took_s: f64,
}

impl Evaluation {
    /// Measures everything in the plan.
    ///
    /// # Errors
    /// The first training or answer that fails.
    pub fn measure(bench: &Bench, plan: &Plan, watch: &mut dyn FnMut(Progress)) -> Result<Self, EvalError> {
        let started = Instant::now();
        let curve = Curve::measure(bench, plan, Protocol::Chronological, watch)?;
        let folder = &bench.folder;
        let places = || 0..curve.labels.len();
        let verdicts = curve
            .heads()
            .flat_map(|head| places().map(move |at| (head, at)))
            .filter_map(|(head, at)| Verdict::new(bench, &curve, head, at, plan.seed))
            .collect();
        let goals = curve
            .heads()
            .next()
            .map_or_else(Vec::new, |head| Goal::of(folder.split.task, &folder.unit(), &curve, head));
        let mut curves = vec![curve];
        let mut left_out = Vec::new();
        // The random split takes as long as the folder's own.
        let fits = plan.deadline.is_none_or(|deadline| Instant::now() + started.elapsed() < deadline);
        match (plan.random_split, fits) {
            (true, true) => curves.push(Curve::measure(bench, plan, Protocol::RandomSplit, watch)?),
            (true, false) => left_out.push("the random split: no time was left for it".to_owned()),
            (false, _) => {}
        }
        Ok(Self {
            folder: folder.name.clone(),
            task: task_name(folder.split.task),
            measure: folder.measure(),
            model: bench.embeddings.model.clone(),
            space: bench.embeddings.space.to_string(),
            pool: folder.split.pool.clone(),
            test: folder.split.test.clone(),
            draws: plan.draws,
            seed: plan.seed,
            curves,
            verdicts,
            goals,
            left_out,
            took_s: started.elapsed().as_secs_f64(),
        })
    }

    /// Everything but the summary line, for people.
    pub fn render(&self, style: Style) -> String {
        let Self { folder, task, measure, model, pool, test, draws, seed, .. } = self;
        let (what, unit) = (measure.name(), measure.unit());
        let mut text = format!(
            "{folder}: {task}, labels from rows {}..{}, tested on rows {}..{}; encoder {model}, seed {seed}\n",
            pool.start, pool.end, test.start, test.end
        );
        for curve in &self.curves {
            let heading = match curve.protocol {
                Protocol::Chronological => "the folder's split, in time order",
                Protocol::RandomSplit => {
                    "OPTIMISTIC, not comparable: the same rows split at random, so that neighbours of test frames are \
                     learned from"
                }
            };
            let _ = write!(
                text,
                "\n{heading}\n{what} in {unit}, mean over {draws} draws of the labels (one where that is the whole pool) [95 % interval]\n\n{}",
                self.table(curve).render(style)
            );
        }
        if let Some(table) = self.heads_table() {
            let _ = write!(text, "\nheads at the most labels, on this machine\n\n{}", table.render(style));
        }
        text.push('\n');
        let lines = self.verdicts.iter().map(ToString::to_string);
        for line in lines.chain(self.advice()).chain(self.notes()) {
            let _ = writeln!(text, "{}{line}", if style == Style::Markdown { "- " } else { "" });
        }
        text
    }

    fn table(&self, curve: &Curve) -> Table {
        let median = curve.methods.iter().flat_map(|m| &m.scores).any(|score| score.median.is_some());
        let mut header = vec![if median { "mean / median" } else { "mean" }.to_owned()];
        header.extend(curve.labels.iter().map(|n| format!("{n} labels")));
        let mut table = Table::new(header);
        for Method { name, scores, .. } in &curve.methods {
            let cells = scores.iter().map(|score| self.cell(score));
            table.row(std::iter::once(name.clone()).chain(cells).collect());
        }
        table
    }

    /// Size and speed of the heads trained on the most labels.
    fn heads_table(&self) -> Option<Table> {
        let header = ["head", "parameters", "file", "training", "an answer", "choice"];
        let mut table = Table::new(header.map(str::to_owned).to_vec());
        let mut any = false;
        for method in self.curves.first()?.heads() {
            let Some(facts) = method.scores.last().and_then(|score| score.head.as_ref()) else { continue };
            any = true;
            table.row(vec![
                method.name.clone(),
                facts.parameters.to_string(),
                bytesize::ByteSize(facts.bytes as u64).to_string(),
                format!("{:.1} s", facts.training_s),
                format!("{:.0} µs", facts.answer_us),
                facts.choice.clone(),
            ]);
        }
        any.then_some(table)
    }

    /// For each head that is not better at the most labels: what to label next.
    fn advice(&self) -> impl Iterator<Item = String> {
        let most = self.curves.first().and_then(|curve| curve.labels.last()).copied();
        let last = self.verdicts.iter().filter(move |verdict| Some(verdict.labels) == most);
        last.filter(|verdict| !verdict.better()).map(Verdict::advice)
    }

    fn notes(&self) -> impl Iterator<Item = String> {
        let flat = self.curves.iter().flat_map(Curve::heads).flat_map(|head| {
            head.scores.iter().filter(|score| score.without_variation > 0).map(|score| {
                format!(
                    "{} at {} labels: in {} draws all labels were the same, and that is what was answered",
                    head.name, score.labels, score.without_variation
                )
            })
        });
        flat.chain(self.left_out.iter().map(|what| format!("left out: {what}")))
    }

    /// One line: the first head at the most labels, beside the best simple peer.
    pub fn summary(&self) -> String {
        let found = self.curves.first().and_then(|curve| Some((curve, curve.heads().next()?)));
        let Some((curve, head)) = found else { return format!("{}: no head was asked for", self.folder) };
        let last = curve.labels.len() - 1;
        let score = &head.scores[last];
        let peer = curve.best_peer(last);
        let beside = peer.map_or_else(String::new, |peer| {
            format!("; best baseline, {}: {}", peer.name, self.cell(&peer.scores[last]))
        });
        let met = self.goals.iter().filter(|goal| goal.met()).count();
        let verdict = self.verdicts.iter().find(|v| v.head == head.name && v.labels == score.labels);
        format!(
            "{}: {} from {} labels: {} {}{beside}; {}; {met} of {} goals met",
            self.folder,
            self.task,
            score.labels,
            self.cell(score),
            self.measure.unit(),
            if verdict.is_some_and(Verdict::better) { "better than it" } else { "not better" },
            self.goals.len()
        )
    }

    fn cell(&self, score: &Score) -> String {
        let one = |Estimate { value, ci95, .. }: &Estimate| self.measure.scored(*value, *ci95);
        match &score.median {
            Some(median) => format!("{} / {}", one(&score.mean), one(median)),
            None => one(&score.mean),
        }
    }
}
