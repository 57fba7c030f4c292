//! `edge-agent latency`: what it prints and writes, and what it does when nobody answers.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::agent_encoder::{Behaviour, Encoder, LIMIT, OnFrame, loopback};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, bare, frames, head, manifest};

/// Everything a measurement needs.
fn latency(pki: &Pki, server: &str, source: &Path) -> Command {
    let mut command = bare(["latency", "--log", "error", "--server", server]);
    command.arg("--source").arg(source).arg("--identity").arg(pki.camera("plaza-1"));
    command.arg("--allow-unsigned").arg("--head").arg(head(pki, &manifest("frame-number")));
    command
}

async fn output(command: &mut Command) -> Output {
    tokio::time::timeout(LIMIT, command.output()).await.expect("still running").unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[tokio::test]
async fn the_table_the_numbers_and_the_picture_tell_of_the_same_frames() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let (json, svg) = (pki.path().join("latency.json"), pki.path().join("latency.svg"));
    let mut command = latency(&pki, &encoder.server(), &frames(&pki, 5));
    command.args(["--frames", "20", "--warm-up", "3"]).arg("--json").arg(&json).arg("--svg").arg(&svg);
    let Output { status, stdout, stderr } = output(&mut command).await;
    let (text, words) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{words}");
    assert!(text.starts_with("20 frames, from ") && text.contains("(fake 1, tiny), round trip "), "{text}");
    // The encoder says 2, 3 and 4 ms, always.
    for (stage, ms) in [("queue", "2.00"), ("decode", "3.00"), ("encode", "4.00")] {
        let line = text.lines().find(|line| line.starts_with(stage)).expect(&text);
        let columns: Vec<_> = line.split_whitespace().skip(1).take(4).collect();
        assert_eq!(columns, [ms; 4], "{text}");
    }
    let value = read(&json);
    assert_eq!((&value["answered"], &value["missed"], &value["warm_up"]), (&20.into(), &0.into(), &3.into()));
    assert_eq!(
        (&value["rate"], &value["every_frame"], &value["model"]),
        (&Value::Null, &Value::Null, &"fake 1, tiny".into())
    );
    let frames = value["frames"].as_array().unwrap();
    let seqs: Vec<_> = frames.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (3..23).collect::<Vec<_>>(), "five pictures, again and again, without the warm-up");
    for frame in frames {
        let stages = value["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| milliseconds(&frame[row["stage"].as_str().unwrap()]));
        assert!((stages.sum::<f64>() - milliseconds(&frame["total"])).abs() < 1e-6, "{frame}");
        assert!(milliseconds(&frame["capture"]) > 0.0 && milliseconds(&frame["sink"]) > 0.0, "{frame}");
    }
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("fake 1, tiny"));
}

#[tokio::test]
async fn frames_that_were_given_up_during_a_stall_count_with_a_rate() {
    const STALLED: u64 = 20;
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour { on_frame: OnFrame::Hold, ..Behaviour::default() });
    let (json, answers) = (pki.path().join("latency.json"), pki.path().join("answers.jsonl"));
    let mut command = latency(&pki, &encoder.server(), &frames(&pki, 2));
    command.args([
        "--rate",
        "50",
        "--frames",
        "10",
        "--warm-up",
        "0",
        "--max-in-flight",
        "1",
        "--deadline",
        "1m",
    ]);
    command.arg("--json").arg(&json).arg("--output").arg(&answers);
    let measuring = tokio::spawn(async move { output(&mut command).await });
    encoder.sees_frame().await;
    // A line for each frame that a newer one replaced.
    Agent::wrote(&answers, STALLED * 100).await;
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    let Output { status, stderr, .. } = measuring.await.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let value = read(&json);
    assert_eq!((&value["answered"], &value["rate"]), (&10.into(), &50.0.into()));
    assert!(value["missed"].as_u64().unwrap() > 10, "{}", value["missed"]);
    let (answered, every) =
        (milliseconds(&value["total"]["p50"]), milliseconds(&value["every_frame"]["p50"]));
    assert!(
        every > answered,
        "most frames were given up, and waited for a newer one: {every} and {answered} ms"
    );
}

#[tokio::test]
async fn nothing_answered_is_a_failure_that_says_why() {
    let pki = Pki::new();
    let silent = loopback();
    let server = silent.local_addr().unwrap().to_string();
    let mut command = latency(&pki, &server, &frames(&pki, 2));
    let Output { status, stdout, stderr } = output(command.args(["--patience", "300ms"])).await;
    let words = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(stdout.is_empty());
    assert!(
        words.contains("no frame was measured") && words.contains("300ms") && words.contains("no encoder"),
        "{words}"
    );
}

#[tokio::test]
async fn a_measurement_that_was_cut_short_prints_what_it_has_and_fails() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    let json = pki.path().join("latency.json");
    let mut command = latency(&pki, &encoder.server(), &frames(&pki, 2));
    command.args(["--frames", "99999", "--warm-up", "1"]).arg("--json").arg(&json);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // When the fifth is sent, the fourth is answered: one at a time.
    for _ in 0..5 {
        encoder.sees_frame().await;
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("still running");
    let Output { status, stdout, stderr } = ended.unwrap();
    let (text, words) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(words.contains(" of 99999 frames: the run ended first"), "{words}");
    let answered = read(&json)["answered"].as_u64().unwrap();
    assert!(answered >= 3 && text.starts_with(&format!("{answered} frames, from ")), "{text}");
}
