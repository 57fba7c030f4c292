//! Thins out the frames of a camera that cannot run as slowly as asked. Pure.

use std::time::{Duration, Instant};

/// Lets the first frame of each slot of `1/fps` seconds through.
pub(super) struct Thinner {
    fps: f64,
    start: Option<Instant>,
    last_slot: Option<u64>,
}

impl Thinner {
    /// A thinner down to `wanted`, or none if the camera, running at `actual`, is not faster: slots would cost
    /// frames to jitter for nothing.
    pub(super) fn new(wanted: Option<f64>, actual: Option<f64>) -> Option<Self> {
        let fps = wanted?;
        let faster = actual.is_none_or(|actual| actual > fps * 1.05);
        faster.then_some(Self { fps, start: None, last_slot: None })
    }

    /// Whether a frame that came at `now` is wanted.
    pub(super) fn wants(&mut self, now: Instant) -> bool {
        let start = *self.start.get_or_insert(now);
        let elapsed: Duration = now.saturating_duration_since(start);
        let slot = Some((elapsed.as_secs_f64() * self.fps) as u64);
        let new = slot != self.last_slot;
        self.last_slot = slot;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_camera_is_thinned_to_the_rate() {
        let mut thinner = Thinner::new(Some(5.0), Some(30.0)).unwrap();
        let start = Instant::now();
        let wanted = (0..300).filter(|n| thinner.wants(start + Duration::from_millis(n * 33))).count();
        assert_eq!(wanted, 50);
    }

    #[test]
    fn a_slow_enough_camera_is_left_alone() {
        assert!(Thinner::new(None, Some(30.0)).is_none());
        assert!(Thinner::new(Some(10.0), Some(10.0)).is_none());
        assert!(Thinner::new(Some(10.0), None).is_some());
    }
}
