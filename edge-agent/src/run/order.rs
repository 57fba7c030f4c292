//! Lossless runs write their lines in the order of the frames.
//!
//! An encoder takes the newest frame of a camera first, which is right for live pictures. Here it would leave
//! the oldest waiting for ever, so no frame is sent that is more than a window ahead of the oldest unfinished
//! one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, Notify};

use crate::sinks::{Event, Sink};

/// What is finished, and what is next.
#[derive(Debug)]
pub(super) struct Order {
    /// Frames that may be unfinished at one time.
    window: u64,
    /// The oldest unfinished frame.
    oldest: AtomicU64,
    moved: Notify,
    /// Lines of finished frames that wait for an older one; at most a window of frames.
    finished: Mutex<BTreeMap<u64, Vec<Event>>>,
}

impl Order {
    pub(super) fn new(window: u16) -> Self {
        Self {
            window: window.into(),
            oldest: AtomicU64::new(0),
            moved: Notify::new(),
            finished: Mutex::default(),
        }
    }

    /// Waits until frame `seq` is within the window. Cancel-safe.
    pub(super) async fn may_go(&self, seq: u64) {
        loop {
            let moved = self.moved.notified();
            if seq < self.oldest.load(Ordering::Acquire).saturating_add(self.window) {
                return;
            }
            moved.await;
        }
    }

    /// Frame `seq` is finished with these lines; writes all that are in order now.
    pub(super) async fn finish(&self, seq: u64, lines: Vec<Event>, sink: &Sink) {
        // Held while writing, so that nobody writes in between.
        let mut finished = self.finished.lock().await;
        finished.insert(seq, lines);
        let mut oldest = self.oldest.load(Ordering::Acquire);
        while let Some(lines) = finished.remove(&oldest) {
            for line in lines {
                sink.send(line).await;
            }
            oldest += 1;
        }
        self.oldest.store(oldest, Ordering::Release);
        self.moved.notify_waiters();
    }

    /// Writes what still waits, at the end of a run.
    pub(super) async fn flush(&self, sink: &Sink) {
        let mut finished = self.finished.lock().await;
        while let Some((_, lines)) = finished.pop_first() {
            for line in lines {
                sink.send(line).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Format, Output};
    use crate::sinks::{self, FrameInfo, Overflow};

    fn line(seq: u64) -> Vec<Event> {
        let captured_at = jiff::Timestamp::UNIX_EPOCH;
        let frame = FrameInfo { camera: "a".into(), seq, captured_at, id: None };
        vec![Event::Dropped { frame, reason: "because".into() }]
    }

    #[tokio::test]
    async fn lines_come_in_the_order_of_frames() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = Output::File(file.path().to_owned(), sinks::Rotation::NEVER);
        let (sink, writer) = sinks::start(&output, Format::Json, Overflow::Wait).unwrap();
        let order = Order::new(4);
        for seq in [1, 3, 0, 2, 6, 5] {
            order.finish(seq, line(seq), &sink).await;
        }
        order.flush(&sink).await;
        drop(sink);
        writer.finish().await.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let seqs: Vec<_> = text.split("\"seq\":").skip(1).map(|rest| rest.as_bytes()[0] - b'0').collect();
        assert_eq!(seqs, [0, 1, 2, 3, 5, 6], "frame 4 never ended, and does not keep the others");
    }

    #[tokio::test]
    async fn no_frame_runs_away_from_the_oldest() {
        let (sink, _writer) = sinks::start(
            &Output::File("/dev/null".into(), sinks::Rotation::NEVER),
            Format::Json,
            Overflow::Wait,
        )
        .unwrap();
        let order = Arc::new(Order::new(2));
        order.may_go(0).await;
        order.may_go(1).await;
        let waiting = Arc::clone(&order);
        let third = tokio::spawn(async move { waiting.may_go(2).await });
        tokio::task::yield_now().await;
        order.finish(1, line(1), &sink).await;
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "the oldest is still under way");
        order.finish(0, line(0), &sink).await;
        third.await.unwrap();
    }
}
