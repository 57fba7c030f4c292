//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>), and names as its guide wants them
//! (<https://prometheus.io/docs/practices/naming/>).

use std::fmt::{self, Display, Write as _};

use super::Histogram;

/// What a family of numbers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
    /// A sum and a count.
    Summary,
}

/// A page in the making. Each family is written once, with all its samples together.
#[derive(Debug, Default)]
pub struct Page(String);

/// A family that is being written.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

/// Names and values.
pub type Labels<'a> = [(&'static str, &'a str)];

impl Page {
    /// Begins a family: help on one line, without the name in it.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {kind}", escape(help, false));
        Family { page: &mut self.0, name }
    }

    /// A counter that has no labels.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(Kind::Counter, name, help).sample(&[], value);
    }

    /// A gauge that has no labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(Kind::Gauge, name, help).sample(&[], value);
    }

    /// Counters by the value of one label.
    pub fn counters<'a>(
        &mut self,
        name: &'static str,
        help: &str,
        label: &'static str,
        counts: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let mut family = self.family(Kind::Counter, name, help);
        counts.into_iter().for_each(|(value, count)| family.sample(&[(label, value)], count));
    }

    /// The finished page.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One number.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.write("", labels, None, &value);
    }

    /// A histogram: buckets that hold all smaller ones too, sum and count.
    pub fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        let tally = histogram.tally();
        let mut count = 0;
        let bounds = histogram.bounds().iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(tally.buckets) {
            count += bucket;
            self.write("_bucket", labels, Some(&bound), &count);
        }
        self.summary(labels, tally.sum, count);
    }

    /// A sum and a count.
    pub fn summary(&mut self, labels: &Labels<'_>, sum: f64, count: u64) {
        self.write("_sum", labels, None, &sum);
        self.write("_count", labels, None, &count);
    }

    fn write(&mut self, suffix: &str, labels: &Labels<'_>, bound: Option<&str>, value: &dyn Display) {
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<_> =
            labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value, true))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.page, "{}{suffix}{labels} {value}", self.name);
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        })
    }
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', r"\\").replace('\n', r"\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::SECONDS;
    use super::*;

    #[test]
    fn a_page_is_written_as_the_format_says() {
        let mut page = Page::default();
        page.counter("a_frames_total", "Frames.\nAll \\ of them.", 3);
        let mut family = page.family(Kind::Gauge, "a_info", "Who.");
        family.sample(&[("name", "a\"b\\c\nd"), ("id", "é")], 1.5);
        let histogram = Histogram::new(&[0.0005, 2.0]);
        [0.0001, 1.0, 1.0, 9.0].into_iter().for_each(|value| histogram.add(value));
        page.family(Kind::Histogram, "a_seconds", "Time.").histogram(&[("stage", "x")], &histogram);
        page.family(Kind::Summary, "b_seconds", "Time.").summary(&[], 0.25, 2);
        let expected = r#"# HELP a_frames_total Frames.\nAll \\ of them.
# TYPE a_frames_total counter
a_frames_total 3
# HELP a_info Who.
# TYPE a_info gauge
a_info{name="a\"b\\c\nd",id="é"} 1.5
# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_bucket{stage="x",le="0.0005"} 1
a_seconds_bucket{stage="x",le="2"} 3
a_seconds_bucket{stage="x",le="+Inf"} 4
a_seconds_sum{stage="x"} 11.0001
a_seconds_count{stage="x"} 4
# HELP b_seconds Time.
# TYPE b_seconds summary
b_seconds_sum 0.25
b_seconds_count 2
"#;
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn bounds_have_no_exponents_or_tails() {
        assert!(SECONDS.iter().all(|bound| bound.to_string().len() <= 6));
    }
}
