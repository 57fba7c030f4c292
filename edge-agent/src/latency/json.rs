//! The report for programs. Keys are append-only.

use serde::{Serialize, Serializer};

use super::quantiles::{Quantiles, millis};
use super::recorder::Sample;
use super::report::{Report, stages};

#[derive(Serialize)]
struct File<'a> {
    source: &'a str,
    encoder: Option<&'a str>,
    model: Option<&'a str>,
    round_trip_ms: Option<f64>,
    /// Frames a second.
    rate: Option<f64>,
    warm_up: u64,
    answered: usize,
    missed: u64,
    /// All that follow are milliseconds.
    total: Quantiles,
    every_frame: Option<Quantiles>,
    stages: Vec<Row>,
    /// The network by way, and how much more or less each frame's may be at most.
    network_up: Option<Quantiles>,
    network_down: Option<Quantiles>,
    one_way_within_ms: Option<f64>,
    frames: Vec<Waterfall<'a>>,
    /// The same over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Box<File<'a>>>,
}

#[derive(Serialize)]
struct Row {
    stage: &'static str,
    #[serde(flatten)]
    times: Quantiles,
}

/// One frame, by stage.
struct Waterfall<'a>(&'a Sample);

impl Serialize for Waterfall<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Sample { seq, micros, .. } = self.0;
        let whole = [("seq", serde_json::Number::from(*seq)), ("total", number(self.0.total()))];
        serializer.collect_map(
            whole.into_iter().chain(stages().map(|(at, name)| (name, number(micros[at].into())))),
        )
    }
}

fn number(micros: u64) -> serde_json::Number {
    serde_json::Number::from_f64(millis(micros)).expect("a quotient of an integer is finite")
}

/// The report as one JSON object, with every frame's waterfall.
#[must_use]
pub fn json(report: &Report) -> String {
    serde_json::to_string(&file(report)).expect("strings and finite numbers always serialize") + "\n"
}

fn file(report: &Report) -> File<'_> {
    let (asked, ways) = (report.encoder.as_ref(), report.one_way());
    File {
        source: &report.source,
        encoder: asked.map(|asked| asked.address.as_str()),
        model: asked.map(|asked| asked.model.as_str()),
        round_trip_ms: asked.map(|asked| asked.round_trip.as_secs_f64() * 1e3),
        rate: report.rate,
        warm_up: report.warm_up,
        answered: report.samples.len(),
        missed: report.missed(),
        total: report.total(),
        every_frame: report.every_frame(),
        stages: stages().map(|(at, stage)| Row { stage, times: report.stage(at) }).collect(),
        network_up: ways.map(|ways| ways.up),
        network_down: ways.map(|ways| ways.down),
        one_way_within_ms: ways.map(|ways| ways.within_ms),
        frames: report.samples.iter().map(Waterfall).collect(),
        tcp: report.tcp.as_deref().map(|tcp| Box::new(file(tcp))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn every_frame_has_its_waterfall() {
        let value: serde_json::Value =
            serde_json::from_str(&json(&report(Some(10.0), &[(3, 20), (5, 30)]))).unwrap();
        assert_eq!(
            (&value["answered"], &value["missed"], &value["rate"]),
            (&2.into(), &1.into(), &10.0.into())
        );
        assert_eq!((&value["total"]["max"], &value["every_frame"]["max"]), (&30.0.into(), &130.0.into()));
        assert_eq!(
            (&value["network_up"]["p50"], &value["network_down"]["p50"], &value["one_way_within_ms"]),
            (&0.6.into(), &0.4.into(), &0.15.into())
        );
        let names: Vec<_> =
            value["stages"].as_array().unwrap().iter().map(|row| row["stage"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), "wait capture prepare send network queue decode encode reply heads sink");
        let frame = value["frames"][1].as_object().unwrap();
        assert_eq!(
            (&frame["seq"], &frame["total"], &frame["encode"]),
            (&5.into(), &30.0.into(), &29.0.into())
        );
        let sum: f64 = names.iter().map(|&name| frame[name].as_f64().unwrap()).sum();
        assert!((sum - 30.0).abs() < 1e-9);
    }
}
