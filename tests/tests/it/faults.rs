//! What goes wrong in the field, with the real programs.

use std::path::Path;

use tests::{
    process,
    setup::{Prepared, Server},
};

use crate::agent::{Agent, GUARD, live_list, small_setup};

/// Frames of a camera that outlasts the test: two minutes, at one a second.
const FRAMES: u32 = 120;

/// An agent on that camera. Each frame has a minute to be answered: a busy machine may need seconds for one.
fn watching(prepared: &Prepared, dir: &Path, server: &Server) -> Agent {
    let source = live_list(prepared);
    let camera = ["--source", &source, "--fps", "1", "--deadline", "1m"];
    Agent::start(prepared, dir, &server.address, &camera)
}

#[test]
fn an_encoder_that_is_killed_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, mut server) = small_setup(dir.path(), FRAMES);
    let mut agent = watching(&prepared, dir.path(), &server);
    agent.until_answers(4);
    server.encoder.signal("KILL").unwrap();
    server.encoder.wait(GUARD).unwrap();
    agent.until("dropped frame", |line| line.dropped.is_some());
    let stale = agent.until("stale answer", |line| line.stale == Some(true));
    assert!(stale.age_ms.unwrap() > 0.0);
    let again = prepared.serve(dir.path(), &server.address).unwrap();
    assert_eq!(again.address, server.address);
    agent.until_answers(4);
    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
}

#[test]
fn a_revoked_camera_is_cut_off_while_connected_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), FRAMES);
    let mut agent = watching(&prepared, dir.path(), &server);
    agent.until_answers(2);
    let args = ["pki", "revoke", "--dir", prepared.pki.to_str().unwrap(), "--camera", tests::setup::CAMERA];
    process::run("dc-encoder", args).unwrap();
    agent.until("dropped frame after the revocation", |line| line.dropped.is_some());
    agent.process.wait_for_log("revoked", GUARD).unwrap();
}

#[test]
fn two_agents_with_one_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), FRAMES);
    let second_dir = tempfile::tempdir().unwrap();
    let mut first = watching(&prepared, dir.path(), &server);
    first.until_answers(2);
    let mut second = watching(&prepared, second_dir.path(), &server);
    second.until("dropped frame of the second agent", |line| line.dropped.is_some());
    second.process.wait_for_log("certificate", GUARD).unwrap();
    assert!(!second.seen.iter().any(|line| line.is_answer()), "the first agent owns the camera");
    first.catch_up();
    first.until_answers(4);
}

#[test]
fn without_ffmpeg_a_stream_source_names_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 1);
    let output = std::process::Command::new(process::program("edge-agent").unwrap())
        .args(["run", "--format", "json", "--camera", tests::setup::CAMERA, "--server", &server.address])
        .args(["--source", "http://viewer:hunter2@127.0.0.1:9/live.m3u8"])
        .arg("--identity")
        .arg(prepared.identity())
        .args(["--allow-unsigned", "--head"])
        .arg(&prepared.heads[0])
        .env("PATH", dir.path())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{log}");
    assert!(log.contains("apt-get install ffmpeg"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}
