//! How candle's own threads wait: asleep, not spinning.
//!
//! Sums and products of tensors run on a pool of candle's, beside rayon's, whose threads look for the next operation
//! 25,000 times before they sleep. In training there is one every few hundred microseconds, so that they never sleep
//! and take the cores from rayon's threads, which do nearly all of the work: a profile (`perf record` of the training
//! bench) showed a third of the time in these loops.
#![allow(unsafe_code)] // one environment variable, set while there is nobody to read it

/// Times that a thread of candle's pool looks for work before it sleeps; read once, when the pool is made.
const SPIN_LIMIT: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";

/// Makes candle's threads sleep when there is nothing to do, unless the environment says otherwise. To be called first in
/// `main`: in a process with more than one thread, or where that is not known, it does nothing.
pub fn sleep_when_idle() {
    if std::env::var_os(SPIN_LIMIT).is_some() || !alone() {
        return;
    }
    // SAFETY: this is the process's only thread, so nothing reads or writes the environment meanwhile.
    unsafe { std::env::set_var(SPIN_LIMIT, "1") };
}

/// Whether the process has one thread.
fn alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_more_threads_is_left_as_it_is() {
        // Tests run on threads of their own beside the main one.
        assert!(!alone());
        sleep_when_idle();
        assert!(std::env::var_os(SPIN_LIMIT).is_none());
    }
}
