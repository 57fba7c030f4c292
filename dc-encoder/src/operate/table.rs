//! What an operator reads: where channels stand, and how cameras do.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use protocol::{AuditEntry, CameraHead, ChannelState, HistoryEntry, Moments, ReleaseId};
use shared::release::Share;

use crate::registry::read_assignment;

/// Lines of a history that are shown.
const HISTORY_LINES: usize = 8;

const COLUMNS: [&str; 8] =
    ["CAMERA", "HEAD", "WANTED", "ACTIVE", "SINCE", "ANSWERS/S", "VALUES (BEFORE)", "LAST ERROR"];

/// A channel's lines: what it gives to whom, and how far the rollout has come.
#[must_use]
pub fn channel(state: &ChannelState, now: Timestamp) -> String {
    let ChannelState { channel, phase, reason, .. } = state;
    let share = Share::from_thousandths(state.share).unwrap_or(Share::NONE);
    let ago = ago(now, state.since_us);
    let given = match read_assignment(&state.assignment) {
        Ok(assignment) => {
            let cameras: Vec<String> = assignment.cameras.iter().map(ToString::to_string).collect();
            let cameras = if cameras.is_empty() { "no camera".to_owned() } else { cameras.join(", ") };
            let others = assignment.fallback.map_or("none".to_owned(), |release| release.short());
            let back = if assignment.rollback { " (rollback)" } else { "" };
            format!(
                "assignment {}{back}: release {} for {share} of {cameras}, fallback {others}",
                assignment.counter,
                assignment.release.short()
            )
        }
        Err(error) => error.to_string(),
    };
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{channel}  {given}\n  {phase} since {ago}{why}\n")
}

/// The newest lines of a history.
#[must_use]
pub fn history(entries: &[HistoryEntry], now: Timestamp) -> String {
    entries.iter().take(HISTORY_LINES).fold(String::new(), |mut text, entry| {
        let HistoryEntry { counter, release, by, what, at_us, .. } = entry;
        let _ =
            writeln!(text, "  {counter:>4}  {}  {what}, by {by}, {} ago", release.short(), ago(now, *at_us));
        text
    })
}

/// A line of the audit log: when, who, what.
#[must_use]
pub fn audit(entry: &AuditEntry) -> String {
    let AuditEntry { by, what, at_us } = entry;
    // Any number of a server's clock is printed.
    let at = Timestamp::from_microsecond(*at_us).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.0}  {by}  {what}\n")
}

/// One line for each head of each camera, aligned.
#[must_use]
pub fn cameras(heads: &[CameraHead]) -> String {
    let rows: Vec<[String; 8]> = heads.iter().map(row).collect();
    let mut widths = COLUMNS.map(|name| name.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 8]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    std::iter::once(&COLUMNS.map(str::to_owned)).chain(&rows).map(line).collect()
}

fn row(head: &CameraHead) -> [String; 8] {
    let CameraHead { camera, connected, heard_ms, report, before } = head;
    let short = |release: Option<ReleaseId>| release.map_or("-".to_owned(), |release| release.short());
    let pinned = if report.pinned { " pinned" } else { "" };
    let offline = format!("{camera} (offline, heard {} ago)", rough(Duration::from_millis(*heard_ms)));
    let active_for = Duration::from_millis(report.active_for_ms);
    let rate = report.answers as f64 / active_for.as_secs_f64().max(f64::MIN_POSITIVE);
    let error = match (report.failed, report.error.is_empty()) {
        (Some(failed), _) => format!("{} does not run: {}", failed.short(), report.error),
        (None, false) => report.error.clone(),
        (None, true) if report.failures > 0 => format!("{} frames failed", report.failures),
        (None, true) => String::new(),
    };
    let is_active = report.active.is_some();
    [
        if *connected { camera.clone() } else { offline },
        if report.channel.is_empty() { format!("{} (local)", report.head) } else { report.channel.clone() },
        short(report.wanted),
        format!("{}{pinned}", short(report.active)),
        if is_active { rough(active_for) } else { "-".to_owned() },
        if is_active { format!("{rate:.1}") } else { "-".to_owned() },
        format!("{} ({})", values(&report.values), values(before)),
        error,
    ]
}

fn values(moments: &Moments) -> String {
    match moments.count {
        0 => "-".to_owned(),
        _ => format!("{:.2} ± {:.2}", moments.mean, moments.variance().sqrt()),
    }
}

fn ago(now: Timestamp, then_us: i64) -> String {
    let us = u64::try_from(now.as_microsecond().saturating_sub(then_us)).unwrap_or(0);
    rough(Duration::from_micros(us))
}

/// Two units at most: nobody reads seconds of a day.
fn rough(time: Duration) -> String {
    let s = time.as_secs();
    let (big, small) = match s {
        0..60 => return format!("{s}s"),
        60..3600 => ((s / 60, "m"), (s % 60, "s")),
        3600..86_400 => ((s / 3600, "h"), (s / 60 % 60, "m")),
        _ => ((s / 86_400, "d"), (s / 3600 % 24, "h")),
    };
    format!("{}{} {}{}", big.0, big.1, small.0, small.1)
}

/// Whether a camera has done what it was told, or never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It runs what is wanted, or its head is pinned.
    Yes,
    /// It goes on with another release, and says why.
    Failed,
    /// Not yet.
    No,
}

/// Judges a camera's last report; `counter`: of the channel's newest assignment.
#[must_use]
pub fn settled(head: &CameraHead, counter: u64) -> Settled {
    let report = &head.report;
    if report.counter < counter {
        return Settled::No;
    }
    match report.failed {
        Some(failed) if Some(failed) == report.wanted => Settled::Failed,
        _ if report.pinned || report.wanted == report.active => Settled::Yes,
        _ => Settled::No,
    }
}

#[cfg(test)]
mod tests {
    use protocol::HeadReport;

    use super::*;

    fn head() -> CameraHead {
        let release = Some(ReleaseId([0xab; 32]));
        let report = HeadReport {
            head: "people-count".into(),
            channel: "people-count@stable".into(),
            counter: 3,
            wanted: release,
            active: release,
            pinned: false,
            failed: None,
            error: String::new(),
            active_for_ms: 125_000,
            answers: 250,
            failures: 0,
            values: Moments { count: 250, mean: 4.0, squares: 1000.0 },
            flops: 0,
        };
        CameraHead {
            camera: "plaza-1".into(),
            connected: true,
            heard_ms: 9,
            report,
            before: Moments::default(),
        }
    }

    #[test]
    fn a_camera_is_one_line() {
        let text = cameras(&[head()]);
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("CAMERA   HEAD"));
        let cells: Vec<&str> = lines.next().unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        let want = [
            "plaza-1",
            "people-count@stable",
            "abababababab",
            "abababababab",
            "2m 5s",
            "2.0",
            " 4.00 ± 2.00 (-)",
        ];
        assert_eq!(cells.iter().map(|cell| cell.trim()).collect::<Vec<_>>(), want.map(str::trim));
    }

    #[test]
    fn a_pinned_head_an_error_and_an_absent_camera_are_said() {
        let mut other = head();
        other.connected = false;
        other.report.pinned = true;
        other.report.failed = other.report.wanted;
        other.report.error = "it yields NaN".into();
        let text = cameras(&[head(), other]);
        for part in ["abababababab pinned", "does not run: it yields NaN", "plaza-1 (offline, heard 0s ago)"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_camera_is_settled_by_the_newest_assignment_only() {
        let mut head = head();
        assert_eq!((settled(&head, 3), settled(&head, 4)), (Settled::Yes, Settled::No));
        head.report.active = None;
        assert_eq!(settled(&head, 3), Settled::No);
        head.report.failed = head.report.wanted;
        assert_eq!(settled(&head, 3), Settled::Failed);
    }
}
