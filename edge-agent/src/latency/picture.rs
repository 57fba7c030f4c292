//! The report as a picture: SVG, written by hand, readable on light and dark pages.
//!
//! ```text
//! the frame at p50, one row a stage:   wait     ▏
//!                                      capture   ██
//!                                      …
//! the frames at p50, p95, p99, max:    p50      ██▒▒▒▒▒░
//!                                      …
//! ```

use std::fmt::Write as _;

use super::quantiles::millis;
use super::recorder::Sample;
use super::report::{Report, SHOWN, stages};

const WIDTH: f64 = 860.0;
const ROW: f64 = 22.0;
/// From the top of a row to the feet of its letters.
const BASELINE: f64 = 15.0;
const MARGIN: f64 = 16.0;
/// Top of the first row.
const FIRST: f64 = 76.0;
/// Where bars start and how long the longest is; labels stand on both sides.
const LEFT: f64 = 90.0;
const SPAN: f64 = WIDTH - LEFT - 90.0;
/// Marks of the time axis, about.
const MARKS: f64 = 8.0;

/// Middle tones keep their contrast on white and on black; the page behind is drawn too, in the reader's scheme.
const STYLE: &str = "\
svg{font:13px system-ui,sans-serif}\
.page{fill:#fff}text{fill:#1f2328}.dim{fill:#59636e}line{stroke:#d1d9e0}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#f0f6fc}.dim{fill:#9198a1}line{stroke:#3d444d}}";

/// One a stage, in the order of a frame's way.
const COLOURS: [&str; 11] = [
    "#8b949e", "#4e79a7", "#76b7b2", "#59a14f", "#d4a72c", "#f28e2b", "#e377c2", "#e15759", "#b07aa1",
    "#9c755f", "#17a2b8",
];

/// The report as a picture.
#[must_use]
pub fn svg(report: &Report) -> String {
    let second = FIRST + COLOURS.len() as f64 * ROW + 86.0;
    let height = second + SHOWN.len() as f64 * ROW + 36.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>Where a frame's \
         time goes</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    let frames = report.samples.len();
    let title = format!("Where a frame's time goes: {frames} frames from {}", report.source);
    text(&mut svg, (MARGIN, 26.0), "", &title);
    if let Some(asked) = &report.encoder {
        text(&mut svg, (MARGIN, 44.0), "dim", &format!("{} ({})", asked.address, asked.model));
    }
    waterfall(&mut svg, FIRST, report.at(50));
    text(&mut svg, (MARGIN, second - 10.0), "dim", "the frames at these percentiles, in the same colours");
    let axis = Axis::to(report.at(100).total());
    axis.draw(&mut svg, second, SHOWN.len() as f64 * ROW);
    for (row, (name, percent)) in SHOWN.into_iter().enumerate() {
        let y = second + row as f64 * ROW;
        text(&mut svg, (MARGIN, y + BASELINE), "", name);
        stacked(&mut svg, &axis, y, report.at(percent));
    }
    svg + "</svg>\n"
}

/// A row a stage, each from where the one before ended.
fn waterfall(svg: &mut String, top: f64, sample: &Sample) {
    let total = sample.total();
    text(svg, (MARGIN, top - 10.0), "dim", &format!("the frame at p50, {:.1} ms", millis(total)));
    let axis = Axis::to(total);
    axis.draw(svg, top, COLOURS.len() as f64 * ROW);
    let mut before = 0;
    for (stage, name) in stages() {
        let (y, micros) = (top + stage as f64 * ROW, sample.micros[stage].into());
        text(svg, (MARGIN, y + BASELINE), "", name);
        axis.bar(svg, (before, micros), y, COLOURS[stage]);
        before += micros;
        text(svg, (axis.x(before) + 6.0, y + BASELINE), "dim", &format!("{:.2}", millis(micros)));
    }
}

/// All stages of a frame in one row.
fn stacked(svg: &mut String, axis: &Axis, y: f64, sample: &Sample) {
    let mut before = 0;
    for (micros, colour) in sample.micros.into_iter().zip(COLOURS) {
        axis.bar(svg, (before, micros.into()), y, colour);
        before += u64::from(micros);
    }
    text(svg, (axis.x(before) + 6.0, y + BASELINE), "dim", &format!("{:.1} ms", millis(before)));
}

/// From time to place.
struct Axis {
    /// Microseconds at the right end.
    end: f64,
}

impl Axis {
    fn to(micros: u64) -> Self {
        Self { end: micros.max(1) as f64 }
    }

    fn x(&self, micros: u64) -> f64 {
        LEFT + micros as f64 / self.end * SPAN
    }

    fn bar(&self, svg: &mut String, (before, micros): (u64, u64), y: f64, colour: &str) {
        let (x, width) = (self.x(before), self.x(micros) - LEFT);
        if micros > 0 {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                y + 3.0,
                width.max(1.0),
                ROW - 6.0
            );
        }
    }

    /// Lines at round times, under bars of this height.
    fn draw(&self, svg: &mut String, y: f64, height: f64) {
        let step = round_step(self.end / 1e3 / MARKS);
        let mut at = 0.0;
        while at <= self.end / 1e3 {
            let x = LEFT + at * 1e3 / self.end * SPAN;
            let bottom = y + height + 4.0;
            let _ = writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>");
            // As many digits as the step has, which is at least a thousandth.
            let label = format!("{at:.3}");
            text(svg, (x - 4.0, bottom + 14.0), "dim", label.trim_end_matches('0').trim_end_matches('.'));
            at += step;
        }
        text(svg, (LEFT + SPAN + 40.0, y + height + 18.0), "dim", "ms");
    }
}

/// The next of 1, 2, 5 times a power of ten, at least a microsecond; milliseconds.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(0.001).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\"{class}>{}</text>", escape(words));
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, step) in
            [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (6.0, 10.0), (0.03, 0.05), (0.0, 0.001)]
        {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn every_time_that_took_any_is_a_bar_and_names_stay_text() {
        let picture = svg(&report(Some(10.0), &[(0, 20), (4, 50), (5, 20)]));
        assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
        // The page, two stages of the frame at p50, and two of each of four frames.
        assert_eq!(picture.matches("<rect").count(), 1 + 2 + 8);
        assert!(picture.contains("3 frames from a&amp;b") && picture.contains("(m &lt;1&gt;)"));
        assert!(picture.contains("prefers-color-scheme:dark"));
        // The encoder's 19 of 20 ms in the top half, right of the network's 1.
        assert!(picture.contains("<rect x=\"124.0\" y=\"233.0\" width=\"646.0\""), "{picture}");
    }

    #[test]
    fn a_frame_that_took_no_time_is_still_a_picture() {
        let picture = svg(&report(None, &[(0, 1)]));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
