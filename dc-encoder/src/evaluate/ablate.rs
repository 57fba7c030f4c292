//! How small can a head be? The same labels and test, heads from two million parameters down to a few hundred.

use serde::Serialize;

use super::baseline::Job;
use super::bench::{Bench, HeadFacts, Trainee};
use super::draw::{Division, Protocol};
use super::error::EvalError;
use super::score::{Estimate, Statistic, advantage, estimate};
use super::table::Table;
use crate::embed::EmbeddingsFile;
use crate::heads::score::mean;
use crate::heads::{KindChoice, Measure};

/// A head of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Its kind.
    pub kind: KindChoice,
    /// What makes it large or small.
    pub size: Size,
}

/// What makes a head large or small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As the training command makes it.
    Default,
    /// This many hidden units.
    Hidden(usize),
    /// This many trees.
    Trees(usize),
    /// Only this many numbers of the embedding: those that go most with the training labels.
    Numbers(usize),
}

/// What to sweep.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The heads.
    pub variants: Vec<Variant>,
    /// Labels each gets.
    pub labels: usize,
    /// Draws of the labels.
    pub draws: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// A variant's size, speed and score.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Kind and size, in words.
    pub name: String,
    /// Its size and speed; none where all labels were the same.
    pub head: Option<HeadFacts>,
    /// Mean absolute error.
    pub score: Estimate,
    /// How much smaller its errors are than those of the best variant, paired; at most about 0.
    pub behind: Estimate,
    #[serde(skip)]
    errors: Vec<Vec<f64>>,
}

/// A sweep's result.
#[derive(Debug, Clone, Serialize)]
pub struct Ablation {
    /// The folder's name.
    pub folder: String,
    /// Labels each head got.
    pub labels: usize,
    /// Draws of them.
    pub draws: usize,
    /// How scores are written.
    #[serde(flatten)]
    pub measure: Measure,
    /// One a variant, as planned.
    pub rows: Vec<Row>,
}

/// Widths of the perceptron: 2.1 million parameters on 512 numbers down to two thousand.
const MLP_WIDTHS: [usize; 7] = [4096, 1024, 256, 64, 16, 4, 1];

/// Widths of the token head's shared network.
const TOKEN_WIDTHS: [usize; 5] = [64, 16, 8, 2, 1];

/// Trees of a forest.
const TREES: [usize; 6] = [400, 200, 50, 10, 3, 1];

/// Numbers that a linear head reads.
const LINEAR_NUMBERS: [usize; 5] = [512, 256, 128, 32, 8];

/// The sizes of a kind that these embeddings allow.
pub fn variants(kind: KindChoice, embeddings: &EmbeddingsFile) -> Vec<Variant> {
    let sizes: Vec<Size> = match kind {
        KindChoice::Mlp => MLP_WIDTHS.map(Size::Hidden).to_vec(),
        KindChoice::Tokens => TOKEN_WIDTHS.map(Size::Hidden).to_vec(),
        KindChoice::Trees => TREES.map(Size::Trees).to_vec(),
        KindChoice::Auto | KindChoice::Departures | KindChoice::Kernel => vec![Size::Default],
        KindChoice::Linear => {
            let fewer = LINEAR_NUMBERS.iter().filter(|n| **n < embeddings.dim).map(|n| Size::Numbers(*n));
            std::iter::once(Size::Default).chain(fewer).collect()
        }
    };
    sizes.into_iter().map(|size| Variant { kind, size }).collect()
}

impl Variant {
    fn name(&self) -> String {
        let kind = self.kind.name();
        match self.size {
            Size::Default => kind.to_owned(),
            Size::Hidden(units) => format!("{kind}, {units} hidden units"),
            Size::Trees(trees) => format!("{kind}, {trees} of them"),
            Size::Numbers(numbers) => format!("{kind}, {numbers} numbers"),
        }
    }
}

/// Trains and tests every variant.
///
/// # Errors
/// The first training or answer that fails.
pub fn ablate(bench: &Bench, plan: &Plan, watch: &mut dyn FnMut(&Row)) -> Result<Ablation, EvalError> {
    let division = Division::new(&bench.folder.split, Protocol::Chronological, plan.seed);
    let pool = bench.embeddings.select(&division.pool);
    let draws = division.draws(plan.labels, plan.draws, plan.seed);
    let mut rows = Vec::with_capacity(plan.variants.len());
    for variant in &plan.variants {
        let (mut errors, mut facts) = (Vec::new(), None);
        for (draw, train) in draws.iter().enumerate() {
            let job = Job { train, test: &division.test, seed: plan.seed.wrapping_add(draw as u64) };
            let done = answer(bench, &pool, variant, &job)?;
            errors.push(bench.errors(&division.test, &done.answers));
            facts = facts.or(done.facts);
        }
        let score = estimate(&errors, Statistic::Mean, plan.seed);
        let row = Row { name: variant.name(), head: facts, score, behind: score, errors };
        watch(&row);
        rows.push(row);
    }
    let best =
        rows.iter().min_by(|a, b| a.score.value.total_cmp(&b.score.value)).map(|row| row.errors.clone());
    for row in &mut rows {
        row.behind = advantage(&row.errors, best.as_deref().unwrap_or(&[]), plan.seed);
    }
    let labels = draws.first().map_or(0, Vec::len);
    Ok(Ablation {
        folder: bench.folder.name.clone(),
        labels,
        draws: draws.len(),
        measure: bench.folder.measure(),
        rows,
    })
}

fn answer(
    bench: &Bench,
    pool: &EmbeddingsFile,
    variant: &Variant,
    job: &Job<'_>,
) -> Result<super::bench::Answered, EvalError> {
    let trainee = Trainee { pool, all: &bench.embeddings, kind: variant.kind, size: None };
    match variant.size {
        Size::Default => bench.head(&trainee, job),
        Size::Hidden(size) | Size::Trees(size) => bench.head(&Trainee { size: Some(size), ..trainee }, job),
        Size::Numbers(count) => {
            let kept = telling(bench, job.train, count);
            let (pool, all) = (keep(pool, &kept), keep(&bench.embeddings, &kept));
            bench.head(&Trainee { pool: &pool, all: &all, ..trainee }, job)
        }
    }
}

/// The numbers of the embedding that go most with the training labels, by squared correlation summed over the
/// target's numbers; in the embedding's order.
fn telling(bench: &Bench, train: &[usize], count: usize) -> Vec<usize> {
    let target = bench.folder.target;
    let mut strength: Vec<(f64, usize)> = (0..bench.embeddings.dim)
        .map(|number| {
            let x: Vec<f64> = train.iter().map(|row| f64::from(bench.embeddings.row(*row)[number])).collect();
            let along = |output: usize| {
                let y: Vec<f64> =
                    train.iter().map(|row| target.encode(bench.folder.truth(*row))[output]).collect();
                correlation(&x, &y).powi(2)
            };
            ((0..target.width()).map(along).sum(), number)
        })
        .collect();
    strength.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut kept: Vec<usize> = strength.iter().take(count).map(|(_, number)| *number).collect();
    kept.sort_unstable();
    kept
}

/// Pearson's correlation; 0 where one of the two does not vary.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let (cx, cy) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        xy += (x - cx) * (y - cy);
        xx += (x - cx).powi(2);
        yy += (y - cy).powi(2);
    }
    if xx > 0.0 && yy > 0.0 { xy / (xx * yy).sqrt() } else { 0.0 }
}

/// The same frames with only some numbers of the embedding, and no tokens.
fn keep(file: &EmbeddingsFile, numbers: &[usize]) -> EmbeddingsFile {
    let embedding =
        (0..file.len()).flat_map(|frame| numbers.iter().map(move |at| file.row(frame)[*at])).collect();
    EmbeddingsFile {
        embedding,
        dim: numbers.len(),
        tokens: None,
        grid: None,
        cells: 1,
        ids: file.ids.clone(),
        captured_at: file.captured_at.clone(),
        space: file.space,
        uplink: file.uplink.clone(),
        model: file.model.clone(),
    }
}

impl Ablation {
    /// The table: parameters, bytes, score, distance to the best, time of an answer.
    pub fn table(&self) -> Table {
        let measure = &self.measure;
        let header = [
            "head".to_owned(),
            "parameters".to_owned(),
            "bytes".to_owned(),
            format!("{}, {} [95 %]", measure.name(), measure.unit()),
            "behind the best [95 %]".to_owned(),
            "an answer, µs".to_owned(),
            "training, s".to_owned(),
        ];
        let mut table = Table::new(header.to_vec());
        let behind = |Estimate { value, ci95: [low, high], .. }: &Estimate| {
            let [value, high, low] = [-value, -high, -low].map(|by| measure.difference(by));
            format!("{value} [{high}, {low}]")
        };
        for row in &self.rows {
            let fact =
                |text: fn(&HeadFacts) -> String| row.head.as_ref().map_or_else(|| "–".to_owned(), text);
            table.row(vec![
                row.name.clone(),
                fact(|head| head.parameters.to_string()),
                fact(|head| head.bytes.to_string()),
                measure.scored(row.score.value, row.score.ci95),
                behind(&row.behind),
                fact(|head| format!("{:.0}", head.answer_us)),
                fact(|head| format!("{:.1}", head.training_s)),
            ]);
        }
        table
    }

    /// The smallest head that is not shown to be worse than the best, in words.
    pub fn verdict(&self) -> String {
        let size = |row: &Row| row.head.as_ref().map(|head| head.parameters);
        let not_worse = self.rows.iter().filter(|row| row.behind.ci95[1] >= 0.0);
        let smallest = not_worse.filter_map(|row| Some((size(row)?, row))).min_by_key(|(size, _)| *size);
        let largest = self.rows.iter().filter_map(size).max();
        let (Some((size, row)), Some(largest)) = (smallest, largest) else {
            return "nothing was trained".to_owned();
        };
        format!(
            "smallest head not shown to be worse than the best: {}, {size} parameters, {:.2} % of the largest",
            row.name,
            100.0 * size as f64 / largest as f64
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_of_lines_and_constants() {
        assert!((correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]) - 1.0).abs() < 1e-12);
        assert!((correlation(&[1.0, 2.0, 3.0], &[5.0, 4.0, 3.0]) + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[1.0, 1.0], &[2.0, 4.0]), 0.0);
    }
}
