//! The next batch is made while a step runs.
//!
//! ```text
//! worker: order ─► frames (decoded again beyond the cache) ─► masks, changes ─► one batch, handed over ─► step
//! ```
//! What is in a batch follows from the recipe and the batch's number alone, so it does not matter who makes it and when.
//! Most of the work is decoding frames that are not kept in memory, on one thread: steps are long enough for that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::batch::Item;
use super::draw::Order;
use super::error::PretrainError;
use super::frames::Frames;
use super::prepare::training_items;
use super::recipe::Recipe;

type Made = Result<Vec<Item>, PretrainError>;

/// Batches in order, one ahead.
pub(super) struct Prefetch {
    made: Option<Receiver<Made>>,
    worker: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// The batches from the first one of `step` to the run's last.
    pub(super) fn start(recipe: &Recipe, frames: &Arc<Frames>, step: u64) -> Self {
        let (recipe, frames) = (recipe.clone(), Arc::clone(frames));
        // Nothing is kept between the two: the worker waits with a finished batch until the step before has ended.
        let (sender, made) = sync_channel(0);
        let worker = std::thread::spawn(move || {
            let mut order = Order::new(recipe.seed, recipe.training);
            let batches = recipe.accumulate as u64;
            for number in step * batches..recipe.schedule.steps * batches {
                let items = training_items(&recipe, &frames, &mut order, number);
                let failed = items.is_err();
                // Nobody waits any more: the run has ended.
                if sender.send(items).is_err() || failed {
                    return;
                }
            }
        });
        Self { made: Some(made), worker: Some(worker) }
    }

    /// The next batch's frames, masks and changes.
    pub(super) fn next(&mut self) -> Made {
        match self.made.as_ref().and_then(|made| made.recv().ok()) {
            Some(items) => items,
            // It went without a word: with a panic, which goes on here, or after the last batch.
            None => {
                let ended = self.worker.take().map(JoinHandle::join);
                if let Some(Err(panic)) = ended {
                    std::panic::resume_unwind(panic);
                }
                unreachable!("a run asks for as many batches as its schedule has")
            }
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // First the receiver, so that the worker does not wait for it.
        self.made = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
