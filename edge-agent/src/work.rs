//! What this agent computes, for the encoder's ledger and for the metrics: operations counted from shapes, and the
//! processor time that the system measured.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::EdgeWork;

/// Clock ticks a second in `/proc` (`USER_HZ`), the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Counters of one run.
#[derive(Debug, Default)]
pub struct Work {
    frames: AtomicU64,
    heads: AtomicU64,
    pictures: AtomicU64,
}

impl Work {
    /// A frame was made ready to be sent, with so many operations.
    pub fn prepared(&self, flops: u64) {
        self.pictures.fetch_add(flops, Ordering::Relaxed);
    }

    /// A frame was answered by heads that took so many operations.
    pub fn answered(&self, flops: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.heads.fetch_add(flops, Ordering::Relaxed);
    }

    /// All of it until now.
    #[must_use]
    pub fn so_far(&self) -> EdgeWork {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EdgeWork {
            frames: load(&self.frames),
            head_flops: load(&self.heads),
            picture_flops: load(&self.pictures),
            cpu_us: cpu_us().unwrap_or_default(),
        }
    }
}

/// Processor time of this process and of the children that it waited for, in microseconds. `None` where there is no
/// `/proc`.
fn cpu_us() -> Option<u64> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)
        .map(|ticks| ticks * (1_000_000 / TICKS_PER_SECOND))
}

/// Fields 14 to 17 of proc(5)'s `stat`: user and system time, own and of children, in ticks. The second field is the
/// program's name in brackets, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 3 20 5 20 0 1 0 100 1000 10 18446744073709551615";
        assert_eq!(ticks(stat), Some(35));
        assert_eq!(ticks("42 (cut"), None);
    }

    #[test]
    fn this_process_has_used_the_processor() {
        while cpu_us() == Some(0) {
            std::hint::black_box((0..1_000_000u64).sum::<u64>());
        }
        assert!(cpu_us() > Some(0));
    }

    #[test]
    fn counts_add_up() {
        let work = Work::default();
        work.prepared(7);
        work.answered(5);
        work.answered(5);
        let EdgeWork { frames, head_flops, picture_flops, .. } = work.so_far();
        assert_eq!((frames, head_flops, picture_flops), (2, 10, 7));
    }
}
