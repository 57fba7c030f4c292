//! Batches that form by themselves: what is worth a label and not on its way yet, when it is enough or has waited enough.

use std::time::Duration;

use jiff::Timestamp;
use shared::head::Task;

use super::{AnnotateError, Batch, Held, Plan, Spent};
use crate::archive::{Archive, Embedded, FrameId};
use crate::suggest::{self, Options, Scaled};

/// What a batch is formed for.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// The camera.
    pub camera: &'a str,
    /// What is asked.
    pub task: Task,
    /// Labels that each frame gets.
    pub labels_each: u64,
    /// When, and within which budget.
    pub plan: &'a Plan,
}

/// A batch that was formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formed {
    /// Its name.
    pub name: String,
    /// Its frames.
    pub frames: usize,
    /// Frames that would have been sent, had the budget reached.
    pub beyond: usize,
}

/// Forms the next batch of a camera, if it is time.
///
/// # Errors
/// [`AnnotateError::Held`] if it is not, or the budget is spent.
pub fn form(archive: &Archive, form: &Form<'_>, now: Timestamp) -> Result<Formed, AnnotateError> {
    let Form { camera, task, labels_each, plan } = *form;
    let batches = Batch::all(archive)?;
    let embedded = archive.embeddings(camera, None)?;
    let picks = waiting(archive, &embedded, task, (&batches, plan.size))?;
    let mut oldest = Duration::ZERO;
    for id in &picks {
        let added = archive.get(*id)?.record.added_at;
        oldest = oldest.max(now.duration_since(added).try_into().unwrap_or_default());
    }
    // Whether it is time is said first: a budget that is spent matters when there is something to spend it on.
    let wanted = plan.decide(picks.len(), oldest, u64::MAX)?;
    let left = plan.budget.left(labels_each, Spent::of(&batches, now))?;
    let frames = plan.decide(picks.len(), oldest, left)?;
    let name = name(camera, now, &batches);
    Batch::create(archive, &name, (task, picks[..frames].to_vec()))?;
    Ok(Formed { name, frames, beyond: wanted - frames })
}

/// The frames most worth a label, at most `n`: they look like none that is labelled or on its way.
fn waiting(
    archive: &Archive,
    embedded: &Embedded,
    task: Task,
    (batches, n): (&[(String, Batch)], usize),
) -> Result<Vec<FrameId>, AnnotateError> {
    let row_of = |id: &FrameId| embedded.ids.iter().position(|it| it == id);
    let labelled = archive.labelled(None, task)?;
    let mut rows: Vec<usize> = labelled.iter().filter_map(|(id, _)| row_of(id)).collect();
    let out = batches.iter().filter(|(_, batch)| batch.task == task).flat_map(|(_, batch)| &batch.frames);
    rows.extend(out.filter_map(row_of));
    rows.sort_unstable();
    rows.dedup();
    let frames = Scaled::new(&embedded.values, embedded.dim);
    let picks = suggest::choose(&frames, &rows, &[], Options { n, ..Options::default() });
    if picks.is_empty() {
        return Err(Held::Nothing.into());
    }
    Ok(picks.iter().map(|pick| embedded.ids[pick.row]).collect())
}

/// `plaza-1.20260601t1200`, and a number behind it if that is taken. The camera's name is shortened, so that it fits.
fn name(camera: &str, now: Timestamp, batches: &[(String, Batch)]) -> String {
    /// A name has 63 bytes at most; time and number need the rest.
    const CAMERA_BYTES: usize = 40;
    let stem = format!("{:.CAMERA_BYTES$}.{}", camera, now.strftime("%Y%m%dt%H%M"));
    let taken = |name: &String| batches.iter().any(|(known, _)| known == name);
    let numbered = (2..).map(|i: u32| format!("{stem}.{i}"));
    std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(stem)
}
