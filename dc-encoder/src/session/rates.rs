//! How much one camera, and all together, may send: token buckets. Pure: `now` comes from outside.
//!
//! ```text
//! frame's header ─► admit ─┬─ fits every bucket ─► taken from all of them, the JPEG is read
//!                          └─ Over, nothing taken ─► "overloaded", nothing is read
//! ```

use std::time::Instant;

use crate::serve::config::Rate;

/// A bucket that fills at a rate, up to a second's worth or one largest piece, whichever is more.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    per_second: f64,
    holds: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; `largest`: what may be taken at once.
    pub fn new(per_second: f64, largest: f64, now: Instant) -> Self {
        let holds = per_second.max(largest);
        Self { per_second, holds, level: holds, filled: now }
    }

    /// Whether so much is in it.
    pub fn fits(&mut self, amount: f64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + since * self.per_second).min(self.holds);
        self.filled = now.max(self.filled);
        self.level >= amount
    }

    /// How full it is, 0 to 1, when it was last looked at.
    pub fn fullness(&self) -> f64 {
        self.level / self.holds
    }

    /// Takes what [fits](Self::fits).
    pub fn take(&mut self, amount: f64) {
        self.level -= amount;
    }
}

/// What may be sent, by one camera or by all.
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    frames: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Quota {
    /// A full quota; `largest`: bytes of the longest frame.
    pub fn new(rate: &Rate, largest: u32, now: Instant) -> Self {
        let bucket = |rate: f64, largest| (rate > 0.0).then(|| Bucket::new(rate, largest, now));
        Self {
            frames: bucket(rate.frames_per_second.into(), 1.0),
            bytes: bucket(rate.bytes_per_second.as_u64() as f64, largest.into()),
        }
    }

    /// Which of the two a frame exceeds: `[frames, bytes]`.
    fn exceeded(&mut self, bytes: f64, now: Instant) -> [bool; 2] {
        let over = |bucket: &mut Option<Bucket>, amount| {
            bucket.as_mut().is_some_and(|bucket| !bucket.fits(amount, now))
        };
        [over(&mut self.frames, 1.0), over(&mut self.bytes, bytes)]
    }

    fn take(&mut self, bytes: f64) {
        for (bucket, amount) in [(&mut self.frames, 1.0), (&mut self.bytes, bytes)] {
            bucket.iter_mut().for_each(|bucket| bucket.take(amount));
        }
    }
}

/// A limit that a frame would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The camera's frames a second.
    CameraFrames,
    /// The camera's bytes a second.
    CameraBytes,
    /// All cameras' frames a second.
    AllFrames,
    /// All cameras' bytes a second.
    AllBytes,
    /// All cameras' frames without a reply.
    InFlight,
}

impl Over {
    /// All limits.
    pub const ALL: [Self; 5] =
        [Self::CameraFrames, Self::CameraBytes, Self::AllFrames, Self::AllBytes, Self::InFlight];

    /// The limit's key in the configuration, below `limits`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::CameraFrames => "per_camera.frames_per_second",
            Self::CameraBytes => "per_camera.bytes_per_second",
            Self::AllFrames => "together.frames_per_second",
            Self::AllBytes => "together.bytes_per_second",
            Self::InFlight => "max_in_flight_together",
        }
    }
}

/// Takes a frame of `bytes` from the camera's quota and everybody's, or from neither.
///
/// # Errors
/// The first limit that it would exceed.
pub fn admit(camera: &mut Quota, all: &mut Quota, bytes: u32, now: Instant) -> Result<(), Over> {
    let bytes = f64::from(bytes);
    let [camera_frames, camera_bytes] = camera.exceeded(bytes, now);
    let [all_frames, all_bytes] = all.exceeded(bytes, now);
    let exceeded = [camera_frames, camera_bytes, all_frames, all_bytes];
    if let Some((over, _)) = Over::ALL.into_iter().zip(exceeded).find(|(_, exceeded)| *exceeded) {
        return Err(over);
    }
    camera.take(bytes);
    all.take(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;
    use proptest::prelude::*;

    use super::*;

    const LARGEST: u32 = 100_000;

    fn quota(frames: u32, bytes: u64, now: Instant) -> Quota {
        let rate = Rate { frames_per_second: frames, bytes_per_second: ByteSize::b(bytes) };
        Quota::new(&rate, LARGEST, now)
    }

    #[test]
    fn a_second_may_come_at_once_and_then_the_rate_counts() {
        let start = Instant::now();
        let (mut camera, mut all) = (quota(3, 0, start), quota(0, 0, start));
        let mut at = |ms| admit(&mut camera, &mut all, 9, start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(300), Err(Over::CameraFrames));
        assert_eq!((at(334), at(335)), (Ok(()), Err(Over::CameraFrames)));
    }

    #[test]
    fn the_longest_frame_fits_whatever_the_rate() {
        let start = Instant::now();
        let (mut camera, mut all) = (quota(0, 1000, start), quota(0, 0, start));
        let mut at = |s| admit(&mut camera, &mut all, LARGEST, start + Duration::from_secs(s));
        assert_eq!((at(0), at(99), at(100)), (Ok(()), Err(Over::CameraBytes), Ok(())));
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let start = Instant::now();
        let (mut camera, mut all) = (quota(9, 0, start), quota(1, 0, start));
        assert_eq!(admit(&mut camera, &mut all, 1, start), Ok(()));
        let before = camera.clone();
        assert_eq!(admit(&mut camera, &mut all, 1, start), Err(Over::AllFrames));
        assert_eq!(camera, before);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(9);
        let mut bucket = Bucket::new(1.0, 1.0, start);
        assert!(bucket.fits(1.0, start));
        bucket.take(1.0);
        assert!(!bucket.fits(1.0, start - Duration::from_secs(5)));
        assert!(!bucket.fits(1.0, start), "the same second does not count twice");
    }

    proptest! {
        /// Over any stretch of time no more than the rate and one burst passes, and whoever waits long
        /// enough passes.
        #[test]
        fn no_more_passes_than_rate_and_burst(
            rate in 1_u32..100,
            kb in 1_u64..500,
            arrivals in prop::collection::vec((0_u64..200, 1..=LARGEST), 1..200),
        ) {
            let start = Instant::now();
            let (mut camera, mut all) = (quota(rate, kb * 1000, start), quota(2 * rate, 0, start));
            let (mut now, mut frames, mut bytes) = (start, 0.0, 0.0);
            for (wait, size) in arrivals {
                now += Duration::from_millis(wait);
                if admit(&mut camera, &mut all, size, now).is_ok() {
                    (frames, bytes) = (frames + 1.0, bytes + f64::from(size));
                }
                let seconds = (now - start).as_secs_f64();
                prop_assert!(frames <= f64::from(rate) * (seconds + 1.0) + 1e-6);
                let most = kb as f64 * 1000.0;
                prop_assert!(bytes <= most * seconds + most.max(f64::from(LARGEST)) + 1e-3);
            }
            let rested = now + Duration::from_secs(101);
            prop_assert_eq!(admit(&mut camera, &mut all, LARGEST, rested), Ok(()));
        }
    }
}
