//! The frame path's end: the newest answer of each release, and nothing else. Posting takes a lock for as long as a few
//! pointers are copied, and never waits for a broker.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::sinks::Answer;

/// The newest answers.
#[derive(Debug, Default)]
pub struct Board {
    newest: Mutex<BTreeMap<String, Posted>>,
    changed: Notify,
}

/// An answer on the board.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) answer: Answer,
    /// When its frame was complete in memory.
    pub(super) ready: Instant,
}

impl Board {
    /// A frame's answers take the place of older frames'.
    pub fn post(&self, ready: Instant, answers: &[Answer]) {
        let mut newest = self.lock();
        for answer in answers {
            let release = &answer.head.release;
            let newer = |known: &Posted| known.answer.frame.seq < answer.frame.seq;
            if newest.get(release).is_none_or(newer) {
                newest.insert(release.clone(), Posted { answer: answer.clone(), ready });
            }
        }
        drop(newest);
        self.changed.notify_one();
    }

    /// The newest answer of a release. It stays on the board.
    pub(super) fn of(&self, release: &str) -> Option<Posted> {
        self.lock().get(release).cloned()
    }

    /// Takes down what is not of one of these releases.
    pub(super) fn keep(&self, releases: &[&str]) {
        self.lock().retain(|release, _| releases.contains(&release.as_str()));
    }

    /// Waits until something is posted. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Posted>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::answer;
    use super::*;

    #[test]
    fn the_newest_frame_wins_whatever_comes_last() {
        let (board, now) = (Board::default(), Instant::now());
        for seq in [3, 7, 5] {
            board.post(now, &[answer("r1", seq)]);
        }
        board.post(now, &[answer("r2", 4)]);
        let seq = |release: &str| board.of(release).map(|posted| posted.answer.frame.seq);
        assert_eq!((seq("r1"), seq("r2"), seq("r3")), (Some(7), Some(4), None));
        board.keep(&["r2"]);
        assert_eq!((seq("r1"), seq("r2")), (None, Some(4)));
    }
}
