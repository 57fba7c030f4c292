//! One signal that ends capture, for threads and for tasks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a blocking wait that cannot be woken by [`Stop`] (a camera, a child's pipe) may last before it looks
/// again: the most a shutdown is delayed by it.
pub const STOP_POLL: Duration = Duration::from_millis(100);

/// A flag that is raised once; clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stopped: Mutex<bool>,
    woken: Condvar,
    notify: Notify,
}

impl Stop {
    /// A flag not yet raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and wakes everyone who waits on it.
    pub fn stop(&self) {
        *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.woken.notify_all();
        self.0.notify.notify_waiters();
    }

    /// Whether the flag is raised.
    pub fn is_stopped(&self) -> bool {
        *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time`, or until the flag is raised; returns whether it is.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut stopped = self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            stopped = self.0.woken.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *stopped
    }

    /// Waits until the flag is raised.
    pub async fn stopped(&self) {
        loop {
            let notified = self.0.notify.notified();
            if self.is_stopped() {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_ends_early_when_stopped() {
        let stop = Stop::new();
        assert!(!stop.sleep(Duration::from_millis(1)));
        let other = stop.clone();
        let thread = std::thread::spawn(move || other.sleep(Duration::from_secs(3600)));
        stop.stop();
        assert!(thread.join().unwrap());
        assert!(stop.is_stopped());
    }

    #[tokio::test]
    async fn tasks_are_woken() {
        let stop = Stop::new();
        let other = stop.clone();
        let task = tokio::spawn(async move { other.stopped().await });
        tokio::task::yield_now().await;
        stop.stop();
        task.await.unwrap();
    }
}
