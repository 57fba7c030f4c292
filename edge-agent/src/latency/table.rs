//! The report for a terminal.

use std::fmt::Write as _;

use super::quantiles::{Quantiles, millis};
use super::report::{NETWORK, OneWays, Report, stages};

/// Columns of the waterfall.
const BAR: usize = 40;

/// The report as lines of text: percentiles by stage, and beside them the waterfall of the frame at p50.
///
/// With a run over TCP, that follows, and the quotient of what a reader waits for.
#[must_use]
pub fn table(report: &Report) -> String {
    let Some(tcp) = &report.tcp else { return one(report) };
    let mut text = format!("Over QUIC: {}\nOver TCP: {}\n", one(report), one(tcp));
    let (quic, tcp) = (report.waits(), tcp.waits());
    let quotients = [(quic.p50, tcp.p50), (quic.p95, tcp.p95), (quic.p99, tcp.p99), (quic.max, tcp.max)];
    let [p50, p95, p99, max] = quotients.map(|(quic, tcp)| format!("{:.2}", quic / tcp));
    let of = if report.rate.is_some() { "every" } else { "total" };
    line(
        &mut text,
        &["QUIC/TCP".to_owned(), p50, p95, p99, max],
        &format!("of {of}: below 1, QUIC is faster"),
    );
    text
}

fn one(report: &Report) -> String {
    let typical = report.at(50);
    let total = typical.total();
    let mut text = headline(report);
    let caption = format!("frame {}, at p50: {:.1} ms", typical.seq, millis(total));
    line(&mut text, &["ms", "p50", "p95", "p99", "max"].map(str::to_owned), &caption);
    let mut before = 0;
    for (stage, name) in stages() {
        let micros = typical.micros[stage].into();
        row(&mut text, name, &report.stage(stage), &bar(before, micros, total));
        if let Some(ways) = report.one_way().filter(|_| stage == NETWORK) {
            row(&mut text, "  up", &ways.up, "");
            row(&mut text, "  down", &ways.down, "");
        }
        before += micros;
    }
    row(&mut text, "total", &report.total(), "");
    if let Some(every) = report.every_frame() {
        row(&mut text, "every", &every, "");
    }
    text.push_str(&notes(report));
    text
}

fn headline(report: &Report) -> String {
    let frames = report.samples.len();
    let rate = report.rate.map_or_else(String::new, |rate| format!(", {rate} a second"));
    let encoder = report.encoder.as_ref().map_or_else(String::new, |asked| {
        let round_trip = asked.round_trip.as_secs_f64() * 1e3;
        format!(" to {} ({}), round trip {round_trip:.1} ms", asked.address, asked.model)
    });
    format!(
        "{frames} frames{rate}, from {}{encoder}; {} before them for warm-up\n",
        report.source, report.warm_up
    )
}

fn row(text: &mut String, name: &str, Quantiles { p50, p95, p99, max, .. }: &Quantiles, bar: &str) {
    let [p50, p95, p99, max] = [p50, p95, p99, max].map(|ms| format!("{ms:.2}"));
    line(text, &[name.to_owned(), p50, p95, p99, max], bar);
}

fn line(text: &mut String, [name, p50, p95, p99, max]: &[String; 5], bar: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", format!("{name:<8} {p50:>9} {p95:>9} {p99:>9} {max:>9}   {bar}").trim_end());
}

/// The part from `before` on, of the width of all; what is shorter than a column is a mark.
fn bar(before: u64, micros: u64, total: u64) -> String {
    let column = |micros: u64| (micros as f64 / total.max(1) as f64 * BAR as f64).round() as usize;
    let (start, end) = (column(before).min(BAR - 1), column(before + micros));
    let filled = if end > start { "█".repeat(end - start) } else { "▏".to_owned() };
    if micros == 0 { String::new() } else { " ".repeat(start) + &filled }
}

fn notes(report: &Report) -> String {
    let mut notes = match (report.rate, report.missed()) {
        (Some(_), missed) => format!(
            "total: of answered frames, from when each was due. every: of all that were due, until it or a newer one was \
             answered; {missed} were given up for newer ones.\n"
        ),
        (None, 0) => "total: from when reading a frame began.\n".to_owned(),
        (None, missed) => {
            format!("total: of answered frames, from when reading each began; {missed} were not answered.\n")
        }
    };
    if let Some(OneWays { within_ms, .. }) = report.one_way() {
        notes += &format!(
            "up, down: the network by way, at most {within_ms:.2} ms more or less: no two clocks were taken to agree, nor two \
             ways to take as long.\n"
        );
    }
    if report.samples.len() < 100 {
        notes += "Of fewer than 100 frames, p99 is the slowest one.\n";
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn the_table_is_for_reading() {
        let text = table(&report(Some(10.0), &[(0, 20), (4, 50), (5, 20)]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "3 frames, 10 a second, from a&b to enc:1 (m <1>), round trip 2.0 ms; 2 before them for warm-up"
        );
        assert_eq!(lines[1], "ms             p50       p95       p99       max   frame 5, at p50: 20.0 ms");
        assert_eq!(lines[2], "wait          0.00      0.00      0.00      0.00");
        assert_eq!(lines[6], "network       1.00      1.00      1.00      1.00   ██");
        assert_eq!(lines[7], "  up          0.60      0.60      0.60      0.60");
        assert_eq!(lines[8], "  down        0.40      0.40      0.40      0.40");
        let encode = format!("encode       19.00     49.00     49.00     49.00     {}", "█".repeat(38));
        assert_eq!(lines[11], encode);
        assert_eq!(lines[15], "total        20.00     50.00     50.00     50.00");
        assert_eq!(lines[16], "every        50.00    350.00    350.00    350.00");
        assert!(lines[17].contains("3 were given up") && lines[18].contains("at most 0.15 ms"), "{text}");
        let closed = table(&report(None, &[(0, 20)]));
        assert!(!closed.contains("every ") && closed.contains("p99 is the slowest"), "{closed}");
    }

    #[test]
    fn two_runs_are_set_against_each_other() {
        let mut both = report(Some(10.0), &[(0, 20), (1, 30)]);
        both.tcp = Some(Box::new(report(Some(10.0), &[(0, 40), (1, 40)])));
        let text = table(&both);
        assert!(text.starts_with("Over QUIC: 2 frames") && text.contains("\nOver TCP: 2 frames"), "{text}");
        let last = text.lines().last().unwrap();
        let wanted = "QUIC/TCP      0.50      0.75      0.75      0.75   of every: below 1, QUIC is faster";
        assert_eq!(last, wanted);
    }

    #[test]
    fn bars_follow_each_other_and_stay_inside() {
        assert_eq!(bar(0, 0, 100), "");
        assert_eq!(bar(0, 50, 100), "█".repeat(20));
        assert_eq!(bar(50, 50, 100), " ".repeat(20) + &"█".repeat(20));
        assert_eq!(bar(99_999, 1, 100_000), " ".repeat(39) + "█");
        assert_eq!(bar(10, 1, 100_000), "▏");
        assert_eq!(bar(0, 0, 0), "");
    }
}
