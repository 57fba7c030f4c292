//! From a live HLS stream to a head, by the commands of `docs/camera-to-head.md`; labels are given by a script.

use std::path::Path;

use serde_json::Value;
use tests::hls::Stream;
use tests::plaza::Clock;
use tests::plaza::dataset::{Plan, render};
use tests::{ports, process, setup};

/// Footage of ten seconds a frame, played five a second.
const FRAMES: u32 = 120;

/// Fewest suggestions that the test makes do with: frames in which nobody moved are near-duplicates.
const ENOUGH: usize = 12;

#[test]
fn a_live_stream_becomes_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().display().to_string();
    let footage = dir.path().join("footage");
    let plan = Plan { seed: 5, start: Clock::at(0, 690.0), step_s: 10.0, count: FRAMES };
    render(&footage, &plan, || {}).unwrap();
    let stream = Stream::start(&footage, dir.path(), 5, ports::lasting()).unwrap();
    let (url, model) = (stream.url(), setup::demo_model().display().to_string());
    // No name of a temporary folder has a space in it.
    let run = |command: &str| process::run("dc-encoder", command.split_whitespace()).unwrap();
    let archive = format!("--archive {work}/archive");

    let said = run(&format!("collect {url} {archive} --camera plaza-1 --rate 5 --frames 30 --model {model}"));
    assert!(said.starts_with("plaza-1: 30 frames kept"), "{said}");
    drop(stream);
    let batch = format!("--batch first {archive}");
    run(&format!("label suggest --camera plaza-1 --task count --n 16 --sheet {work}/sheet.png {batch}"));
    assert!(image::open(dir.path().join("sheet.png")).unwrap().width() > 500);
    run(&format!("label push --to {work}/to-label {batch}"));
    let labels = fill_in(&dir.path().join("to-label/labels.csv"));
    assert!(labels >= ENOUGH, "{labels} suggestions of 30 frames");
    let pulled = run(&format!("label pull --who script {batch}"));
    assert!(pulled.contains(&format!("{labels} new labels")), "{pulled}");
    run(&format!("archive export --camera plaza-1 --task count --out {work}/plaza {archive}"));
    let embeddings = format!("{work}/e.safetensors");
    run(&format!("embed --model {model} --frames {work}/plaza/frames.jsonl --tokens --out {embeddings}"));
    let head = format!("{work}/people-count.safetensors");
    run(&format!(
        "head train --task count --embeddings {embeddings} --labels {work}/plaza/labels.jsonl --out {head}"
    ));
    let inspected = run(&format!("head inspect {head}"));
    assert!(inspected.contains("self-test  passed"), "{inspected}");

    let found = run(&format!("archive find --labelled count --json {archive}"));
    let first: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    assert_eq!(
        (first["camera"].as_str(), first["labels"][0]["who"].as_str()),
        (Some("plaza-1"), Some("script"))
    );
    let verified = run(&format!("archive verify {archive}"));
    assert!(verified.ends_with(": 0 faults\n"), "{verified}");
}

/// Answers every row with a number that follows from its line: what labels are worth is measured elsewhere.
fn fill_in(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    let answer = |(line, row): (usize, &str)| match line {
        0 => row.to_owned(),
        _ => format!("{},{},", row.trim_end_matches(','), line % 5),
    };
    let answered: Vec<String> = text.lines().enumerate().map(answer).collect();
    std::fs::write(path, answered.join("\n")).unwrap();
    answered.len() - 1
}
