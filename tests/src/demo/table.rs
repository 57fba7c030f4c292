//! The live table: truth against answers, and where the milliseconds went.

use std::collections::HashMap;

use super::swap;
use crate::{
    answers::{Line, STAGES},
    plaza::{Truth, dataset::Labelled},
};

/// The table repeats its heading after this many rows.
const ROWS_PER_HEADING: usize = 25;

/// Gathers the lines of one frame (one per head) and prints a row when they are complete.
#[derive(Debug)]
pub(super) struct Table<'a> {
    truth: HashMap<&'a str, &'a Truth>,
    frame: Option<u64>,
    lines: Vec<Line>,
    rows: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(truth: &'a [Labelled]) -> Self {
        let truth = truth.iter().map(|labelled| (labelled.file.as_str(), &labelled.truth)).collect();
        Self { truth, frame: None, lines: Vec::new(), rows: 0 }
    }

    /// Rows printed so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn add(&mut self, line: &Line) {
        if self.frame != Some(line.seq) {
            self.finish();
            self.frame = Some(line.seq);
        }
        if let Some(reason) = &line.dropped {
            println!("{:>5}  dropped: {reason}", line.seq);
        } else if line.is_answer() {
            self.lines.push(line.clone());
            // Two heads answer a frame; the first frames come before the pushed one.
            if self.lines.len() == 2 {
                self.finish();
            }
        }
    }

    /// Prints the frame whose lines are here.
    pub(super) fn finish(&mut self) {
        if !self.lines.is_empty() {
            self.row();
            self.lines.clear();
        }
    }

    fn row(&mut self) {
        if self.rows.is_multiple_of(ROWS_PER_HEADING) {
            println!("{}", heading());
        }
        self.rows += 1;
        let line = &self.lines[0];
        let truth = line.frame.as_deref().and_then(|file| self.truth.get(file));
        let of = |unit: &str| self.lines.iter().find(|line| line.unit.as_deref() == Some(unit));
        let value = |unit: &str| of(unit).and_then(|line| line.value);
        let release =
            of(swap::UNIT).and_then(|line| line.release.as_deref()).and_then(|digits| digits.get(..6));
        let count = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
        let clock = |minute: Option<f64>| minute.map_or("-".into(), hours);
        let ms = line.ms.clone().unwrap_or_default();
        let stages: Vec<String> =
            STAGES.iter().map(|stage| format!("{:>7.1}", ms.get(*stage).copied().unwrap_or(0.0))).collect();
        println!(
            "{:>5} {:>6} {:>6} {:>7} {:>7} {:>7} {:>8.1} |{}",
            line.seq,
            truth.map_or("-".into(), |truth| truth.count.to_string()),
            count(value(swap::UNIT)),
            release.unwrap_or("-"),
            clock(truth.map(|truth| truth.minute_of_day)),
            clock(value("min")),
            line.age_ms.unwrap_or(0.0),
            stages.join(""),
        );
    }
}

fn heading() -> String {
    let stages: Vec<String> = STAGES.iter().map(|stage| format!("{stage:>7.7}")).collect();
    format!(
        "{:>5} {:>6} {:>6} {:>7} {:>7} {:>7} {:>8} |{}  (ms)",
        "frame",
        "people",
        "answer",
        "release",
        "clock",
        "answer",
        "total",
        stages.join("")
    )
}

fn hours(minute: f64) -> String {
    let minute = minute.rem_euclid(1440.0) as u32;
    format!("{:02}:{:02}", minute / 60, minute % 60)
}
