//! Frames that travel as patches, and those that need not travel at all.

use std::path::{Path, PathBuf};

use protocol::{DropReason, FrameHeader, GoodbyeReason};
use shared::image::{Chroma, Rgb, jpeg};
use shared::patches::Choice;

use crate::agent_encoder::{Behaviour, Encoder, OnFrame};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, frames, run};

/// Places of the encoder's input: 96×48 pixels in patches of 16.
const PLACES: usize = 18;

fn takes_patches() -> Behaviour {
    Behaviour { patch: Some(16), ..Behaviour::default() }
}

fn places(header: &FrameHeader) -> Vec<u32> {
    let kept = header.patches.as_ref().expect("a whole frame");
    Choice::from_wire(kept, PLACES).unwrap().places().to_vec()
}

/// A dark scene, and the same with something bright in place 7, in turns.
fn comes_and_goes(pki: &Pki, count: usize) -> PathBuf {
    let folder = pki.path().join("comes-and-goes");
    std::fs::create_dir(&folder).unwrap();
    for index in 0..count {
        let mut frame = Rgb::filled(96, 48, [60; 3]);
        if index % 2 == 1 {
            for (x, y) in (18..30).flat_map(|x| (18..30).map(move |y| (x, y))) {
                let at = (y * 96 + x) * 3;
                frame.data[at..at + 3].fill(220);
            }
        }
        std::fs::write(folder.join(format!("{index:04}.jpg")), jpeg::encode(&frame, 95, Chroma::C444))
            .unwrap();
    }
    folder
}

/// `edge-agent run` with patches, every frame sent.
fn sending(pki: &Pki, encoder: &Encoder, frames: &Path, patches: &str) -> tokio::process::Command {
    let mut command = run(pki, &[encoder], frames);
    command.args(["--patches", patches, "--reuse-for", "0s"]);
    command
}

#[tokio::test]
async fn what_changed_travels_and_each_patch_in_its_turn() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, takes_patches());
    let folder = comes_and_goes(&pki, 6);
    let finished = Agent::spawn(&mut sending(&pki, &encoder, &folder, "changed(8,18)")).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [6, 6, 0]);
    let first = encoder.sees_frame().await;
    assert_eq!((first.seq, places(&first).len()), (0, PLACES), "a session begins with a whole frame");
    for seq in 1..6 {
        let header = encoder.sees_frame().await;
        let places = places(&header);
        assert_eq!(header.seq, seq, "one at a time, in order");
        assert!(places.contains(&7) && (1..=2).contains(&places.len()), "frame {seq}: {places:?}");
        assert!(header.jpeg_len < first.jpeg_len);
    }
}

#[tokio::test]
async fn a_share_by_lot_travels() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, takes_patches());
    let finished = Agent::spawn(&mut sending(&pki, &encoder, &frames(&pki, 4), "random(0.5)")).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(places(&encoder.sees_frame().await));
    }
    assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [PLACES, 9, 9, 9]);
    assert!(seen[1] != seen[2] && seen[2] != seen[3]);
}

#[tokio::test]
async fn patches_that_were_not_answered_are_sent_again() {
    let pki = Pki::new();
    let behaviour = Behaviour { on_frame: OnFrame::DropOnce(DropReason::Overloaded), ..takes_patches() };
    let mut encoder = Encoder::start(&pki, behaviour);
    let folder = comes_and_goes(&pki, 3);
    let finished = Agent::spawn(&mut sending(&pki, &encoder, &folder, "changed(8,18)")).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [3, 3, 0]);
    for seq in 0..3 {
        let (dropped, again) = (encoder.sees_frame().await, encoder.sees_frame().await);
        assert_eq!((dropped.seq, again.seq), (seq, seq));
        assert_eq!(places(&dropped), places(&again), "frame {seq}");
    }
}

#[tokio::test]
async fn a_new_session_begins_with_a_whole_frame() {
    let pki = Pki::new();
    let mut first = Encoder::start(&pki, takes_patches());
    let mut second = Encoder::start(&pki, takes_patches());
    let folder = frames(&pki, 3000);
    let mut command = run(&pki, &[&first, &second], &folder);
    let mut agent = Agent::spawn(command.args(["--patches", "changed", "--reuse-for", "0s"]));
    agent.answer().await;
    first.behave(|behaviour| behaviour.goodbye = Some(GoodbyeReason::Draining));
    assert_eq!(places(&second.sees_frame().await).len(), PLACES);
    assert_eq!(places(&second.sees_frame().await).len(), 1);
    assert_eq!(places(&first.sees_frame().await).len(), PLACES);
    agent.signal("TERM");
    agent.finish().await.assert_accounted();
}

#[tokio::test]
async fn a_still_scene_is_answered_without_being_sent_and_its_lines_say_so() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, takes_patches());
    let mut command = run(&pki, &[&encoder], &frames(&pki, 20));
    // Far longer than the run takes on any machine.
    let finished = Agent::spawn(command.args(["--patches", "changed", "--reuse-for", "60s"])).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [20, 20, 0]);
    assert!(finished.stderr.contains("answered=20 dropped=0 reused=19"), "{}", finished.stderr);
    for (seq, line) in finished.lines.iter().enumerate() {
        assert_eq!(line["seq"], seq);
        assert_eq!(line["value"], 0.0, "the answer for the first frame's embedding");
        assert_eq!(line["reused"], if seq == 0 { serde_json::Value::Null } else { true.into() });
    }
    assert_eq!(places(&encoder.sees_frame().await).len(), PLACES);
    encoder.sees(|seen| matches!(seen, crate::agent_encoder::Seen::Goodbye(_)).then_some(())).await;
}

#[tokio::test]
async fn whole_frames_go_to_an_encoder_that_takes_no_patches_and_it_is_said_once() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour::default());
    let mut command = run(&pki, &[&encoder], &frames(&pki, 3));
    let finished = Agent::spawn(command.args(["--patches", "changed"])).finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [3, 3, 0]);
    assert_eq!(finished.stderr.matches("takes whole frames only").count(), 1, "{}", finished.stderr);
    for _ in 0..3 {
        assert_eq!(encoder.sees_frame().await.patches, None);
    }
}
