//! What has been done so far, in words, every so often. Pure: `now` comes from outside.

use std::time::{Duration, Instant};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// What was collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames in the archive now that were not there.
    pub kept: u64,
    /// Frames with bytes that were there already.
    pub same: u64,
    /// Frames that looked like the last one.
    pub alike: u64,
    /// Frames that could not be read.
    pub unreadable: u64,
    /// Frames given up because their store did not take them for too long.
    pub refused: u64,
    /// Frames removed because they were too old or too much.
    pub removed: u64,
}

impl Summary {
    /// What became of the frames that were not kept.
    pub fn rest(&self) -> String {
        let Self { same, alike, unreadable, refused, removed, .. } = self;
        let refused = match refused {
            0 => String::new(),
            some => format!(", {some} given up because they could not be stored"),
        };
        format!(
            "{same} were there, {alike} looked like the last one, {unreadable} unreadable{refused}, {removed} removed"
        )
    }

    /// Frames that came, whatever became of them.
    fn frames(&self) -> u64 {
        self.kept + self.same + self.alike + self.unreadable + self.refused
    }
}

/// When a line is due, and what it says.
#[derive(Debug)]
pub(super) struct Progress {
    said: Instant,
    before: Summary,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self { said: now, before: Summary::default() }
    }

    /// The first frame's line at once, and then one a minute.
    pub(super) fn line(&mut self, so_far: &Summary, waiting: usize, now: Instant) -> Option<String> {
        let first = self.before.frames() == 0 && so_far.frames() > 0;
        let minute = now.saturating_duration_since(self.said) >= EVERY;
        if !first && !minute {
            return None;
        }
        let (kept, came) = (so_far.kept - self.before.kept, so_far.frames() - self.before.frames());
        (self.said, self.before) = (now, *so_far);
        Some(match (first, came) {
            (true, _) => "frames come".to_owned(),
            (_, 0) if waiting == 0 => format!("no frame in the last minute; so far {}", words(so_far)),
            _ => {
                let waiting =
                    if waiting > 0 { format!(", {waiting} wait to be stored") } else { String::new() };
                format!("{kept} of {came} frames kept in the last minute{waiting}; so far {}", words(so_far))
            }
        })
    }
}

fn words(so_far: &Summary) -> String {
    format!("{} kept, {}", so_far.kept, so_far.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_says_what_became_of_every_frame() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(start);
        let mut line = |so_far: Summary, waiting, seconds| progress.line(&so_far, waiting, at(seconds));
        assert_eq!(line(Summary::default(), 0, 5), None);
        let first = Summary { kept: 3, ..Summary::default() };
        assert_eq!(line(first, 0, 6).as_deref(), Some("frames come"));
        assert_eq!(line(Summary { kept: 9, ..first }, 0, 65), None);
        let repeats = Summary { kept: 9, same: 40, alike: 2, ..Summary::default() };
        assert_eq!(
            line(repeats, 0, 66).as_deref(),
            Some(
                "6 of 48 frames kept in the last minute; so far 9 kept, 40 were there, 2 looked like the last one, 0 \
                 unreadable, 0 removed"
            )
        );
        let silent = line(repeats, 0, 126).unwrap();
        assert!(silent.starts_with("no frame in the last minute; so far 9 kept"), "{silent}");
        let down = Summary { refused: 4, ..repeats };
        let waits = line(down, 256, 186).unwrap();
        assert!(waits.starts_with("0 of 4 frames kept in the last minute, 256 wait to be stored"), "{waits}");
        assert!(waits.contains("4 given up because they could not be stored"), "{waits}");
    }
}
