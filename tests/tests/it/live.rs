//! A live HLS stream, its server stopped and started.

use std::{
    fs,
    time::{Duration, Instant},
};

use tests::{answers::Line, hls::Stream, ports};

use crate::agent::{Agent, GUARD, small_setup};

#[test]
fn a_live_stream_that_goes_away_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 30);
    let footage = prepared.live.parent().unwrap();
    let port = ports::lasting();
    let stream = Stream::start(footage, dir.path(), 5, port).unwrap();
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &["--source", &stream.url()]);
    agent.until_answers(6);
    let before = ffmpeg_of(&agent);
    drop(stream);
    awaited("the end of the ffmpeg that watched the old stream", || before.iter().all(|pid| !lives(*pid)));
    // Answers of the old stream may still wait to be read: what is captured from here on is the new one's.
    let restarted = jiff::Timestamp::now();
    let _stream = Stream::start(footage, dir.path(), 5, port).unwrap();
    let since = |line: &Line| line.captured_at.parse::<jiff::Timestamp>().unwrap() > restarted;
    agent.until("answer from the new stream", |line| line.is_answer() && since(line));
    let after = ffmpeg_of(&agent);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?}, {after:?}");
    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
    for pid in after {
        assert!(!lives(pid), "ffmpeg {pid} outlived the agent");
    }
}

/// The agent's children. It watches a stream through one, but may be between two for a moment.
fn ffmpeg_of(agent: &Agent) -> Vec<u32> {
    let mut children = Vec::new();
    awaited("a child that watches the stream", || {
        children = children_of(agent.process.pid());
        !children.is_empty()
    });
    children
}

fn lives(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits for what another process does and nobody announces.
fn awaited(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + GUARD;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come within {GUARD:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process ids whose parent is `pid`.
fn children_of(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // pid (name) state ppid …: the name may hold anything but ends at the last parenthesis.
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&pid.to_string()))
        })
        .collect()
}
