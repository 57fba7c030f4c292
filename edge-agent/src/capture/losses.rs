//! The way of a lost frame's record from the device thread to the output, bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Lost;

/// One or more lost frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// A lost frame.
    One(Lost),
    /// Frames whose single records did not fit the queue (the output was not read for long): their count stays
    /// true, their names are gone.
    Many {
        /// How many.
        count: u64,
        /// The smallest sequence number among them.
        first_seq: u64,
        /// The largest sequence number among them.
        last_seq: u64,
    },
}

struct Queue {
    records: VecDeque<Lost>,
    capacity: usize,
    /// Those that did not fit: count, first and last sequence number.
    summary: Option<(u64, u64, u64)>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the device thread reports; never blocks.
pub struct LossSender(Arc<Shared>);

/// Where the output reads.
pub struct LossReceiver(Arc<Shared>);

/// A queue of at most `capacity` records; what does not fit is summed up in one [`Loss::Many`].
pub fn losses(capacity: usize) -> (LossSender, LossReceiver) {
    let queue = Queue { records: VecDeque::new(), capacity, summary: None, closed: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Notify::new() });
    (LossSender(shared.clone()), LossReceiver(shared))
}

impl LossSender {
    /// Reports a lost frame.
    pub fn report(&self, lost: Lost) {
        let mut queue = self.0.lock();
        match queue.summary {
            Some((count, first, last)) => {
                queue.summary = Some((count + 1, first.min(lost.seq), last.max(lost.seq)));
            }
            None if queue.records.len() >= queue.capacity => queue.summary = Some((1, lost.seq, lost.seq)),
            None => queue.records.push_back(lost),
        }
        drop(queue);
        self.0.changed.notify_one();
    }
}

impl Drop for LossSender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl LossReceiver {
    /// The next loss, in order; `None` once capture has ended and everything was read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Loss> {
        loop {
            if let Some(loss) = self.try_next() {
                return Some(loss);
            }
            if self.0.lock().closed {
                // A record may have come between the two looks.
                return self.try_next();
            }
            self.0.changed.notified().await;
        }
    }

    /// The next loss, if one is there.
    pub fn try_next(&mut self) -> Option<Loss> {
        let mut queue = self.0.lock();
        match queue.records.pop_front() {
            Some(lost) => Some(Loss::One(lost)),
            None => {
                let (count, first_seq, last_seq) = queue.summary.take()?;
                Some(Loss::Many { count, first_seq, last_seq })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::LostReason;

    fn lost(seq: u64) -> Lost {
        Lost { seq, captured_at: jiff::Timestamp::UNIX_EPOCH, id: None, reason: LostReason::Superseded }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted() {
        let (sender, mut receiver) = losses(2);
        for seq in 0..5 {
            sender.report(lost(seq));
        }
        assert_eq!(receiver.next().await, Some(Loss::One(lost(0))));
        sender.report(lost(5));
        assert_eq!(receiver.next().await, Some(Loss::One(lost(1))));
        assert_eq!(receiver.next().await, Some(Loss::Many { count: 4, first_seq: 2, last_seq: 5 }));
        sender.report(lost(6));
        drop(sender);
        assert_eq!(receiver.next().await, Some(Loss::One(lost(6))));
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn the_end_wakes_the_reader() {
        let (sender, mut receiver) = losses(2);
        let task = tokio::spawn(async move { receiver.next().await });
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(task.await.unwrap(), None);
    }
}
