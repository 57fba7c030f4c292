//! Both programs' metrics, held against Prometheus' own linter.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use fixtures::prometheus::fetch;
use tests::process::Running;

use crate::agent::{Agent, GUARD, live_list, small_setup};

const FRAMES: u32 = 8;

/// Where a program says that it serves metrics.
fn endpoint(process: &mut Running) -> SocketAddr {
    process.wait_for_log("/metrics", GUARD).unwrap();
    let log = process.log();
    let (_, rest) = log.split_once("http://").expect(&log);
    rest.split_once("/metrics").expect(&log).0.parse().unwrap()
}

/// What `promtool check metrics` says of a page; nothing is what is wanted.
fn complaints(promtool: &str, page: &str) -> String {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut linter = command.spawn().unwrap_or_else(|error| panic!("{promtool}: {error}"));
    linter.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let done = linter.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    if done.status.success() { said } else { format!("{}: {said}", done.status) }
}

#[test]
#[ignore = "promtool is downloaded first: make check-metrics"]
fn promtool_has_nothing_to_say_about_either_page() {
    let promtool = std::env::var("PROMTOOL").expect("PROMTOOL names the program: make check-metrics sets it");
    let dir = tempfile::tempdir().unwrap();
    let (prepared, mut server) = small_setup(dir.path(), FRAMES);
    server.encoder.stop(GUARD).unwrap();
    let mut server = prepared.serve_with(dir.path(), &server.address, &["--metrics", "0"]).unwrap();
    let source = live_list(&prepared);
    let watched = ["--source", &source, "--fps", "2", "--metrics", "0"];
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &watched);
    agent.until_answers(4);
    for process in [&mut server.encoder, &mut agent.process] {
        let page = fetch(endpoint(process));
        // What was answered has given every histogram and counter of the way of a frame its samples.
        assert!(page.lines().filter(|line| !line.starts_with('#')).count() > 50, "{page}");
        assert_eq!(complaints(&promtool, &page), "", "{page}");
    }
    // The linter itself is able to complain.
    assert!(complaints(&promtool, "# TYPE frames counter\nframes 1\n").contains("_total"));
    agent.stop();
}
