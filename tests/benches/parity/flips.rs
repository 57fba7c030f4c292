//! Heads trained on the reference's embeddings, asked on every other's.

use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use dc_encoder::backend::Encoded;
use dc_encoder::embed::EmbeddingsFile;
use dc_encoder::heads::labels::column;
use dc_encoder::heads::{KindChoice, Labels, Options, train};
use dc_encoder::model::Config;
use protocol::{GridShape, SpaceId};
use shared::head::{Head, Input, Task};
use tests::plaza::Truth;

use super::FLIP;

/// A head, and how far its answer may move.
struct Watched {
    /// Such as `count, trees`.
    name: String,
    head: Head,
    /// Its mean absolute error on held-out frames.
    held_out: f64,
    /// Of an answer that goes round, such as the time of day.
    period: Option<f64>,
}

/// The heads that are watched.
pub(crate) struct Heads(Vec<Watched>);

/// How the answers of one head moved.
pub(crate) struct Moves {
    name: String,
    tolerance: f64,
    /// How far each answer moved.
    moved: Vec<f64>,
}

impl Moves {
    /// Answers that moved too far.
    pub(crate) fn flips(&self) -> usize {
        self.moved.iter().filter(|moved| **moved > self.tolerance).count()
    }

    /// How many answers there are.
    pub(crate) fn answers(&self) -> usize {
        self.moved.len()
    }
}

impl fmt::Display for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, tolerance, moved } = self;
        let mut sorted = moved.clone();
        sorted.sort_by(f64::total_cmp);
        let (median, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        write!(
            f,
            "{name}: {} of {} moved by more than {tolerance:.3}; median {median:.3}, most {most:.3}",
            self.flips(),
            moved.len()
        )
    }
}

impl Heads {
    /// A people count and a time of day, linear and trees.
    pub(crate) fn train(
        config: &Config,
        encoded: &[Encoded],
        truths: &[Truth],
        place: &Path,
    ) -> anyhow::Result<Self> {
        let embeddings = file(config, encoded);
        let mut heads = Vec::new();
        for (task, kind) in [
            (Task::Count, KindChoice::Linear),
            (Task::TimeOfDay, KindChoice::Linear),
            (Task::Count, KindChoice::Trees),
        ] {
            let labels = labels(task, truths, place)?;
            let trained = train(&embeddings, &labels, &Options { kind, ..Options::new(task) })?;
            let head = Head::from_bytes(&trained.bytes)?;
            let held_out = head.manifest().held_out.as_ref().context("a head has a score")?.value;
            let period = (task == Task::TimeOfDay).then_some(1440.0);
            let name = format!("{}, {kind:?}", column(task)).to_lowercase();
            heads.push(Watched { name, head, held_out, period });
        }
        Ok(Self(heads))
    }

    /// How the answers of each head move.
    pub(crate) fn moves(&self, reference: &[Encoded], got: &[Encoded]) -> anyhow::Result<Vec<Moves>> {
        let one = |watched: &Watched| {
            let Watched { name, head, held_out, period } = watched;
            let answer = |of: &Encoded| {
                let answer = head.run(&Input { embedding: &of.embedding, tokens: of.tokens.as_deref() })?;
                anyhow::Ok(answer.value)
            };
            let moved = reference.iter().zip(got).map(|(reference, got)| {
                let moved = (answer(reference)? - answer(got)?).abs();
                Ok(period.map_or(moved, |period| moved.min(period - moved)))
            });
            let moved = moved.collect::<anyhow::Result<_>>()?;
            Ok(Moves { name: name.clone(), tolerance: FLIP * held_out, moved })
        };
        self.0.iter().map(one).collect()
    }

    /// Prints the held-out errors of these heads, trained on another precision's embeddings, beside the reference's;
    /// how many are larger by more than [`FLIP`].
    pub(crate) fn beside(&self, reference: &Self) -> usize {
        let pairs = || self.0.iter().zip(&reference.0);
        let each = pairs().map(|(own, of)| format!("{} {:.3} ({:.3})", own.name, own.held_out, of.held_out));
        println!(
            "{:<10}  heads of its own, held-out error (and of f32): {}",
            "",
            each.collect::<Vec<_>>().join("; ")
        );
        pairs().filter(|(own, of)| own.held_out > (1.0 + FLIP) * of.held_out).count()
    }
}

/// Embeddings as the training commands read them.
fn file(config: &Config, encoded: &[Encoded]) -> EmbeddingsFile {
    let (rows, cols) = config.grid();
    EmbeddingsFile {
        space: SpaceId([1; 32]),
        uplink: shared::uplink::Uplink::default().to_string(),
        model: "parity".into(),
        ids: (0..encoded.len()).map(|index| format!("{index:04}.jpg")).collect(),
        captured_at: vec![None; encoded.len()],
        dim: config.embed_dim,
        embedding: encoded.iter().flat_map(|e| e.embedding.iter().copied()).collect(),
        grid: Some(GridShape { rows: rows as u32, cols: cols as u32, dim: config.latent_dim() as u32 }),
        cells: config.cells() as u32,
        tokens: Some(encoded.iter().flat_map(|e| e.tokens.iter().flatten().copied()).collect()),
    }
}

fn labels(task: Task, truths: &[Truth], place: &Path) -> anyhow::Result<Labels> {
    let mut text = format!("file,{}\n", column(task));
    for (index, truth) in truths.iter().enumerate() {
        let value = if task == Task::Count { f64::from(truth.count) } else { truth.minute_of_day };
        writeln!(text, "{index:04}.jpg,{value}")?;
    }
    let path = place.join("labels.csv");
    std::fs::write(&path, text)?;
    Ok(Labels::read(&path, task)?)
}
