//! A running agent whose lines can be waited for.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use tests::{
    answers::Line,
    ports,
    process::Running,
    setup::{Options, Prepared, Server, demo_model, prepare},
};

/// Nothing here takes this long unless it hangs.
pub const GUARD: Duration = Duration::from_secs(60);

/// A small demo setup in `dir`, with its server running.
pub fn small_setup(dir: &Path, live_frames: u32) -> (Prepared, Server) {
    let prepared = prepare(dir, &Options { model: demo_model(), training_frames: 40, live_frames }).unwrap();
    let server = prepared.serve(dir, &format!("127.0.0.1:{}", ports::lasting())).unwrap();
    (prepared, server)
}

/// `list:` source of the setup's live frames.
pub fn live_list(prepared: &Prepared) -> String {
    format!("list:{}", prepared.live.display())
}

pub struct Agent {
    pub process: Running,
    lines: Receiver<String>,
    /// Everything read so far.
    pub seen: Vec<Line>,
}

impl Agent {
    pub fn start(prepared: &Prepared, dir: &Path, server: &str, extra: &[&str]) -> Self {
        Self::reading(prepared.agent(dir, server, extra).unwrap())
    }

    /// Reads the lines of an agent that was started.
    pub fn reading(mut process: Running) -> Self {
        let stdout = process.stdout().unwrap();
        let (sender, lines) = sync_channel(4096);
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines, seen: Vec::new() }
    }

    /// Reads until a line satisfies `wanted`.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        let end = Instant::now() + GUARD;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    let line = Line::parse(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {what} within {GUARD:?}:\n{}", self.process.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the agent ended before {what}:\n{}", self.process.log())
                }
            }
        }
    }

    /// Reads what was printed already, so that what is awaited next is news.
    pub fn catch_up(&mut self) {
        self.seen.extend(self.lines.try_iter().map(|text| Line::parse(&text).unwrap()));
    }

    pub fn until_answers(&mut self, count: usize) {
        for _ in 0..count {
            self.until("answer", Line::is_answer);
        }
    }

    /// Reads to the end of the output and waits for the process; returns its ledger: captured, answered, dropped.
    pub fn finish(&mut self) -> [u64; 3] {
        let end = Instant::now() + GUARD;
        while let Ok(text) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(Line::parse(&text).unwrap_or_else(|error| panic!("{error} in {text}")));
        }
        let status = self.process.wait(GUARD).unwrap();
        let log = self.process.log();
        assert!(status.success(), "{status}:\n{log}");
        ledger(&log)
    }

    /// SIGTERM, then as [`Agent::finish`].
    pub fn stop(&mut self) -> [u64; 3] {
        self.process.signal("TERM").unwrap();
        self.finish()
    }
}

/// Reads `captured=… answered=… dropped=…` from the agent's last words.
pub fn ledger(log: &str) -> [u64; 3] {
    let line = log.lines().rev().find(|line| line.contains("captured=")).expect(log);
    ["captured=", "answered=", "dropped="].map(|key| {
        let start = line.find(key).unwrap() + key.len();
        line[start..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    })
}
