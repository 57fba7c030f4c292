//! Heads trained on the reference's embeddings, asked on every other's.

use std::fmt::Write as _;
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
    head: Head,
    tolerance: f64,
    /// Of an answer that goes round, such as the time of day.
    period: Option<f64>,
}

/// The heads that are watched.
pub(crate) struct Heads(Vec<Watched>);

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
            heads.push(Watched { head, tolerance: FLIP * held_out, period });
        }
        Ok(Self(heads))
    }

    /// Answers that moved too far, of all.
    pub(crate) fn flips(&self, reference: &[Encoded], got: &[Encoded]) -> anyhow::Result<(usize, usize)> {
        let (mut flips, mut all) = (0, 0);
        for Watched { head, tolerance, period } in &self.0 {
            for (reference, got) in reference.iter().zip(got) {
                let answer = |of: &Encoded| {
                    head.run(&Input { embedding: &of.embedding, tokens: of.tokens.as_deref() })
                };
                let moved = (answer(reference)?.value - answer(got)?.value).abs();
                let moved = period.map_or(moved, |period| moved.min(period - moved));
                flips += usize::from(moved > *tolerance);
                all += 1;
            }
        }
        Ok((flips, all))
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
