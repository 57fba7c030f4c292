//! What heads say about frames before people do: a guess that is right is confirmed faster than a number is typed.

use std::collections::{BTreeSet, HashMap};

use shared::head::{Head, Input, OutputKind, Task};

use super::Item;
use crate::archive::{Archive, ArchiveError, FrameId, task_name};

/// What a head says about a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// The head's release, shortened.
    pub head: String,
    /// The number; of a class, its probability.
    pub value: f64,
    /// The class.
    pub class: Option<String>,
}

/// Guesses, by frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guesses(HashMap<FrameId, Guess>);

/// Why there are no guesses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum GuessError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("head {head} answers {got}, the batch asks for {want}: give one that answers the same")]
    Task { head: String, got: &'static str, want: &'static str },
    #[error("head {0} reads latent tokens, which the archive does not keep: give one on the embedding")]
    Tokens(String),
    #[error(
        "head {head} reads embeddings of space {space}…, and no frame of the batch has one: `dc-encoder archive embed --model DIR` \
         with the encoder it was trained on makes them"
    )]
    Space { head: String, space: String },
}

impl Guesses {
    /// What the heads say; of several that know a frame, the first.
    ///
    /// # Errors
    /// A head of another task, or one that knows none of the frames.
    pub fn of(archive: &Archive, task: Task, items: &[Item], heads: &[Head]) -> Result<Self, GuessError> {
        let mut guesses = HashMap::new();
        let cameras: BTreeSet<&str> = items.iter().map(|it| it.record.camera.as_str()).collect();
        for head in heads {
            let (name, got) = (head.manifest().name.clone(), head.manifest().task);
            if got != task {
                return Err(GuessError::Task { head: name, got: task_name(got), want: task_name(task) });
            }
            if head.needs_tokens() {
                return Err(GuessError::Tokens(name));
            }
            let mut knows = false;
            for camera in &cameras {
                let mut spaces = archive.spaces(camera)?.into_iter().map(|(space, _)| space);
                let Some(space) = spaces.find(|space| head.check_space(space).is_ok()) else { continue };
                let embedded = archive.embeddings(camera, Some(space))?;
                for (row, id) in embedded.ids.iter().enumerate() {
                    if !items.iter().any(|it| it.record.id == *id) {
                        continue;
                    }
                    knows = true;
                    // A frame that a head has no answer for is labelled without one.
                    let Some(guess) = guess(head, embedded.row(row)) else { continue };
                    guesses.entry(*id).or_insert(guess);
                }
            }
            if !knows {
                let space = head.manifest().input.space.chars().take(12).collect();
                return Err(GuessError::Space { head: name, space });
            }
        }
        Ok(Self(guesses))
    }

    /// What is said of a frame.
    pub fn get(&self, id: FrameId) -> Option<&Guess> {
        self.0.get(&id)
    }

    /// How many frames have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(FrameId, Guess)> for Guesses {
    fn from_iter<T: IntoIterator<Item = (FrameId, Guess)>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

fn guess(head: &Head, embedding: &[f32]) -> Option<Guess> {
    let said = head.run(&Input { embedding, tokens: None }).ok()?;
    let class = match (&head.manifest().output.kind, said.class) {
        (OutputKind::Classes { names }, Some(i)) => names.get(i).cloned(),
        _ => None,
    };
    // People count whole things.
    let value = if head.manifest().task == Task::Count { said.value.round().max(0.0) } else { said.value };
    Some(Guess { head: head.short_release().to_owned(), value, class })
}
