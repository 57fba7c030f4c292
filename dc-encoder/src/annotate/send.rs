//! Batches out and labels back, whatever the platform is.

use std::fs::File;

use jiff::Timestamp;

use super::plan::{Budget, Spent};
use super::{AnnotateError, Answered, Asked, Batch, BatchError, Guesses, Outgoing, Platform, Sent};
use crate::archive::{Archive, ArchiveError, LabelFault, Taken};

/// Sends one at a time: two commands that form batches at once would both spend what is left of the budget.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// The archive's only sender, until this is dropped.
    ///
    /// # Errors
    /// [`AnnotateError::Busy`] while there is another.
    pub fn take(archive: &Archive) -> Result<Self, AnnotateError> {
        let path = archive.dir().join("push.lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(AnnotateError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(AnnotateError::Busy(archive.dir().to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(AnnotateError::io("lock", &path)(source)),
        }
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Frames of the batch.
    pub frames: usize,
    /// Those that the platform did not have before.
    pub new: usize,
}

/// Sends a batch that the archive knows, without a budget and without guesses.
///
/// # Errors
/// As [`push_with`].
pub fn push(archive: &Archive, name: &str, platform: &mut dyn Platform) -> Result<Pushed, AnnotateError> {
    push_with(archive, name, platform, (&Guesses::default(), &Budget::default()))
}

/// Sends a batch that the archive knows, or the rest of one that was cut off. A new one is sent whole within the budget or
/// not at all.
///
/// # Errors
/// A batch that is not there or was sent elsewhere, a budget that is spent, a platform that fails. What it acknowledged until
/// then is written down.
pub fn push_with(
    archive: &Archive,
    name: &str,
    platform: &mut dyn Platform,
    (guesses, budget): (&Guesses, &Budget),
) -> Result<Pushed, AnnotateError> {
    let _only = Lock::take(archive)?;
    let mut batch = Batch::get(archive, name)?;
    let items = batch.items(archive)?;
    let paid = paid(archive, &batch, platform.labels_each(), budget)?;
    let (made_at, task) = (batch.made_at, batch.task);
    let out = Outgoing { archive, name, made_at, task, items: &items, guesses };
    if platform.all_or_nothing() {
        // A folder is written at once, and whoever wants it in another place writes it again.
        platform.push(&out, &mut |_| Ok(()))?;
        let (labels, money) = paid;
        let (to, place) = (platform.name().to_owned(), platform.place());
        let at = Some(Timestamp::now());
        batch.sent = Some(Sent { to, place, at, labels, money, whole: true, ..Sent::default() });
        batch.put(archive, name)?;
        return Ok(Pushed { frames: items.len(), new: items.len() });
    }
    let first = batch.sent.is_none();
    begin(archive, (name, &mut batch), platform, paid)?;
    let before = batch.sent.as_ref().map_or(0, |it| it.tasks.len());
    let mut sent = batch.clone();
    let mut keep = |tasks: &[(crate::archive::FrameId, String)]| {
        let Some(it) = &mut sent.sent else { return Ok(()) };
        let known = it.tasks.len();
        it.tasks.extend(tasks.iter().cloned());
        if it.tasks.len() > known { Ok(sent.put(archive, name)?) } else { Ok(()) }
    };
    let pushed = platform.push(&out, &mut keep);
    match (pushed, &mut sent.sent) {
        (Ok(()), Some(it)) => it.whole = true,
        (Ok(()), None) => {}
        // Nothing is there, surely: it may go elsewhere, and nothing was spent.
        (Err(error), Some(it)) if first && it.tasks.is_empty() && !error.in_doubt() => {
            sent.sent = None;
            sent.put(archive, name)?;
            return Err(error);
        }
        (Err(error), _) => return Err(error),
    }
    sent.put(archive, name)?;
    let after = sent.sent.as_ref().map_or(0, |it| it.tasks.len());
    Ok(Pushed { frames: items.len(), new: after - before })
}

/// Labels that the batch asks for, and what they cost; a batch that was sent before is paid already.
fn paid(archive: &Archive, batch: &Batch, each: u64, budget: &Budget) -> Result<(u64, f64), AnnotateError> {
    if let Some(sent) = &batch.sent {
        return Ok((sent.labels, sent.money));
    }
    let labels = batch.frames.len() as u64 * each;
    budget.allows(labels, Spent::of(&Batch::all(archive)?, Timestamp::now()))?;
    Ok((labels, budget.price.unwrap_or_default() * labels as f64))
}

/// Writes down that the batch goes out, if it was not begun before.
fn begin(
    archive: &Archive,
    (name, batch): (&str, &mut Batch),
    platform: &dyn Platform,
    (labels, money): (u64, f64),
) -> Result<(), AnnotateError> {
    let (to, place) = (platform.name().to_owned(), platform.place());
    match &batch.sent {
        Some(sent) if sent.to == to && sent.place == place => return Ok(()),
        Some(Sent { to, place, .. }) => {
            let (name, to, place) = (name.to_owned(), to.clone(), place.clone());
            return Err(BatchError::Elsewhere { name, to, place }.into());
        }
        None => {}
    }
    let at = Some(Timestamp::now());
    batch.sent = Some(Sent { to, place, at, labels, money, ..Sent::default() });
    Ok(batch.put(archive, name)?)
}

/// What became of a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taking {
    /// What was taken.
    pub taken: Taken,
    /// What was not: where it stands, and why.
    pub refused: Vec<String>,
}

/// Takes what a platform has for a batch: of a folder all of it, or nothing and says why; of a platform what is right, and
/// names the rest.
///
/// # Errors
/// A batch that is not there, a platform that fails; of a folder, an answer about an unknown frame or of a wrong type.
pub fn pull(archive: &Archive, name: &str, platform: &mut dyn Platform) -> Result<Taking, AnnotateError> {
    let batch = Batch::get(archive, name)?;
    let asked = batch.asked(name);
    let pulled = platform.pull(&asked)?;
    let strict = platform.all_or_nothing();
    take(archive, &asked, (pulled.answers, pulled.refused), strict)
}

/// Holds answers against the batch and the archive, and takes them.
pub(super) fn take(
    archive: &Archive,
    asked: &Asked<'_>,
    (answers, mut refused): (Vec<Answered>, Vec<String>),
    strict: bool,
) -> Result<Taking, AnnotateError> {
    let mut good = Vec::with_capacity(answers.len());
    for answered in answers {
        match check(archive, asked, &answered)? {
            Ok(()) => good.push(answered.returned),
            Err(error) if strict => return Err(error),
            Err(error) => refused.push(error.to_string()),
        }
    }
    Ok(Taking { taken: archive.put_labels(&good)?, refused })
}

/// Whether the answer is about this frame of this batch; the inner error is what speaks against it.
fn check(
    archive: &Archive,
    asked: &Asked<'_>,
    Answered { returned, size }: &Answered,
) -> Result<Result<(), AnnotateError>, AnnotateError> {
    let (place, id) = (returned.place.clone(), returned.id);
    if !asked.frames.contains(&id) {
        return Ok(Err(BatchError::Stranger { place, id, name: asked.name.to_owned() }.into()));
    }
    if let Err(fault) = archive.check_label(returned)? {
        return Ok(Err(ArchiveError::Label { place, fault }.into()));
    }
    let Some(got) = *size else { return Ok(Ok(())) };
    let record = archive.get(id)?.record;
    let want = [record.width, record.height];
    let fault = LabelFault::OtherSize { id, want, got };
    Ok(if got == want { Ok(()) } else { Err(ArchiveError::Label { place, fault }.into()) })
}
