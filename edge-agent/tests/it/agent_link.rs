//! Links that break, and encoders that go away: no frame is unaccounted for, and answers come back.

use std::collections::BTreeSet;

use protocol::{DropReason, GoodbyeReason, close};

use crate::agent_encoder::{Behaviour, Encoder, OnFrame, Seen};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, frames, run};

/// More frames than any test waits for: the test ends the run.
const ENDLESS: usize = 3000;

fn holding() -> Behaviour {
    Behaviour { on_frame: OnFrame::Hold, ..Behaviour::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_link_answers_go_stale_and_come_back_with_it() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let mut command = run(&pki, &[&encoder], &frames(&pki, ENDLESS));
    let mut agent =
        Agent::spawn(command.args(["--fps", "50", "--deadline", "200ms", "--stale-every", "50ms"]));
    agent.answer().await;

    let socket = encoder.stop().await;
    agent.dropped("link").await;
    let first = agent.until(|line| line["stale"] == true).await;
    let second = agent.until(|line| line["stale"] == true).await;
    assert_eq!((&first["seq"], &first["value"]), (&second["seq"], &second["value"]), "the same answer");
    let age = |line: &serde_json::Value| line["age_ms"].as_f64().unwrap();
    assert!(age(&second) > age(&first), "and it grows older");
    agent.dropped("link down: ").await;

    let _encoder = Encoder::start_on(socket, &pki, Behaviour::default(), protocol::ALPN);
    let back = agent.answer().await;
    assert!(back["seq"].as_u64() > second["seq"].as_u64());
    agent.signal("INT");
    let finished = agent.finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let [captured, answered, dropped] = finished.assert_accounted();
    assert!(answered >= 2 && dropped >= 2, "{captured} {answered} {dropped}");
}

#[tokio::test]
async fn an_encoder_that_drains_finishes_its_frames_while_the_next_one_takes_over() {
    let pki = Pki::new();
    let mut first = Encoder::start(&pki, Behaviour { max_in_flight: 2, ..holding() });
    let mut second = Encoder::start(&pki, Behaviour::default());
    let agent = &mut run(&pki, &[&first, &second], &frames(&pki, 12));
    let mut agent = Agent::spawn(agent.args(["--max-in-flight", "4"]));
    // Streams overtake each other: the newer frame has priority.
    let at_first = BTreeSet::from([first.sees_frame().await.seq, first.sees_frame().await.seq]);
    assert_eq!(at_first, BTreeSet::from([0, 1]));
    first.behave(|behaviour| behaviour.goodbye = Some(GoodbyeReason::Draining));
    let taken = second.sees_frame().await;
    assert!(taken.seq >= 2, "the frames at the first encoder stay there");
    agent.says("the encoder is shutting down: restarting").await;
    first.behave(|behaviour| *behaviour = Behaviour::default());
    let finished = agent.finish().await;
    assert_eq!(finished.assert_accounted(), [12, 12, 0]);
}

#[tokio::test]
async fn an_encoder_that_closes_hands_over_to_the_next() {
    let pki = Pki::new();
    let (mut first, second) = (Encoder::start(&pki, holding()), Encoder::start(&pki, Behaviour::default()));
    let agent = Agent::spawn(&mut run(&pki, &[&first, &second], &frames(&pki, 12)));
    first.sees_frame().await;
    first.stop().await;
    let finished = agent.finish().await;
    assert!(finished.status.success());
    assert_eq!(finished.assert_accounted(), [12, 12, 0], "a finite source loses nothing");
}

#[tokio::test]
async fn an_encoder_that_vanishes_mid_frame_costs_that_frame() {
    let pki = Pki::new();
    let (mut first, second) = (Encoder::start(&pki, holding()), Encoder::start(&pki, Behaviour::default()));
    let mut command = run(&pki, &[&first, &second], &frames(&pki, ENDLESS));
    let mut agent = Agent::spawn(command.args(["--fps", "20", "--deadline", "1m", "--max-in-flight", "1"]));
    let lost = first.sees_frame().await;
    first.vanish();
    let line = agent.dropped("link lost: ").await;
    assert_eq!(line["seq"], lost.seq);
    assert!(line["dropped"].as_str().unwrap().contains("no sign of life"), "{line}");
    agent.answer().await;
    agent.signal("TERM");
    let finished = agent.finish().await;
    assert!(finished.status.success());
    finished.assert_accounted();
}

/// Frames at an encoder that behaves like this; what it sees of the first cancelled one.
async fn cancelled(on_frame: OnFrame) -> Seen {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, Behaviour { on_frame, ..Behaviour::default() });
    let mut command = run(&pki, &[&encoder], &frames(&pki, ENDLESS));
    let mut agent =
        Agent::spawn(command.args(["--fps", "10", "--deadline", "150ms", "--max-in-flight", "1"]));
    let header = encoder.sees_frame().await;
    assert!((1..=150).contains(&header.deadline_ms), "{}", header.deadline_ms);
    // On a busy machine an earlier frame may have expired before the encoder saw anything of it.
    let line = agent.until(|line| line["seq"] == header.seq).await;
    let reason = line["dropped"].as_str().unwrap();
    assert!(reason.starts_with("expired: no reply from localhost"), "{reason}");
    let is_end = |seen: &Seen| matches!(seen, Seen::Stopped(_) | Seen::Reset(_)).then(|| seen.clone());
    let seen = encoder.sees(is_end).await;
    agent.signal("TERM");
    let [_, answered, _] = agent.finish().await.assert_accounted();
    assert_eq!(answered, 0);
    seen
}

#[tokio::test]
async fn a_frame_past_its_deadline_is_cancelled_at_the_encoder() {
    let stale = Some(u64::from(close::STALE));
    assert_eq!(cancelled(OnFrame::Hold).await, Seen::Stopped(stale), "its reply is not wanted any more");
    assert_eq!(cancelled(OnFrame::LeaveUnread).await, Seen::Reset(stale), "nor its end sent");
}

#[tokio::test]
async fn a_slow_encoder_gets_the_newest_frame() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, holding());
    let mut command = run(&pki, &[&encoder], &frames(&pki, ENDLESS));
    let mut agent = Agent::spawn(command.args(["--fps", "100", "--deadline", "1m", "--max-in-flight", "1"]));
    let first = encoder.sees_frame().await.seq;
    let newest_lost = loop {
        let line = agent.dropped("superseded").await;
        if line["seq"].as_u64() >= Some(first + 5) {
            break line["seq"].as_u64().unwrap();
        }
    };
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    assert!(encoder.sees_frame().await.seq > newest_lost);
    agent.signal("TERM");
    agent.finish().await.assert_accounted();
}

#[tokio::test]
async fn what_an_encoder_drops_is_lost_live_and_tried_again_otherwise() {
    let pki = Pki::new();
    let once = Behaviour { on_frame: OnFrame::DropOnce(DropReason::Overloaded), ..Behaviour::default() };
    let encoder = Encoder::start(&pki, once);
    let finished = Agent::spawn(&mut run(&pki, &[&encoder], &frames(&pki, 6))).finish().await;
    assert_eq!(finished.assert_accounted(), [6, 6, 0]);
    let seqs: Vec<_> = finished.lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [0, 1, 2, 3, 4, 5], "in order, whichever attempt came first");

    let always = Behaviour { on_frame: OnFrame::Drop(DropReason::Expired), ..Behaviour::default() };
    let encoder = Encoder::start(&pki, always);
    let mut agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, ENDLESS)).args(["--fps", "50"]));
    agent.dropped("encoder: ").await;
    agent.signal("TERM");
    let finished = agent.finish().await;
    let [_, answered, _] = finished.assert_accounted();
    assert_eq!(answered, 0);
    assert!(finished.stderr.contains("encoder_expired="), "{}", finished.stderr);
}

#[tokio::test]
async fn a_signal_ends_frames_in_flight_with_a_reason() {
    let pki = Pki::new();
    let mut encoder = Encoder::start(&pki, holding());
    let mut agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 10)).args(["--max-in-flight", "2"]));
    encoder.sees_frame().await;
    encoder.sees_frame().await;
    agent.signal("TERM");
    agent.signal("INT");
    agent.dropped("shutdown").await;
    let finished = agent.finish().await;
    assert!(finished.status.success(), "{}", finished.stderr);
    let [captured, answered, dropped] = finished.assert_accounted();
    assert!(answered == 0 && captured == dropped && (2..=4).contains(&captured), "{captured}");
}

#[tokio::test]
async fn an_overloaded_encoder_slows_the_camera_down_and_gets_it_back_when_it_keeps_up() {
    let pki = Pki::new();
    let overloaded = Behaviour { on_frame: OnFrame::Drop(DropReason::Overloaded), ..Behaviour::default() };
    let encoder = Encoder::start(&pki, overloaded);
    let mut command = run(&pki, &[&encoder], &frames(&pki, ENDLESS));
    let mut agent = Agent::spawn(command.args(["--fps", "50"]));
    agent.says("the encoder is overloaded: at most ").await;
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    agent.says("the encoder keeps up again").await;
    agent.answer().await;
    agent.signal("TERM");
    let finished = agent.finish().await;
    finished.assert_accounted();
    let said = finished.stderr.matches("the encoder is overloaded").count();
    assert_eq!(said, 1, "a limit is said when it begins: {}", finished.stderr);
}

#[tokio::test]
async fn pictures_from_a_disk_wait_for_an_overloaded_encoder_and_none_is_lost() {
    let pki = Pki::new();
    let overloaded = Behaviour { on_frame: OnFrame::Drop(DropReason::Overloaded), ..Behaviour::default() };
    let mut encoder = Encoder::start(&pki, overloaded);
    let agent = Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 20)).args(["--max-in-flight", "1"]));
    // More often than a frame is tried that comes to nothing for another reason.
    for _ in 0..6 {
        assert_eq!(encoder.sees_frame().await.seq, 0);
    }
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    assert_eq!(agent.finish().await.assert_accounted(), [20, 20, 0]);
}
