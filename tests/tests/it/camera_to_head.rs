//! From a live HLS stream to a head, by the commands of `docs/camera-to-head.md`; labels are given by a script.

use std::path::Path;

use serde_json::Value;
use tests::hls::Stream;
use tests::plaza::Clock;
use tests::plaza::dataset::{Plan, render};
use tests::{ports, process, setup};

/// Footage of ten seconds a frame, played five a second.
const FRAMES: u32 = 120;

fn run(dir: &Path, args: &[&str]) -> String {
    let mut all: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
    if ["collect", "archive", "label"].contains(&args[0]) {
        all.extend(["--archive".to_owned(), dir.join("archive").display().to_string()]);
    }
    process::run("dc-encoder", all).unwrap()
}

#[test]
fn a_live_stream_becomes_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let footage = dir.path().join("footage");
    let plan = Plan { seed: 5, start: Clock::at(0, 690.0), step_s: 10.0, count: FRAMES };
    render(&footage, &plan, || {}).unwrap();
    let stream = Stream::start(&footage, dir.path(), 5, ports::lasting()).unwrap();
    let model = setup::demo_model().display().to_string();

    let said = run(dir.path(), &[
        "collect", &stream.url(), "--camera", "plaza-1", "--rate", "5", "--frames", "30", "--model", &model,
    ]);
    assert!(said.starts_with("plaza-1: 30 frames kept"), "{said}");
    drop(stream);
    run(dir.path(), &["label", "suggest", "--camera", "plaza-1", "--task", "count", "--n", "24", "--batch", "first", "--sheet", &at("sheet.png")]);
    assert!(image::open(dir.path().join("sheet.png")).unwrap().width() > 500);
    run(dir.path(), &["label", "push", "--batch", "first", "--to", &at("to-label")]);
    fill_in(&dir.path().join("to-label/labels.csv"));
    let pulled = run(dir.path(), &["label", "pull", "--batch", "first", "--who", "script"]);
    assert!(pulled.contains("24 new labels"), "{pulled}");
    run(dir.path(), &["archive", "export", "--camera", "plaza-1", "--task", "count", "--out", &at("plaza"), "--test", "0.5"]);
    run(dir.path(), &["embed", "--model", &model, "--frames", &at("plaza/frames.jsonl"), "--tokens", "--out", &at("e.safetensors")]);
    run(dir.path(), &[
        "head", "train", "--task", "count", "--embeddings", &at("e.safetensors"), "--labels", &at("plaza/labels.jsonl"), "--out", &at("people-count.safetensors"),
    ]);
    let inspected = run(dir.path(), &["head", "inspect", &at("people-count.safetensors")]);
    assert!(inspected.contains("self-test  passed"), "{inspected}");
    let found = run(dir.path(), &["archive", "find", "--labelled", "count", "--json"]);
    let first: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!((first["camera"].as_str(), first["labels"][0]["who"].as_str()), (Some("plaza-1"), Some("script")));
    assert!(run(dir.path(), &["archive", "verify"]).ends_with(": 0 faults\n"));
}

/// Answers every row with a number that follows from its line: the labels' worth is measured elsewhere.
fn fill_in(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let answered = text.lines().enumerate().map(|(line, row)| match line {
        0 => row.to_owned(),
        _ => format!("{},{},", row.trim_end_matches(','), line % 5),
    });
    std::fs::write(path, answered.collect::<Vec<_>>().join("\n")).unwrap();
}
