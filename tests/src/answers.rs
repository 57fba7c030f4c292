//! Reading what `edge-agent run` prints, and summing it up.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One JSON line of the agent: an answer, a stale repetition, a head's error or a dropped frame.
#[derive(Debug, Clone, Deserialize)]
pub struct Line {
    /// The camera's name.
    pub camera: String,
    /// The frame's number on this agent.
    pub seq: u64,
    /// When the frame was captured, RFC 3339.
    pub captured_at: String,
    /// The frame's file, where the source is files.
    pub frame: Option<String>,
    /// The head that answered.
    pub head: Option<String>,
    /// Its release, 12 hex digits.
    pub release: Option<String>,
    /// The answer.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: Option<String>,
    /// Where the truth is expected to lie, `[low, high]`.
    pub interval: Option<[f64; 2]>,
    /// Whether this repeats an older answer because the link is down.
    pub stale: Option<bool>,
    /// Milliseconds from capture to this line.
    pub age_ms: Option<f64>,
    /// Milliseconds by stage.
    pub ms: Option<BTreeMap<String, f64>>,
    /// Why the frame got no answer.
    pub dropped: Option<String>,
    /// Why the head gave no answer.
    pub error: Option<String>,
}

impl Line {
    /// Parses one line.
    ///
    /// # Errors
    /// The line is not one of the agent's.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whether this is a fresh answer of a head.
    pub fn is_answer(&self) -> bool {
        self.value.is_some() && self.stale == Some(false)
    }
}

/// The stages of a frame's way, in order, as the agent names them.
pub const STAGES: [&str; 9] =
    ["capture", "prepare", "send", "network", "queue", "decode", "encode", "reply", "heads"];

/// The `q`-quantile (0 to 1) by linear interpolation; `None` without values.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = q * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// Distance on a circle of `period`, at most half of it.
pub fn circular_distance(a: f64, b: f64, period: f64) -> f64 {
    let gap = (a - b).rem_euclid(period);
    gap.min(period - gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[0.0, 1.0], 0.95), Some(0.95));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn midnight_is_near_itself() {
        assert_eq!(circular_distance(1430.0, 10.0, 1440.0), 20.0);
        assert_eq!(circular_distance(10.0, 1430.0, 1440.0), 20.0);
    }

    #[test]
    fn lines_are_told_apart() {
        let answer = r#"{"camera":"a","seq":1,"captured_at":"2026-06-01T00:00:00.000Z","head":"people-count",
            "release":"0123456789ab","value":2.5,"unit":"people","interval":null,"stale":false,"age_ms":12.0,"ms":{}}"#;
        assert!(Line::parse(answer).unwrap().is_answer());
        let dropped =
            r#"{"camera":"a","seq":2,"captured_at":"2026-06-01T00:00:00.000Z","dropped":"no link"}"#;
        let dropped = Line::parse(dropped).unwrap();
        assert!(!dropped.is_answer() && dropped.dropped.is_some());
    }
}
