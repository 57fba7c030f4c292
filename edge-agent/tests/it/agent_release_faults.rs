//! Releases that must not run, and agents that are killed on the way: the last good one stays.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use edge_agent::heads::{HeadSet, Heads};
use edge_agent::releases::gate::Gate;
use edge_agent::releases::keeper::{Keeper, Start};
use edge_agent::releases::store::Store;
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::link::{Link, Options};
use edge_agent::uplink::session::OnWire;
use fixtures::{Clock, HEADS};
use protocol::{EncoderToAgentMsg, HeadReport, ReleaseId, SpaceId};
use shared::head::{InputSpec, Manifest};
use shared::release::Trust;
use shared::tls::Identity;

use crate::agent_encoder::{Behaviour, Encoder, OnFetch, Seen};
use crate::agent_operator::{Operator, push, report, unit};
use crate::agent_process::{Agent, large_head};

/// Pushes a good release and then one that `spoil` spoils; what the agent says about it.
async fn refused(spoil: impl FnOnce(&Operator, &Encoder) -> ReleaseId) -> HeadReport {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, _) = operator.publish(&encoder, &unit("good"));
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, good));
    report(&mut encoder, |report| report.active == Some(good)).await;
    let bad = spoil(&operator, &encoder);
    push(&encoder, operator.wants(2, bad));
    let report = report(&mut encoder, |report| report.failed == Some(bad)).await;
    assert_eq!((report.active, report.wanted), (Some(good), Some(bad)), "the last good one stays");
    report
}

#[tokio::test]
async fn a_corrupted_release_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let (bad, _) = operator.publish(encoder, &unit("bad"));
        encoder.behave(|behaviour| {
            behaviour.releases.entry(bad).and_modify(|(bytes, _)| *bytes.last_mut().unwrap() ^= 1);
        });
        bad
    });
    assert!(report.await.error.contains("changed or cut"));
}

#[tokio::test]
async fn a_release_for_another_space_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let input = InputSpec { space: SpaceId([9; 32]).to_string(), dim: 4, grid: None };
        operator.publish(encoder, &Manifest { input, ..unit("bad") }).0
    });
    assert!(report.await.error.contains("was trained on embedding space"));
}

#[tokio::test]
async fn a_release_of_a_revoked_key_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        push(encoder, EncoderToAgentMsg::KeyRing { document: operator.keys.ring(2, &[HEADS]) });
        operator.publish(encoder, &unit("bad")).0
    });
    assert!(report.await.error.contains("was revoked"));
}

#[tokio::test]
async fn a_full_disk_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let (bad, _) = operator.publish(encoder, &unit("bad"));
        let part = operator.store().join("fetching").join(bad.to_string());
        std::os::unix::fs::symlink("/dev/full", part).unwrap();
        bad
    });
    assert!(report.await.error.contains("No space left"));
}

#[tokio::test]
async fn a_truncated_release_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        encoder.behave(|behaviour| behaviour.on_fetch = OnFetch::EndAfter(100));
        operator.publish(encoder, &unit("bad")).0
    });
    assert!(report.await.error.contains("fewer bytes than it said"));
}

#[tokio::test]
async fn a_release_under_a_false_length_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        encoder.behave(|behaviour| behaviour.on_fetch = OnFetch::Claim(100));
        operator.publish(encoder, &unit("bad")).0
    });
    assert!(report.await.error.contains("more bytes than it said"));
}

#[tokio::test]
async fn a_manifest_that_lies_about_its_size_leaves_the_good_one() {
    let report = refused(|operator, encoder| {
        let (_, mut bytes) = operator.publish(encoder, &unit("bad"));
        let dim = br#"\"dim\":4"#;
        let at = bytes.windows(dim.len()).position(|window| window == dim).unwrap();
        bytes[at + dim.len() - 1] = b'5';
        operator.publish_bytes(encoder, &bytes)
    });
    let error = report.await.error;
    assert!(error.contains("is of shape [4], want shape [5]"), "{error}");
    let report = refused(|operator, encoder| {
        let (_, mut bytes) = operator.publish(encoder, &unit("bad"));
        // The length of the header, before anything of that size is read.
        bytes[..8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        operator.publish_bytes(encoder, &bytes)
    });
    let error = report.await.error;
    assert!(error.contains("header"), "{error}");
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_swap_leaves_the_good_one() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, next) = good_and_next(&operator, &mut encoder).await;
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    fetching(&operator, &mut encoder, next).await;
    let place = operator.store().join("state.json.new");
    std::os::unix::fs::symlink("/dev/full", &place).unwrap();
    encoder.behave(|behaviour| behaviour.on_fetch = OnFetch::Send);
    let full = report(&mut encoder, |report| report.failed == Some(next)).await;
    assert!(full.active == Some(good) && full.error.contains("No space left"), "{full:?}");
    assert!(!place.exists(), "what was begun is removed: a full disk needs its room");
}

/// Runs an agent until it has its first good release, and publishes another one; its bytes are held back.
async fn good_and_next(operator: &Operator, encoder: &mut Encoder) -> (ReleaseId, ReleaseId) {
    let (good, _) = operator.publish(encoder, &unit("good"));
    let agent = Agent::spawn(&mut operator.agent(encoder));
    push(encoder, operator.wants(1, good));
    report(encoder, |report| report.active == Some(good)).await;
    agent.signal("KILL");
    agent.finish().await;
    let next = std::fs::read(large_head(&operator.pki, &unit("next"))).unwrap();
    (good, operator.publish_bytes(encoder, &next))
}

/// Pushes `next`; when this returns, the agent has accepted it, and 300 kB of it are under way.
async fn fetching(operator: &Operator, encoder: &mut Encoder, next: ReleaseId) {
    encoder.behave(|behaviour| {
        behaviour.on_fetch = OnFetch::HoldAfter(300_000);
        behaviour.push = vec![operator.wants(2, next)];
    });
    encoder.sees(|seen| matches!(seen, Seen::Fetch(_)).then_some(())).await;
}

/// A file that can be opened, and takes nothing: whoever writes it stays there.
struct Stuck(File);

impl Stuck {
    fn at(path: &Path) -> Self {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
        let mut pipe =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        while pipe.write(&[0; 4096]).is_ok() {}
        Self(pipe)
    }
}

/// Kills the agent while it writes `place`, below its folder, and starts it again without telling it anything.
async fn killed_at(place: impl FnOnce(ReleaseId) -> String) {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, next) = good_and_next(&operator, &mut encoder).await;
    let agent = Agent::spawn(&mut operator.agent(&encoder));
    fetching(&operator, &mut encoder, next).await;
    let place = operator.store().join(place(next));
    let stuck = Stuck::at(&place);
    encoder.behave(|behaviour| behaviour.on_fetch = OnFetch::Send);
    agent.opens(&place).await;
    agent.signal("KILL");
    agent.finish().await;
    drop(stuck.0);
    std::fs::remove_file(&place).unwrap();
    starts_with(good, next, &operator, encoder).await;
}

/// An agent that starts now answers with `good`, and then gets `next`, which it has heard of.
async fn starts_with(good: ReleaseId, next: ReleaseId, operator: &Operator, mut encoder: Encoder) {
    encoder.behave(|behaviour| behaviour.push.clear());
    encoder.saw(|_| false);
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    let first = report(&mut encoder, |_| true).await;
    assert_eq!((first.active, first.wanted), (Some(good), Some(next)));
    report(&mut encoder, |report| report.active == Some(next)).await;
}

#[tokio::test]
async fn an_agent_killed_while_it_fetches_starts_with_the_good_one_and_goes_on() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (good, next) = good_and_next(&operator, &mut encoder).await;
    let agent = Agent::spawn(&mut operator.agent(&encoder));
    fetching(&operator, &mut encoder, next).await;
    let part = operator.store().join("fetching").join(next.to_string());
    Agent::wrote(&part, 262_144).await;
    agent.signal("KILL");
    agent.finish().await;
    encoder.behave(|behaviour| behaviour.on_fetch = OnFetch::Send);
    starts_with(good, next, &operator, encoder).await;
}

#[tokio::test]
async fn an_agent_killed_when_it_has_verified_starts_with_the_good_one() {
    killed_at(|next| format!("releases/{next}.sig.new")).await;
}

#[tokio::test]
async fn an_agent_killed_while_it_keeps_the_release_starts_with_the_good_one() {
    killed_at(|next| format!("releases/{next}.new")).await;
}

#[tokio::test]
async fn an_agent_killed_while_it_swaps_starts_with_the_good_one() {
    killed_at(|_| "state.json.new".to_owned()).await;
}

#[tokio::test]
async fn a_clock_that_is_a_year_wrong_changes_nothing() {
    const NOW: i64 = 1_800_000_000;
    const YEAR: i64 = 365 * 24 * 3600;
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let [first, second] = ["first", "second"].map(|name| operator.publish(&encoder, &unit(name)).0);
    // A year ahead, then a year behind: what came later was said by an earlier clock.
    for (clock, counter, release) in [(NOW + YEAR, 1, first), (NOW - YEAR, 2, second)] {
        encoder.behave(|behaviour| behaviour.push = vec![operator.wants(counter, release)]);
        let (link, keeper) = agent_with_clock(&operator, &encoder, clock);
        report(&mut encoder, |report| report.active == Some(release)).await;
        link.close().await;
        keeper.await.unwrap();
    }
    encoder.behave(|behaviour| behaviour.push = vec![operator.wants(1, first)]);
    let (_link, _keeper) = agent_with_clock(&operator, &encoder, NOW + YEAR);
    let replay = report(&mut encoder, |report| !report.error.is_empty()).await;
    assert!(replay.error.contains("it is a replay") && replay.active == Some(second), "{replay:?}");
}

fn agent_with_clock(
    operator: &Operator,
    encoder: &Encoder,
    clock: i64,
) -> (Link, tokio::task::JoinHandle<()>) {
    let keys = operator.pki.path();
    let trust = Trust::load(&keys.join("root.pub"), &keys.join("key-ring")).unwrap();
    let start = Start {
        store: Store::open(&operator.store()).unwrap(),
        gate: Gate { trust: Some(trust), allow_unsigned: false },
        camera: "plaza-1".into(),
        uplink: shared::uplink::Uplink::default().id(),
        budget: edge_agent::heads::USUAL_BUDGET,
        fixed: HeadSet::default(),
        heads: Arc::new(Heads::default()),
    };
    let (keeper, port) = Keeper::open(start).unwrap();
    let folder = operator.pki.camera("plaza-1");
    let greeting = Greeting { instance: 1, camera: "plaza-1".into() };
    let dialer = Dialer::new(&folder, Identity::load(&folder).unwrap(), greeting).unwrap();
    let options = Options {
        servers: vec![encoder.server().parse().unwrap()],
        on_wire: OnWire { in_flight: 1, patches: false },
        spaces: Box::new(Vec::new),
        give_up: false,
        work: Arc::default(),
        releases: Some(port),
    };
    (Link::start(dialer.with_clock(Clock::at(clock)), options), tokio::spawn(keeper.run()))
}
