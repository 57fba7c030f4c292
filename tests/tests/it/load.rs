//! Servers with too much to do, or too little to do it with, and servers that end: with the real programs.

use std::net::TcpStream;
use std::process::Command;

use tests::process;

use crate::agent::{Agent, GUARD, live_list, small_setup};

/// Frames of a camera that outlasts the test: a minute, at two a second.
const FRAMES: u32 = 120;
/// Frames of a folder that two encoders share.
const FOLDER: u32 = 40;
/// Another camera than the setup's.
const OTHER: &str = "plaza-2";

#[test]
fn of_two_cameras_at_a_server_that_has_room_for_one_and_a_half_one_slows_down_and_recovers() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (prepared, mut server) = small_setup(dir.path(), FRAMES);
    server.encoder.stop(GUARD).unwrap();
    let limit = ["--set", "limits.together.frames_per_second=3"];
    let server = prepared.serve_with(dir.path(), &server.address, &limit).unwrap();
    let pki = prepared.pki.to_str().unwrap();
    process::run("dc-encoder", ["pki", "issue", "--dir", pki, "--camera", OTHER]).unwrap();

    let source = live_list(&prepared);
    let camera = ["--source", &source, "--fps", "2", "--deadline", "1m"];
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &camera);
    agent.until_answers(2);
    let other = prepared.agent_as(OTHER, other_dir.path(), &server.address, &camera).unwrap();
    let mut other = Agent::reading(other);
    agent.process.wait_for_log("the encoder is overloaded: at most ", GUARD).unwrap();
    let [captured, answered, dropped] = other.stop();
    assert_eq!(captured, answered + dropped);
    agent.process.wait_for_log("the encoder keeps up again", GUARD).unwrap();
    agent.catch_up();
    agent.until_answers(2);
    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
}

#[test]
fn an_encoder_that_is_told_to_end_answers_what_it_has_and_the_agent_goes_on_at_the_next() {
    let (dir, next_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (prepared, mut first) = small_setup(dir.path(), FOLDER);
    let mut next = prepared.serve(next_dir.path(), "127.0.0.1:0").unwrap();
    let source = live_list(&prepared);
    let servers = ["--source", &source, "--server", &next.address];
    let mut agent = Agent::start(&prepared, dir.path(), &first.address, &servers);
    agent.until_answers(4);
    let status = first.encoder.stop(GUARD).unwrap();
    assert!(status.success(), "{status}:\n{}", first.encoder.log());
    assert_eq!(agent.finish(), [u64::from(FOLDER), u64::from(FOLDER), 0], "nothing is lost on the way");
    let log = first.encoder.log();
    assert!(log.contains("draining"), "{log}");
    let log = agent.process.log();
    assert!(log.contains("moving on"), "{log}");
    assert!(next.encoder.stop(GUARD).unwrap().success());
}

/// Files and sockets that a server may have open beyond those it has when it is at rest: fewer than it
/// takes for metrics.
const SPARE_FILES: usize = 3;

#[test]
fn a_server_without_file_descriptors_says_so_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, mut server) = small_setup(dir.path(), FRAMES);
    server.encoder.stop(GUARD).unwrap();
    let metrics = ["--listen", "127.0.0.1:0", "--metrics", "0"];
    let mut at_rest = prepared.serve_with(dir.path(), "127.0.0.1:0", &metrics[2..]).unwrap();
    let files = at_rest.encoder.open_files().unwrap() + SPARE_FILES;
    at_rest.encoder.stop(GUARD).unwrap();

    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
    shell.arg(process::program("dc-encoder").unwrap());
    let mut server = prepared.serve_through(&mut shell, dir.path(), &metrics).unwrap();
    let log = server.encoder.log();
    let (_, rest) = log.split_once("http://").expect(&log);
    let address = rest.split_once("/metrics").expect(&log).0.to_owned();
    let taken: Vec<_> = (0..8).map(|_| TcpStream::connect(&address).unwrap()).collect();
    server.encoder.wait_for_log("ulimit -n", GUARD).unwrap();
    let source = live_list(&prepared);
    let camera = ["--source", &source, "--fps", "2", "--deadline", "1m"];
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &camera);
    agent.until_answers(4);
    drop(taken);
    let page = fixtures::prometheus::Page::scrape(address.parse().unwrap());
    assert!(page.get("fth_encoder_frames_total", &[("outcome", "answered")]) >= 2.0);
    agent.stop();
}
