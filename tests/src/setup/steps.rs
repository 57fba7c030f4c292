//! Progress a person can follow, on a terminal or in a log.

use std::{
    io::{IsTerminal, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Without a terminal, a line this often is enough to see that work goes on.
const QUIET_EVERY: Duration = Duration::from_secs(2);

/// Prints numbered steps to standard output.
#[derive(Debug)]
pub(super) struct Steps {
    total: u32,
    current: u32,
    terminal: bool,
}

impl Steps {
    /// A run of `total` steps.
    pub(super) fn new(total: u32) -> Self {
        Self { total, current: 0, terminal: std::io::stdout().is_terminal() }
    }

    /// Does one step of `amount` units; `work` gets the counter it advances, and the step shows it.
    ///
    /// # Errors
    /// Whatever `work` fails with.
    pub(super) fn run<T: Send>(
        &mut self,
        what: &str,
        amount: u64,
        work: impl FnOnce(&AtomicU64) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        self.current += 1;
        let label = format!("[{}/{}] {what}", self.current, self.total);
        println!("{label} …");
        let started = Instant::now();
        let counter = AtomicU64::new(0);
        let terminal = self.terminal;
        let result = std::thread::scope(|scope| {
            let worker = scope.spawn(|| work(&counter));
            let mut shown = Instant::now();
            while !worker.is_finished() {
                std::thread::park_timeout(Duration::from_millis(50));
                if shown.elapsed() >= if terminal { Duration::from_millis(200) } else { QUIET_EVERY } {
                    shown = Instant::now();
                    show(&counter, amount, started, terminal);
                }
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let clear = if terminal { "\r\x1b[2K" } else { "" };
        println!("{clear}      done in {:.1} s", started.elapsed().as_secs_f64());
        Ok(result)
    }
}

fn show(counter: &AtomicU64, amount: u64, started: Instant, terminal: bool) {
    let seconds = started.elapsed().as_secs_f64();
    let progress = match (counter.load(Ordering::Relaxed), amount) {
        (_, 0) => format!("      {seconds:.0} s"),
        (done, amount) => format!("      {done}/{amount}, {seconds:.0} s"),
    };
    if terminal {
        print!("\r\x1b[2K{progress}");
    } else {
        println!("{progress}");
    }
    // Progress that cannot be shown is no reason to stop.
    let _ = std::io::stdout().flush();
}
