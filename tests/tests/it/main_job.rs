//! A folder of frames in, answers out, nothing unaccounted for.

use std::{collections::BTreeSet, process::Command};

use tests::process;

use crate::agent::{Agent, live_list, small_setup};

const FRAMES: u32 = 12;

#[test]
fn every_frame_and_head_gives_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, mut server) = small_setup(dir.path(), FRAMES);
    let mut agent =
        Agent::start(&prepared, dir.path(), &server.address, &["--source", &live_list(&prepared)]);
    let [captured, answered, dropped] = agent.finish();
    assert_eq!([captured, answered, dropped], [u64::from(FRAMES), u64::from(FRAMES), 0]);
    assert!(agent.seen.iter().all(|line| line.is_answer()));
    let unique: BTreeSet<_> = agent
        .seen
        .iter()
        .map(|line| (line.seq, line.head.clone().unwrap(), line.frame.clone().unwrap()))
        .collect();
    assert_eq!(unique.len(), 2 * FRAMES as usize, "one line per frame and head");
    assert_eq!(agent.seen.len(), unique.len());
    let times: BTreeSet<_> = agent.seen.iter().map(|line| line.captured_at.clone()).collect();
    assert!(times.iter().any(|time| time.starts_with("2026-06-")), "the list's own times: {times:?}");
    assert!(server.encoder.stop(crate::agent::GUARD).unwrap().success());
}

#[test]
fn json_lines_have_the_documented_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 1);
    let output = Command::new(process::program("edge-agent").unwrap())
        .args(["run", "--format", "json", "--camera", tests::setup::CAMERA, "--server", &server.address])
        .args(["--source", &live_list(&prepared)])
        .arg("--identity")
        .arg(prepared.identity())
        .args(["--allow-unsigned", "--head"])
        .arg(&prepared.heads[0])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text.trim()).unwrap();
    let keys: BTreeSet<&str> = line.keys().map(String::as_str).collect();
    let expected = [
        "camera",
        "seq",
        "captured_at",
        "head",
        "release",
        "value",
        "unit",
        "interval",
        "stale",
        "age_ms",
        "ms",
        "frame",
    ];
    assert_eq!(keys, BTreeSet::from(expected));
    let stages: BTreeSet<&str> = line["ms"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(stages, BTreeSet::from(tests::answers::STAGES));
}

#[test]
fn check_finds_everything_in_order_and_names_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 1);
    let check = |identity: &std::path::Path| {
        Command::new(process::program("edge-agent").unwrap())
            .args(["check", "--camera", tests::setup::CAMERA, "--server", &server.address])
            .args(["--source", &live_list(&prepared)])
            .arg("--identity")
            .arg(identity)
            .args(["--allow-unsigned", "--head"])
            .arg(&prepared.heads[0])
            .output()
            .unwrap()
    };
    let good = check(&prepared.identity());
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success(), "{text}");
    assert!(text.contains("masked autoencoding"), "{text}");

    let foreign = dir.path().join("foreign");
    process::run("dc-encoder", ["pki", "init", "--dir", foreign.to_str().unwrap()]).unwrap();
    let args = ["pki", "issue", "--dir", foreign.to_str().unwrap(), "--camera", tests::setup::CAMERA];
    process::run("dc-encoder", args).unwrap();
    let bad = check(&foreign.join("cameras").join(tests::setup::CAMERA));
    let text = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(!bad.status.success(), "{text}");
    assert!(text.contains("FAIL") && text.contains("a CA that this agent does not trust"), "{text}");
}
