//! A clock that never goes below what is known: for boxes whose own starts in 1970, or in the year they were made.
//!
//! ```text
//! build time, a token's time, the server's time ─► Floor ─► certificates' checks: max(system, floor + time passed since)
//!                      a file, once an hour ◄────────┘ └◄── and back at the next start
//! ```

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::system_time;

/// The file in an identity folder that the last trusted time is kept in: seconds since the Unix epoch.
const FILE: &str = "clock";

/// The file is written this often at most: what a power cut costs, and what a memory card takes.
const KEEP_EVERY: Duration = Duration::from_secs(3600);

/// A floor beyond this is a broken file, not a time: 2100.
const END_OF_TIME: u64 = 4_102_444_800;

/// The machine's clock, and a time that it cannot be before. Clones share it.
#[derive(Debug, Clone)]
pub struct Floor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: Arc<dyn TimeProvider>,
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Seconds since the Unix epoch, at `since`.
    time: u64,
    since: Instant,
    kept: Option<Instant>,
}

impl Known {
    fn now(&self) -> u64 {
        self.time.saturating_add(self.since.elapsed().as_secs())
    }
}

/// When this program was built: packages say so (`SOURCE_DATE_EPOCH`), other builds do not know.
fn build_time() -> u64 {
    option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Floor {
    /// With the time that an identity folder keeps, if there is one.
    #[must_use]
    pub fn beside(identity: &Path) -> Self {
        let file = identity.join(FILE);
        let kept = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let kept = kept.filter(|&time: &u64| time < END_OF_TIME).unwrap_or(0);
        Self::with(system_time(), Some(file), build_time().max(kept))
    }

    /// Over this clock; nothing is kept.
    #[must_use]
    pub fn over(system: Arc<dyn TimeProvider>) -> Self {
        Self::with(system, None, build_time())
    }

    fn with(system: Arc<dyn TimeProvider>, file: Option<PathBuf>, time: u64) -> Self {
        let known = Known { time, since: Instant::now(), kept: None };
        Self(Arc::new(Inner { system, file, known: Mutex::new(known) }))
    }

    /// Over another clock than the machine's.
    #[must_use]
    pub fn on(self, system: Arc<dyn TimeProvider>) -> Self {
        let time = self.known().now();
        Self::with(system, self.0.file.clone(), time)
    }

    /// Someone who can be believed says that it is `time` or later. `true`: it is time to [`keep`](Self::keep) that.
    pub fn trust(&self, time: Timestamp) -> bool {
        let Ok(time) = u64::try_from(time.as_second()) else { return false };
        let mut known = self.known();
        if (known.now()..END_OF_TIME).contains(&time) {
            (known.time, known.since) = (time, Instant::now());
        }
        known.kept.is_none_or(|kept| kept.elapsed() >= KEEP_EVERY)
    }

    /// Writes the time to the disk; it waits for it. A box that cannot do that starts with an older one.
    pub fn keep(&self) {
        self.known().kept = Some(Instant::now());
        let Some(file) = &self.0.file else { return };
        let now = self.unix();
        let written =
            tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new("."))).and_then(|mut new| {
                writeln!(new, "{now}")?;
                new.as_file().sync_all()?;
                new.persist(file).map_err(|error| error.error).map(|_: File| ())
            });
        if let Err(error) = written {
            tracing::debug!(file = %file.display(), %error, "the last trusted time is not kept");
        }
    }

    /// How far the machine's clock is behind what is known.
    #[must_use]
    pub fn behind(&self) -> Option<Duration> {
        let system = self.0.system.current_time().map_or(0, |time| time.as_secs());
        self.known().now().checked_sub(system).filter(|&behind| behind > 0).map(Duration::from_secs)
    }

    fn unix(&self) -> u64 {
        let system = self.0.system.current_time().map_or(0, |time| time.as_secs());
        system.max(self.known().now())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeProvider for Floor {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Stopped(u64);

    impl TimeProvider for Stopped {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn never_goes_below_what_is_known() {
        let floor = Floor::over(Arc::new(Stopped(1000)));
        assert!(floor.trust(at(1_700_000_000)));
        assert!((1_700_000_000..1_700_000_100).contains(&floor.unix()));
        assert!(floor.behind().is_some_and(|behind| behind >= Duration::from_secs(1_699_999_000)));
        floor.trust(at(5));
        floor.trust(at(9_000_000_000));
        assert!((1_700_000_000..1_700_000_100).contains(&floor.unix()), "neither back nor out of this world");
        let ahead = floor.on(Arc::new(Stopped(1_800_000_000)));
        assert_eq!((ahead.unix(), ahead.behind()), (1_800_000_000, None));
    }

    #[test]
    fn is_known_again_after_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let clock = |dir: &Path| Floor::beside(dir).on(Arc::new(Stopped(1000)));
        let running = clock(dir.path());
        assert!(running.trust(at(1_700_000_000)));
        running.keep();
        assert!(!running.trust(at(1_700_000_001)), "once an hour");
        assert!(clock(dir.path()).unix() >= 1_700_000_000);
        for broken in ["", "soon", "-4", "99999999999999999999", "9000000000"] {
            std::fs::write(dir.path().join(FILE), broken).unwrap();
            assert!(clock(dir.path()).unix() < 1_800_000_000, "{broken:?}");
        }
    }
}
