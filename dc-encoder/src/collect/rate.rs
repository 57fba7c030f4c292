//! How often: `2` (a second), `1/10s`, `6/1min`.

use std::fmt;
use std::str::FromStr;

/// Frames a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

/// Why a text is no [`Rate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rate: write frames a second (2, 0.5), or frames per time (1/10s, 6/1min), at most 100 a second"
)]
pub struct ParseRateError(String);

impl Rate {
    /// Frames a second.
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (frames, time) = match text.split_once('/') {
                Some((frames, time)) => (frames, humantime::parse_duration(time.trim()).ok()?.as_secs_f64()),
                None => (text, 1.0),
            };
            let rate = frames.trim().parse::<f64>().ok()? / time;
            // Once a day at least, or nobody would notice that it does not work.
            (1.0 / 86_400.0..=100.0).contains(&rate).then_some(Self(rate))
        };
        parse().ok_or_else(|| ParseRateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_or_explained() {
        for (text, rate) in
            [("2", 2.0), ("0.5", 0.5), ("1/10s", 0.1), ("6/1min", 0.1), ("1/1day", 1.0 / 86_400.0)]
        {
            assert!((text.parse::<Rate>().unwrap().per_second() - rate).abs() < 1e-12, "{text}");
        }
        for text in ["", "0", "-1", "1/", "1/soon", "200", "nan", "1/0s", "1/2days"] {
            assert!(text.parse::<Rate>().unwrap_err().to_string().contains("is no rate"), "{text}");
        }
    }
}
