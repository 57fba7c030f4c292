//! Labels on their way into the archive: each is held against the frame it names, and nobody's answer is lost.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::{from_json, to_json};
use super::label::{Earlier, MAX_NAME_BYTES, task_name};
use super::record::to_micros;
use super::{Archive, ArchiveError, Label, LabelFault, Record, Returned, Taken};

/// Most answers of one person about one frame that are kept; beyond, the oldest goes: somebody's script, not a person.
const MOST_EARLIER: usize = 1000;

impl Archive {
    /// Takes all these labels, or none and says why. The same label again counts once; another answer of the same person
    /// takes the place of the earlier one, which is kept as its history; those of other people stay beside it.
    ///
    /// # Errors
    /// [`ArchiveError::Label`], naming the first that cannot be taken.
    pub fn put_labels(&self, labels: &[Returned]) -> Result<Taken, ArchiveError> {
        self.index.write(|tables| {
            let mut taken = Taken::default();
            for returned @ Returned { place, id, label, .. } in labels {
                let record = tables.record(*id)?;
                check(record.as_ref(), returned)
                    .map_err(|fault| ArchiveError::Label { place: place.clone(), fault })?;
                let task = task_name(label.answer.task());
                let mut label = Label { at: to_micros(label.at), earlier: Vec::new(), ..label.clone() };
                match tables.label(*id, task, &label.who)? {
                    Some(there) if there.answer == label.answer || there.said_before(&label) => {
                        taken.same += 1;
                        continue;
                    }
                    Some(there) => {
                        taken.changed += 1;
                        label.earlier = there.with_history();
                    }
                    None => taken.new += 1,
                }
                tables.put_label(*id, task, &label)?;
            }
            Ok(taken)
        })
    }

    /// Whether this label could be taken, as [`put_labels`](Self::put_labels) would.
    ///
    /// # Errors
    /// An index that fails; what speaks against the label is the value.
    pub fn check_label(&self, returned: &Returned) -> Result<Result<(), LabelFault>, ArchiveError> {
        Ok(check(self.index.record(returned.id)?.as_ref(), returned))
    }

    /// Writes down what was sent out under this name.
    pub(crate) fn put_batch<T: Serialize>(&self, name: &str, batch: &T) -> Result<(), ArchiveError> {
        self.index.write(|tables| {
            let table = tables.transaction.open_table(super::index::BATCHES);
            let mut table = table.map_err(ArchiveError::database)?;
            table.insert(name, to_json(batch).as_str()).map(drop).map_err(ArchiveError::database)
        })
    }

    /// All that was sent out, by name.
    pub(crate) fn batches<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, ArchiveError> {
        use redb::ReadableTable as _;
        let table = self.index.read()?.open_table(super::index::BATCHES).map_err(ArchiveError::database)?;
        let entries = table.iter().map_err(ArchiveError::database)?;
        entries
            .map(|entry| {
                let (name, json) = entry.map_err(ArchiveError::database)?;
                Ok((name.value().to_owned(), from_json("batch", json.value())?))
            })
            .collect()
    }
}

impl Label {
    /// Whether this very answer was there and was changed since: a platform still tells what was said first.
    fn said_before(&self, label: &Self) -> bool {
        self.earlier.iter().any(|it| it.at == label.at && it.answer == label.answer && it.from == label.from)
    }

    fn with_history(self) -> Vec<Earlier> {
        let Self { answer, at, from, mut earlier, .. } = self;
        earlier.push(Earlier { answer, at, from });
        let beyond = earlier.len().saturating_sub(MOST_EARLIER);
        earlier.drain(..beyond);
        earlier
    }
}

/// Holds a label against the frame of its id.
fn check(record: Option<&Record>, Returned { id, path, label, .. }: &Returned) -> Result<(), LabelFault> {
    check_name("the annotator's name", &label.who)?;
    check_name("where the label came from", &label.from)?;
    label.answer.check()?;
    let record = record.ok_or(LabelFault::UnknownFrame(*id))?;
    match path.as_ref().filter(|it| **it != record.path) {
        Some(got) => Err(LabelFault::OtherPath {
            id: *id,
            want: record.path.clone(),
            got: got.chars().take(200).collect(),
        }),
        None => Ok(()),
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), LabelFault> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(LabelFault::Name { what, got: name.chars().take(80).collect() }) }
}
