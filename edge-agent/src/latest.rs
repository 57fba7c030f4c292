//! The newest frame wins: a slot for one item between the device thread and the uplink.
//!
//! ```text
//! device thread ── replace ─► [ one item ] ── take ─► uplink
//!                     └─► the item it replaced, back to the caller, who reports it
//! ```
//! Depth 1 on purpose: a second waiting frame would only ever be sent late. Every offered item is, at any
//! moment, in exactly one of the counts: `offered = taken + replaced + held`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::capture::Stop;

/// Where offered items went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Put into the slot.
    pub offered: u64,
    /// Taken out by the receiver.
    pub taken: u64,
    /// Pushed out by a newer one.
    pub replaced: u64,
    /// In the slot now: 0 or 1.
    pub held: u64,
}

struct State<T> {
    item: Option<T>,
    counts: Counts,
    /// The sender is gone: what is held is the last.
    ended: bool,
    /// The receiver is gone: nothing will be taken any more.
    abandoned: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    filled: Notify,
    vacated: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producing end; used by a thread.
pub struct Sender<T>(Arc<Shared<T>>);

/// The consuming end; used by a task.
pub struct Receiver<T>(Arc<Shared<T>>);

/// The receiver is gone; here is the item back.
#[derive(Debug, PartialEq, Eq)]
pub struct Abandoned<T>(pub T);

/// An empty slot.
pub fn slot<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { item: None, counts: Counts::default(), ended: false, abandoned: false };
    let shared =
        Arc::new(Shared { state: Mutex::new(state), filled: Notify::new(), vacated: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Puts `item` into the slot and returns the one it pushed out. Never blocks.
    ///
    /// # Errors
    /// The receiver is gone; the item comes back uncounted.
    pub fn replace(&self, item: T) -> Result<Option<T>, Abandoned<T>> {
        let mut state = self.0.lock();
        if state.abandoned {
            return Err(Abandoned(item));
        }
        let old = state.item.replace(item);
        state.counts.offered += 1;
        state.counts.replaced += u64::from(old.is_some());
        drop(state);
        self.0.filled.notify_one();
        Ok(old)
    }

    /// Blocks until the slot is empty; `false` if `stop` was raised or the receiver is gone.
    pub fn wait_vacant(&self, stop: &Stop) -> bool {
        let mut state = self.0.lock();
        while state.item.is_some() && !state.abandoned && !stop.is_stopped() {
            let wait = crate::capture::STOP_POLL;
            state = self.0.vacated.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.abandoned && !stop.is_stopped()
    }

    /// Where the items went so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.filled.notify_one();
    }
}

impl<T> Receiver<T> {
    /// Waits for an item and takes it; `None` once the sender is gone and the slot is empty. Cancel-safe.
    pub async fn take(&mut self) -> Option<T> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(item) = state.item.take() {
                    state.counts.taken += 1;
                    drop(state);
                    self.0.vacated.notify_one();
                    return Some(item);
                }
                if state.ended {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }

    /// Takes no more; returns the item still in the slot (counted as taken), for the caller to account for.
    pub fn close(self) -> Option<T> {
        let mut state = self.0.lock();
        state.abandoned = true;
        let item = state.item.take();
        state.counts.taken += u64::from(item.is_some());
        item
    }

    /// Where the items went so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.vacated.notify_one();
    }
}

impl<T> Shared<T> {
    fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { held: u64::from(state.item.is_some()), ..state.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_wins_and_the_older_come_back() {
        let (sender, mut receiver) = slot();
        assert_eq!(sender.replace(1), Ok(None));
        assert_eq!(sender.replace(2), Ok(Some(1)));
        assert_eq!(sender.replace(3), Ok(Some(2)));
        assert_eq!(receiver.counts(), Counts { offered: 3, taken: 0, replaced: 2, held: 1 });
        assert_eq!(receiver.take().await, Some(3));
        drop(sender);
        assert_eq!(receiver.take().await, None);
        assert_eq!(receiver.counts(), Counts { offered: 3, taken: 1, replaced: 2, held: 0 });
    }

    #[tokio::test]
    async fn the_last_item_survives_the_sender() {
        let (sender, mut receiver) = slot();
        assert_eq!(sender.replace(7), Ok(None));
        drop(sender);
        assert_eq!(receiver.take().await, Some(7));
        assert_eq!(receiver.take().await, None);
    }

    #[test]
    fn a_gone_receiver_gives_items_back() {
        let (sender, receiver) = slot();
        assert_eq!(sender.replace(1), Ok(None));
        assert_eq!(receiver.close(), Some(1));
        assert_eq!(sender.replace(2), Err(Abandoned(2)));
        assert!(!sender.wait_vacant(&Stop::new()));
        assert_eq!(sender.counts(), Counts { offered: 1, taken: 1, replaced: 0, held: 0 });
    }

    #[test]
    fn stop_ends_the_wait_for_a_vacant_slot() {
        let (sender, _receiver) = slot();
        assert_eq!(sender.replace(1), Ok(None));
        let stop = Stop::new();
        let other = stop.clone();
        let thread = std::thread::spawn(move || sender.wait_vacant(&other));
        stop.stop();
        assert!(!thread.join().unwrap());
    }

    /// Every offered item is either taken or handed back, whatever the interleaving.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_unaccounted_for() {
        const ITEMS: u64 = 20_000;
        let (sender, mut receiver) = slot();
        let producer = std::thread::spawn(move || {
            (0..ITEMS).filter_map(|item| sender.replace(item).unwrap()).collect::<Vec<u64>>()
        });
        let mut seen = Vec::new();
        while let Some(item) = receiver.take().await {
            seen.push(item);
        }
        let replaced = producer.join().unwrap();
        assert!(seen.is_sorted() && replaced.is_sorted());
        let counts = receiver.counts();
        assert_eq!((counts.offered, counts.held), (ITEMS, 0));
        assert_eq!((counts.taken, counts.replaced), (seen.len() as u64, replaced.len() as u64));
        let mut all = [seen, replaced].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..ITEMS));
    }

    /// Waiting for a vacant slot before offering loses nothing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lossless_hands_over_every_item_in_order() {
        const ITEMS: u64 = 2_000;
        let (sender, mut receiver) = slot();
        let producer = std::thread::spawn(move || {
            let stop = Stop::new();
            for item in 0..ITEMS {
                assert!(sender.wait_vacant(&stop));
                assert_eq!(sender.replace(item), Ok(None));
            }
        });
        for item in 0..ITEMS {
            assert_eq!(receiver.take().await, Some(item));
        }
        assert_eq!(receiver.take().await, None);
        producer.join().unwrap();
    }
}
