//! Heads that reach a running agent: pushed, swapped, rolled back, and there again after a kill.

use fixtures::slow;
use protocol::HeadReport;
use serde_json::Value;
use tokio::process::Command;

use crate::agent_encoder::{Behaviour, Encoder, LIMIT, OnFetch, Seen};
use crate::agent_operator::{Operator, push, report, unit};
use crate::agent_process::{Agent, Finished, head, is_answer, large_head, overflowing_head};

#[tokio::test]
async fn a_pushed_release_answers_and_is_there_after_a_kill() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (first, bytes) = operator.publish(&encoder, &unit("first"));
    // What an interrupted fetch left behind.
    std::fs::create_dir_all(operator.store().join("fetching")).unwrap();
    std::fs::write(operator.store().join("fetching").join(first.to_string()), &bytes[..100]).unwrap();
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, first));
    assert_eq!(fetched(&mut encoder).await, 100, "it goes on where it stopped");
    let active = report(&mut encoder, |report| report.active == Some(first)).await;
    assert_eq!(
        (active.channel.as_str(), active.counter, active.error.as_str()),
        ("frame-number@stable", 1, "")
    );
    assert_eq!(agent.answer().await["release"], first.short());

    let (second, _) = operator.publish(&encoder, &unit("second"));
    push(&encoder, operator.wants(2, second));
    report(&mut encoder, |report| report.active == Some(second)).await;
    agent.until(|line| line["release"] == second.short().as_str()).await;
    agent.signal("KILL");
    let finished = agent.finish().await;
    assert_each_answered_once(&finished.lines);

    encoder.behave(|behaviour| behaviour.push = vec![operator.wants(1, first)]);
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    assert_eq!(agent.answer().await["release"], second.short(), "without any server's help");
    let replayed = report(&mut encoder, |report| !report.error.is_empty()).await;
    assert!(replayed.error.contains("it is a replay") && replayed.active == Some(second), "{replayed:?}");
}

#[tokio::test]
async fn a_fetch_goes_on_where_the_connection_broke() {
    let operator = Operator::new();
    let behaviour = Behaviour { on_fetch: OnFetch::HoldAfter(300_000), ..Behaviour::default() };
    let mut encoder = Encoder::start(&operator.pki, behaviour);
    let bytes = std::fs::read(large_head(&operator.pki, &unit("large"))).unwrap();
    let release = operator.publish_bytes(&encoder, &bytes);
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, release));
    assert_eq!(fetched(&mut encoder).await, 0);
    let part = operator.store().join("fetching").join(release.to_string());
    Agent::wrote(&part, 262_144).await;
    let socket = encoder.stop().await;
    let mut encoder = Encoder::start_on(socket, &operator.pki, Behaviour::default(), protocol::ALPN);
    assert_eq!(operator.publish_bytes(&encoder, &bytes), release);
    let offset = fetched(&mut encoder).await;
    assert!((262_144..=300_000).contains(&offset), "at {offset}, without being told again");
    report(&mut encoder, |report| report.active == Some(release)).await;
}

#[tokio::test]
async fn an_older_release_comes_back_only_when_that_is_meant() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let [first, second] = ["first", "second"].map(|name| operator.publish(&encoder, &unit(name)).0);
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, first));
    report(&mut encoder, |report| report.active == Some(first)).await;
    push(&encoder, operator.wants(2, second));
    report(&mut encoder, |report| report.active == Some(second)).await;
    push(&encoder, operator.wants(3, first));
    let refused = report(&mut encoder, |report| !report.error.is_empty()).await;
    assert!(refused.error.contains("was replaced before"), "{refused:?}");
    assert_eq!((refused.active, refused.counter), (Some(second), 2));
    push(&encoder, operator.assigns(4, first, true));
    let back = report(&mut encoder, |report| report.active == Some(first)).await;
    assert_eq!((back.counter, back.error.as_str()), (4, ""));
}

#[tokio::test]
async fn of_a_thousand_pushes_in_a_row_the_last_one_answers() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    encoder.sees_frame().await;
    let releases: Vec<_> = (0..1000).map(|n| operator.publish(&encoder, &unit(&n.to_string())).0).collect();
    let pushes: Vec<_> =
        (1..).zip(&releases).map(|(counter, release)| operator.wants(counter, *release)).collect();
    encoder.behave(|behaviour| behaviour.push = pushes);
    let last = *releases.last().unwrap();
    let active = report(&mut encoder, |report| report.active == Some(last)).await;
    assert_eq!((active.counter, active.error.as_str()), (1000, ""));
    agent.until(|line| line["release"] == last.short().as_str()).await;
    agent.signal("TERM");
    let finished = agent.finish().await;
    assert_each_answered_once(&finished.lines);
}

#[tokio::test]
async fn a_newer_assignment_of_the_same_release_is_reported_at_once() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (release, _) = operator.publish(&encoder, &unit("same"));
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    let all = async {
        // With the reports that come every ten seconds it would be over a minute.
        for counter in 1..=8 {
            push(&encoder, operator.wants(counter, release));
            report(&mut encoder, |report| report.counter == counter && report.active == Some(release)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("reports waited");
}

/// What becomes of a release that answers, or should, and must go: the agent is pushed a good one, then this one.
async fn goes_back(
    agent: impl FnOnce(&Operator, &Encoder) -> Command,
    bad: impl FnOnce(&Operator) -> Vec<u8>,
) -> (HeadReport, Vec<Value>) {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, _) = operator.publish(&encoder, &unit("good"));
    let bad = operator.publish_bytes(&encoder, &bad(&operator));
    let mut agent = Agent::spawn(&mut agent(&operator, &encoder));
    push(&encoder, operator.wants(1, good));
    report(&mut encoder, |report| report.active == Some(good)).await;
    agent.answer().await;
    push(&encoder, operator.wants(2, bad));
    let off = report(&mut encoder, |report| report.failed == Some(bad)).await;
    assert_eq!((off.active, off.wanted, off.counter), (Some(good), Some(bad), 2));
    agent.answer().await;
    // Told again, and by a newer assignment: it is not tried in a loop.
    encoder.behave(|behaviour| behaviour.push.extend([operator.wants(2, bad), operator.wants(3, bad)]));
    let still = report(&mut encoder, |report| report.counter == 3).await;
    assert_eq!((still.active, still.failed), (Some(good), Some(bad)));
    agent.until(|line| line["release"] == good.short().as_str()).await;
    assert!(!encoder.saw(|seen| matches!(seen, Seen::Fetch(_))), "nor is it fetched again");
    agent.signal("TERM");
    let finished = agent.finish().await;
    assert_each_has_one_line(&finished);
    (off, finished.lines)
}

#[tokio::test]
async fn a_release_that_panics_makes_way_and_is_not_tried_again() {
    let panics = |operator: &Operator| std::fs::read(head(&operator.pki, &unit("panics"))).unwrap();
    let (off, lines) = goes_back(Operator::agent, panics).await;
    assert!(off.error.contains("taken off after it ran") && off.error.contains("panicked"), "{off:?}");
    let failed =
        lines.iter().filter(|line| line["error"].as_str().is_some_and(|words| words.contains("panicked")));
    // One panic is enough, and frames that were under way with it.
    assert!((1..=8).contains(&failed.count()));
}

#[tokio::test]
async fn a_release_that_takes_too_long_makes_way_and_is_not_tried_again() {
    let hurried = |operator: &Operator, encoder: &Encoder| {
        let config = operator.pki.path().join("agent.toml");
        std::fs::write(&config, "head_budget = \"15ms\"\n").unwrap();
        let mut command = operator.agent(encoder);
        command.arg("--config").arg(config);
        command
    };
    let (off, lines) = goes_back(hurried, |_| slow(&unit("slow"))).await;
    assert!(
        off.error.contains("taken off after it ran") && off.error.contains("more than its 15ms"),
        "{off:?}"
    );
    let answered = lines.iter().filter(|line| is_answer(line) && line["unit"] == "slow").count();
    assert!(answered >= 3, "late answers are answers: {answered}");
}

#[tokio::test]
async fn a_release_that_fails_on_frames_is_taken_off_and_not_fetched_again() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, _) = operator.publish(&encoder, &unit("good"));
    let bad = std::fs::read(overflowing_head(&operator.pki, &unit("bad"))).unwrap();
    let bad = operator.publish_bytes(&encoder, &bad);
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, good));
    report(&mut encoder, |report| report.active == Some(good)).await;
    // Whoever answers frame 2 and later: the bad one cannot.
    agent.until(|line| line["seq"].as_u64() >= Some(2)).await;
    push(&encoder, operator.wants(2, bad));
    let off = report(&mut encoder, |report| report.failed == Some(bad)).await;
    assert_eq!((off.active, off.wanted), (Some(good), Some(bad)));
    assert!(off.error.contains("taken off after it ran"), "{off:?}");
    agent.answer().await;
    encoder.behave(|behaviour| behaviour.push.push(operator.wants(2, bad)));
    agent.answer().await;
    assert!(!encoder.saw(|seen| matches!(seen, Seen::Fetch(_))), "nor is it tried in a loop");
}

/// From the first answer on, each frame has an answer, a head's error, or a reason why it was dropped, and only one.
fn assert_each_has_one_line(finished: &Finished) {
    let seq = |line: &Value| line["seq"].as_u64().unwrap();
    let first = seq(finished.lines.iter().find(|line| is_answer(line)).expect("an answer"));
    // Stale lines repeat an answer while no newer one comes.
    let lines = finished.lines.iter().filter(|line| line["stale"] != true);
    let mut seqs: Vec<u64> = lines.map(seq).filter(|seq| *seq >= first).collect();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(first..finished.counts()[0]), "{seqs:?}");
}

async fn fetched(encoder: &mut Encoder) -> u32 {
    encoder.sees_fetch().await.map_or(0, |part| part.offset)
}

/// From the first answer on, each frame is answered by one release.
fn assert_each_answered_once(lines: &[serde_json::Value]) {
    let answers = lines.iter().filter(|line| is_answer(line));
    let seqs: Vec<_> = answers.map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(!seqs.is_empty() && seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
}
