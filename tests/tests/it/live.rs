//! A live HLS stream, its server stopped and started.

use std::fs;

use tests::{answers::Line, hls::Stream};

use crate::agent::{Agent, small_setup};

#[test]
fn a_live_stream_that_goes_away_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 30);
    let footage = prepared.live.parent().unwrap();
    let stream = Stream::start(footage, dir.path(), 5, 0).unwrap();
    let port = stream.port();
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &["--source", &stream.url()]);
    agent.until_answers(6);
    drop(stream);
    agent.process.wait_for_log("trying again", crate::agent::GUARD).unwrap();
    // Answers of the old stream are still to be read: only what was captured from here on is the new one's.
    let restarted = jiff::Timestamp::now();
    let _stream = Stream::start(footage, dir.path(), 5, port).unwrap();
    let since = |line: &Line| line.captured_at.parse::<jiff::Timestamp>().unwrap() > restarted;
    agent.until("answer from the new stream", |line| line.is_answer() && since(line));
    let children = children_of(agent.process.pid());
    assert!(!children.is_empty(), "the agent watches a stream through ffmpeg");
    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
    for pid in children {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "ffmpeg {pid} outlived the agent");
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
