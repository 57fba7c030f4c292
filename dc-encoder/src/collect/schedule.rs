//! When: `always`, or times of day in the camera's zone such as `06:00-20:00,22:00-02:00`. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::archive::Zone;

/// Minutes of a day.
const DAY: f64 = 1440.0;

/// Stretches of the day; none: always.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schedule {
    /// From and to, in minutes since midnight; over midnight where the end is not after the beginning.
    windows: Vec<(f64, f64)>,
}

/// Why a text is no [`Schedule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no schedule: write always, or times of day such as 06:00-20:00 or 06:00-09:00,16:00-19:30")]
pub struct ParseScheduleError(String);

impl Schedule {
    /// How long nothing is to be collected from `now` on; zero within a window.
    pub fn closed_for(&self, now: Timestamp, zone: &Zone) -> Duration {
        let minute = zone.minute_of_day(now);
        let open = |(from, to): &(f64, f64)| {
            if from < to { (*from..*to).contains(&minute) } else { minute >= *from || minute < *to }
        };
        if self.windows.is_empty() || self.windows.iter().any(open) {
            return Duration::ZERO;
        }
        let wait = self.windows.iter().map(|(from, _)| (from - minute).rem_euclid(DAY)).fold(DAY, f64::min);
        Duration::from_secs_f64(wait * 60.0)
    }
}

impl FromStr for Schedule {
    type Err = ParseScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "always" {
            return Ok(Self::default());
        }
        let window = |text: &str| {
            let (from, to) = text.split_once('-')?;
            let (from, to) = (minute(from)?, minute(to)?);
            (from < DAY && from != to).then_some((from, to))
        };
        let windows = text.split(',').map(window).collect::<Option<Vec<_>>>();
        windows.map(|windows| Self { windows }).ok_or_else(|| ParseScheduleError(text.to_owned()))
    }
}

/// `HH:MM`, to `24:00`.
fn minute(text: &str) -> Option<f64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let plain = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes): (u32, u32) =
        (plain(hours) && plain(minutes)).then(|| Some((hours.parse().ok()?, minutes.parse().ok()?)))??;
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 1440).then_some(f64::from(minute))
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.windows.is_empty() {
            return f.write_str("always");
        }
        let time = |minute: f64| format!("{:02}:{:02}", minute as u32 / 60, minute as u32 % 60);
        let windows: Vec<String> =
            self.windows.iter().map(|(from, to)| format!("{}-{}", time(*from), time(*to))).collect();
        f.write_str(&windows.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(schedule: &str, at: &str) -> u64 {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.closed_for(at.parse().unwrap(), &"+02:00".parse().unwrap()).as_secs() / 60
    }

    #[test]
    fn windows_are_times_of_day_at_the_camera() {
        for (schedule, at, minutes) in [
            ("always", "2026-06-01T00:00:00Z", 0),
            ("06:00-20:00", "2026-06-01T04:00:00Z", 0),
            ("06:00-20:00", "2026-06-01T03:30:00Z", 30),
            ("06:00-20:00", "2026-06-01T18:00:00Z", 600),
            ("22:00-02:00", "2026-06-01T23:30:00Z", 0),
            ("22:00-02:00", "2026-06-01T00:00:00Z", 20 * 60),
            ("06:00-07:00,09:00-10:00", "2026-06-01T06:00:00Z", 60),
            ("00:00-24:00", "2026-06-01T23:59:00Z", 0),
        ] {
            assert_eq!(closed(schedule, at), minutes, "{schedule} at {at}");
            assert_eq!(schedule.parse::<Schedule>().unwrap().to_string(), schedule);
        }
        for bad in ["", "6-20", "06:00", "06:00-06:00", "25:00-26:00", "06:60-07:00", "06:00-20:00,"] {
            assert!(bad.parse::<Schedule>().unwrap_err().to_string().contains("is no schedule"), "{bad}");
        }
    }
}
