//! Which frames of live agents are kept. Pure: `now` comes from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use serde::Deserialize;

use super::{Keep, Zone};

/// The server's `[archive]` table.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Folder of the archive; without it nothing is kept.
    pub dir: Option<PathBuf>,
    /// One frame of each camera in this time; ten seconds unless something is said.
    #[serde(with = "humantime_serde")]
    pub every: Option<Duration>,
    /// One frame of so many, instead.
    pub one_in: Option<u64>,
    /// The cameras' time zone: `UTC`, `+02:00`, `Europe/Zurich`.
    pub zone: Option<String>,
    /// Frames older than this go.
    #[serde(with = "humantime_serde")]
    pub keep_for: Option<Duration>,
    /// Beyond so many bytes of a camera, its oldest frames without labels go.
    pub keep_bytes: Option<ByteSize>,
    /// Cameras for which something else holds.
    pub cameras: BTreeMap<String, CameraSampling>,
}

/// What holds for one camera.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraSampling {
    /// See [`Sampling::every`].
    #[serde(with = "humantime_serde")]
    pub every: Option<Duration>,
    /// See [`Sampling::one_in`].
    pub one_in: Option<u64>,
    /// See [`Sampling::zone`].
    pub zone: Option<String>,
    /// See [`Sampling::keep_for`].
    #[serde(with = "humantime_serde")]
    pub keep_for: Option<Duration>,
    /// See [`Sampling::keep_bytes`].
    pub keep_bytes: Option<ByteSize>,
    /// Keep nothing of it.
    pub off: bool,
}

/// Unless something else is said.
const EVERY: Duration = Duration::from_secs(10);

/// What decides about one camera's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Off,
    Every(Duration),
    OneIn(u64),
}

impl Sampling {
    /// Whether the values make sense together.
    ///
    /// # Errors
    /// In words, with the key.
    pub fn check(&self) -> Result<(), String> {
        let all = self
            .cameras
            .iter()
            .map(|(name, it)| (format!("archive.cameras.{name}"), it.every, it.one_in, it.zone.as_deref()));
        let own = ("archive".to_owned(), self.every, self.one_in, self.zone.as_deref());
        for (key, every, one_in, zone) in std::iter::once(own).chain(all) {
            if every.is_some() && one_in.is_some() {
                return Err(format!("{key}: `every` and `one_in` are two policies; keep one"));
            }
            if one_in == Some(0) {
                return Err(format!("{key}.one_in is 0, want a number from 1"));
            }
            if let Some(Err(error)) = zone.map(str::parse::<Zone>) {
                return Err(format!("{key}.zone: {error}"));
            }
        }
        if self.dir.is_none() && *self != Self::default() {
            return Err("archive.dir is missing: it says where the frames are kept".to_owned());
        }
        Ok(())
    }

    /// The camera's time zone.
    pub fn zone(&self, camera: &str) -> Zone {
        let own = self.cameras.get(camera).and_then(|it| it.zone.as_deref());
        own.or(self.zone.as_deref()).and_then(|text| text.parse().ok()).unwrap_or_else(Zone::utc)
    }

    /// What a camera may keep: its own limits, and everyone's where it has none.
    pub(super) fn keep(&self, camera: &str) -> Keep {
        let own = self.cameras.get(camera);
        let bytes = own.and_then(|it| it.keep_bytes).or(self.keep_bytes);
        let age = own.and_then(|it| it.keep_for).or(self.keep_for);
        Keep { age, bytes: bytes.map(|it| it.as_u64()) }
    }

    pub(super) fn policy(&self, camera: &str) -> Policy {
        let own = self.cameras.get(camera);
        if own.is_some_and(|it| it.off) {
            return Policy::Off;
        }
        let own = own.map_or((None, None), |it| (it.every, it.one_in));
        let said = if own == (None, None) { (self.every, self.one_in) } else { own };
        match said {
            (Some(every), _) => Policy::Every(every),
            (None, Some(count)) => Policy::OneIn(count),
            (None, None) => Policy::Every(EVERY),
        }
    }
}

/// What is remembered of one camera.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Frames since the last one that was kept.
    seen: u64,
    last: Option<Instant>,
}

impl State {
    /// Counts a frame; whether it is to be kept.
    pub(super) fn wants(&mut self, policy: Policy, now: Instant) -> bool {
        self.seen += 1;
        self.is_due(policy, now)
    }

    fn is_due(&self, policy: Policy, now: Instant) -> bool {
        match policy {
            Policy::Off => false,
            Policy::Every(every) => self.last.is_none_or(|last| now.saturating_duration_since(last) >= every),
            Policy::OneIn(count) => self.last.is_none() || self.seen >= count,
        }
    }

    /// Keeps a frame that was wanted, unless another one in flight was kept meanwhile.
    pub(super) fn take(&mut self, policy: Policy, now: Instant) -> bool {
        let due = self.is_due(policy, now);
        if due {
            (self.seen, self.last) = (0, Some(now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(text: &str) -> Sampling {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_camera_is_sampled_by_its_own_policy_or_by_everyones() {
        let sampling = sampling(
            "dir = 'a'\nevery = '5s'\n[cameras.gate]\none_in = 3\n[cameras.toilet]\noff = true\n[cameras.far]\nzone = '+01:00'",
        );
        assert_eq!(sampling.check(), Ok(()));
        assert_eq!(sampling.policy("plaza"), Policy::Every(Duration::from_secs(5)));
        assert_eq!(sampling.policy("gate"), Policy::OneIn(3));
        assert_eq!(sampling.policy("toilet"), Policy::Off);
        assert_eq!(sampling.policy("far"), Policy::Every(Duration::from_secs(5)));
        assert_eq!(
            (sampling.zone("far").to_string(), sampling.zone("gate").to_string()),
            ("+01:00".into(), "UTC".into())
        );
        assert_eq!(Sampling::default().policy("x"), Policy::Every(EVERY));
    }

    #[test]
    fn a_camera_keeps_as_long_as_it_may() {
        let sampling = sampling(
            "dir = 'a'\nkeep_for = '30days'\nkeep_bytes = '2GB'\n[cameras.gate]\nkeep_for = '1h'\nkeep_bytes = '1kB'",
        );
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(sampling.keep("plaza"), Keep { age: hours(720), bytes: Some(2_000_000_000) });
        assert_eq!(sampling.keep("gate"), Keep { age: hours(1), bytes: Some(1000) });
        let settings = Keep { age: hours(2), bytes: None };
        assert_eq!(sampling.keep("gate").stricter(settings), Keep { age: hours(1), bytes: Some(1000) });
        assert_eq!(
            settings.stricter(sampling.keep("plaza")),
            Keep { age: hours(2), bytes: Some(2_000_000_000) }
        );
    }

    #[test]
    fn samples_are_as_far_apart_as_wanted() {
        let start = Instant::now();
        let kept = |policy, step: u64| {
            let mut state = State::default();
            (0..20)
                .filter(|i| {
                    let now = start + Duration::from_millis(step * i);
                    state.wants(policy, now) && state.take(policy, now)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(Policy::Every(Duration::from_secs(1)), 250), [0, 4, 8, 12, 16]);
        assert_eq!(kept(Policy::OneIn(7), 1), [0, 7, 14]);
        assert!(kept(Policy::Off, 1000).is_empty());
        // Two frames in flight at one time: one is kept.
        let (mut state, policy) = (State::default(), Policy::Every(Duration::from_secs(1)));
        assert!(state.wants(policy, start) && state.wants(policy, start));
        assert!(state.take(policy, start) && !state.take(policy, start));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, want) in [
            ("every = '1s'", "archive.dir is missing"),
            ("dir = 'a'\nevery = '1s'\none_in = 2", "archive: `every` and `one_in`"),
            ("dir = 'a'\n[cameras.x]\none_in = 0", "archive.cameras.x.one_in is 0"),
            ("dir = 'a'\nzone = 'Mars'", "archive.zone: \"Mars\" is no time zone"),
        ] {
            let error = sampling(text).check().unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
