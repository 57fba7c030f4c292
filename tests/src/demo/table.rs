//! The live table: truth against answers, and where the milliseconds went.

use std::collections::HashMap;

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

    pub(super) fn add(&mut self, line: &Line) {
        if let Some(reason) = &line.dropped {
            println!("{:>5}  dropped: {reason}", line.seq);
        } else if line.is_answer() {
            if self.frame != Some(line.seq) {
                self.lines.clear();
                self.frame = Some(line.seq);
            }
            self.lines.push(line.clone());
            // The demo loads two heads, so a frame has two lines.
            if self.lines.len() == 2 {
                self.row();
            }
        }
    }

    fn row(&mut self) {
        if self.rows.is_multiple_of(ROWS_PER_HEADING) {
            println!("{}", heading());
        }
        self.rows += 1;
        let line = &self.lines[0];
        let truth = line.frame.as_deref().and_then(|file| self.truth.get(file));
        let value = |unit: &str| {
            self.lines.iter().find(|line| line.unit.as_deref() == Some(unit)).and_then(|line| line.value)
        };
        let count = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
        let clock = |minute: Option<f64>| minute.map_or("-".into(), hours);
        let ms = line.ms.clone().unwrap_or_default();
        let stages: Vec<String> =
            STAGES.iter().map(|stage| format!("{:>7.1}", ms.get(*stage).copied().unwrap_or(0.0))).collect();
        println!(
            "{:>5} {:>6} {:>6} {:>7} {:>7} {:>8.1} |{}",
            line.seq,
            truth.map_or("-".into(), |truth| truth.count.to_string()),
            count(value("people")),
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
        "{:>5} {:>6} {:>6} {:>7} {:>7} {:>8} |{}  (ms)",
        "frame",
        "people",
        "answer",
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
