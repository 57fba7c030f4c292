//! What an agent prints when all is well, and what it does with frames that are not.

use std::collections::BTreeSet;

use protocol::{Encoding, GoodbyeReason, RejectCode};
use serde_json::Value;
use shared::head::{InputSpec, Manifest};

use crate::agent_encoder::{Behaviour, Encoder, OnFrame, Seen};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, GRID, bare, frames, head, manifest, run, token_head};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn every_frame_and_head_is_one_line_with_every_key() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    let second = head(&pki, &manifest("again"));
    let mut agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 5)).arg("--head").arg(second));
    let line = agent.answer().await;
    let expected = "camera seq captured_at frame head release value unit interval stale age_ms ms";
    assert_eq!(keys(&line), expected.split(' ').collect());
    let expected = "capture prepare send network queue decode encode reply heads";
    assert_eq!(keys(&line["ms"]), expected.split(' ').collect());
    // Several frames are in flight: any of them may be answered first.
    let file = format!("{:04}.jpg", line["seq"].as_u64().unwrap());
    assert_eq!(
        (&line["camera"], &line["frame"], &line["unit"]),
        (&"plaza-1".into(), &file.into(), &"frames".into())
    );
    assert_eq!(line["release"].as_str().unwrap().len(), 12);
    assert!(line["captured_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!([&line["ms"]["queue"], &line["ms"]["decode"], &line["ms"]["encode"]], [2.0, 3.0, 4.0]);
    assert!(line["ms"].as_object().unwrap().values().all(|ms| ms.as_f64().unwrap() >= 0.0));

    let finished = agent.finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [5, 5, 0]);
    let seqs: Vec<_> = finished.lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "two heads, in the order of frames");
    for line in &finished.lines {
        let value = line["value"].as_f64().unwrap();
        assert_eq!(value, line["seq"].as_f64().unwrap(), "the answer of another frame");
        assert_eq!(line["interval"], serde_json::json!([value - 1.0, value + 2.0]));
    }
    let header = encoder.sees_frame().await;
    assert_eq!((header.embedding, header.tokens), (Encoding::F16, None));
    let goodbye = encoder.sees(|seen| if let Seen::Goodbye(reason) = seen { Some(*reason) } else { None });
    assert_eq!(goodbye.await, GoodbyeReason::Shutdown);
}

#[tokio::test]
async fn a_head_on_the_latent_tokens_gets_them_with_the_embedding() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour { grid: Some(GRID), ..Behaviour::default() });
    let tokens = token_head(&pki, "token-mean");
    let finished =
        Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 3)).arg("--head").arg(tokens)).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [3, 3, 0]);
    assert_eq!(finished.lines.len(), 6, "both heads read one reply");
    for line in &finished.lines {
        let error = (line["value"].as_f64().unwrap() - line["seq"].as_f64().unwrap()).abs();
        assert!(error < 1e-3, "{line}");
    }
    assert_eq!(encoder.sees_frame().await.tokens, Some(Encoding::F16));
}

#[tokio::test]
async fn a_head_that_fails_says_so_and_the_others_answer() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let other = InputSpec { space: "ab".repeat(32), dim: 4, grid: None };
    let foreign = head(&pki, &Manifest { input: other, ..manifest("foreign") });
    let agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 3)).arg("--head").arg(foreign));
    let finished = agent.finish().await;
    assert!(finished.status.success());
    assert_eq!(finished.assert_accounted(), [3, 3, 0]);
    let failed: Vec<_> = finished.lines.iter().filter(|line| line["error"].is_string()).collect();
    assert_eq!(failed.len(), 3);
    assert_eq!(keys(failed[0]), "camera seq captured_at frame head release error".split(' ').collect());
    let error = failed[0]["error"].as_str().unwrap();
    assert!(error.contains("abababababab") && error.contains("070707070707"), "names both spaces: {error}");
}

#[tokio::test]
async fn frames_that_are_no_pictures_are_lines_too() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let folder = frames(&pki, 2);
    std::fs::write(folder.join("broken.jpg"), b"not a picture").unwrap();
    let list = folder.join("list.txt");
    std::fs::write(&list, "0000.jpg\nbroken.jpg\n0001.jpg\n").unwrap();
    let finished = Agent::spawn(&mut run(&pki, &[&encoder], &list)).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [3, 2, 1]);
    let line = finished.lines.iter().find(|line| line["frame"] == "broken.jpg").unwrap();
    assert_eq!(keys(line), "camera seq captured_at frame dropped".split(' ').collect());
}

#[tokio::test]
async fn a_frame_the_encoder_rejects_is_dropped_with_its_words() {
    let pki = Pki::new();
    let on_frame = OnFrame::Reject(RejectCode::TooManyPixels, "4608 pixels, the limit is 1");
    let encoder = Encoder::start(&pki, Behaviour { on_frame, ..Behaviour::default() });
    let finished = Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 2))).finish().await;
    assert!(finished.status.success());
    assert_eq!(finished.assert_accounted(), [2, 0, 2]);
    let reason = finished.lines[0]["dropped"].as_str().unwrap();
    assert!(reason.starts_with("rejected:") && reason.contains("the limit is 1"), "{reason}");
}

#[tokio::test]
async fn file_environment_and_flags_work_together() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    let list = frames(&pki, 2);
    pki.camera("plaza-1");
    head(&pki, &manifest("frame-number"));
    let config = pki.path().join("agent.toml");
    let text = format!(
        "source = {list:?}\nservers = [{:?}]\nidentity = \"plaza-1\"\nheads = [\"frame-number.head\"]\n\
         embedding = \"int8\"\nallow_unsigned = true\nformat = \"text\"\n",
        encoder.server()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = bare(["run", "--format", "json"]);
    command.env("FTH_CONFIG", &config).env("FTH_EMBEDDING", "f32");
    let finished = Agent::spawn(&mut command).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [2, 2, 0]);
    assert_eq!(encoder.sees_frame().await.embedding, Encoding::F32, "environment over file");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_a_clean_end() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let mut agent = Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 3000)));
    agent.answer().await;
    let finished = agent.stop_reading().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let [captured, answered, dropped] = finished.counts();
    assert_eq!(captured, answered + dropped);
}

#[tokio::test]
async fn answers_can_go_to_a_file() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let output = pki.path().join("answers.jsonl");
    let agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 3)).arg("-o").arg(&output));
    let finished = agent.finish().await;
    assert!(finished.status.success() && finished.lines.is_empty());
    assert_eq!(finished.counts(), [3, 3, 0]);
    assert_eq!(std::fs::read_to_string(output).unwrap().lines().count(), 3);
}
