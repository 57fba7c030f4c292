//! A server with a registry: what cameras are told, and what they may fetch.

use std::sync::Arc;

use dc_encoder::registry::Registrar;
use fixtures::Keys;
use jiff::Timestamp;
use protocol::limits::{MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES};
use protocol::{
    AgentToEncoderMsg, Body, BodyId, EncoderToAgentMsg, FetchCode, FetchReplyMsg, FetchRequest, HeadReport,
    Moments, Part, ReleaseId, RolloutAction, RolloutPhase, StreamKind, Wanted,
};
use shared::release::{Promotion, body_id, digest, sign_head, unpack};
use shared::wire::{expect_msg, write_msg};
use tempfile::TempDir;

use crate::registry::{assign, heads, publish};
use crate::serve_support::{Agent, Fake, World, soon, until};

/// A server with a registry that has two releases.
struct Shop {
    world: World,
    keys: Keys,
    releases: [ReleaseId; 2],
    files: [Vec<u8>; 2],
    _dir: TempDir,
}

impl Shop {
    fn open() -> Self {
        let (dir, keys) = (tempfile::tempdir().unwrap(), Keys::default());
        let root = dir.path().join("root.pub");
        std::fs::write(&root, format!("{}\n", keys.root.public())).unwrap();
        let world = World::start(Fake::new(), |config| {
            config.registry = Some(dir.path().join("registry"));
            config.release_root = Some(root);
        });
        let (first, second) = heads();
        let registrar = world.server.registrar().unwrap();
        registrar.take_ring("ann", &keys.ring(1, &[]), Timestamp::now()).unwrap();
        let releases = [&first, &second].map(|file| publish(&keys, registrar, file).unwrap());
        Self { world, keys, releases, files: [first, second], _dir: dir }
    }

    fn registrar(&self) -> &Arc<Registrar> {
        self.world.server.registrar().unwrap()
    }

    fn assign(&self, document: &[u8]) {
        self.registrar().assign("ann", document, Timestamp::now()).unwrap();
    }
}

async fn wanted(agent: &mut Agent) -> Wanted {
    match agent.heard().await {
        EncoderToAgentMsg::Wanted(wanted) => wanted,
        other => panic!("not what is wanted: {other:?}"),
    }
}

async fn ring(agent: &mut Agent) -> Vec<u8> {
    match agent.heard().await {
        EncoderToAgentMsg::KeyRing { document } => document,
        other => panic!("no ring: {other:?}"),
    }
}

async fn fetch(agent: &Agent, release: ReleaseId, have: Option<Part>) -> (FetchReplyMsg, Vec<u8>) {
    let (mut send, mut recv) = agent.connection.open_bi().await.unwrap();
    send.write_all(&[StreamKind::Fetch as u8]).await.unwrap();
    write_msg(&mut send, &FetchRequest { release, have }, MAX_FETCH_REQUEST_BYTES).await.unwrap();
    send.finish().unwrap();
    let reply = soon(expect_msg(&mut recv, MAX_FETCH_REPLY_BYTES)).await.unwrap();
    (reply, soon(recv.read_to_end(1 << 26)).await.unwrap())
}

#[tokio::test]
async fn an_agent_is_told_the_ring_then_what_it_should_run_and_every_change() {
    let shop = Shop::open();
    let [one, two] = shop.releases;
    let first = assign(&shop.keys, 1, one, |_| {});
    shop.assign(&first);
    let mut agent = shop.world.agent("plaza-1", 1).await;
    assert_eq!(ring(&mut agent).await, shop.keys.ring(1, &[]));
    assert_eq!(wanted(&mut agent).await, Wanted { assignment: first, share: 1000 });
    // A camera that was never meant hears of the ring alone, then of what is for it.
    let mut gate = shop.world.agent("gate", 2).await;
    ring(&mut gate).await;
    let second = assign(&shop.keys, 2, two, |a| a.cameras = vec!["gate".parse().unwrap()]);
    shop.assign(&second);
    let told = Wanted { assignment: second, share: 1000 };
    assert_eq!(wanted(&mut gate).await, told);
    assert_eq!(wanted(&mut agent).await, told, "a camera that is left out now must hear of it");
    let newer = shop.keys.ring(2, &[]);
    shop.registrar().take_ring("ann", &newer, Timestamp::now()).unwrap();
    assert_eq!(ring(&mut agent).await, newer);
}

#[tokio::test]
async fn a_release_is_fetched_from_any_byte_on_by_those_it_is_for() {
    let shop = Shop::open();
    let ([one, two], file) = (shop.releases, &shop.files[0]);
    shop.assign(&assign(&shop.keys, 1, one, |_| {}));
    let agent = shop.world.agent("plaza-1", 1).await;
    let total = u32::try_from(file.len()).unwrap();
    let body = Body { id: BodyId::plain(one), len: total };
    for offset in [0, 1, total - 1, total] {
        let (reply, bytes) = fetch(&agent, one, Some(Part { body: body.id, offset })).await;
        let signature = sign_head(file, &shop.keys.heads);
        assert_eq!(reply, FetchReplyMsg::Found { total, signature, body, offset });
        assert_eq!(bytes, file[offset as usize..]);
    }
    let (reply, bytes) = fetch(&agent, one, None).await;
    assert!(matches!(reply, FetchReplyMsg::Found { offset: 0, body: sent, .. } if sent == body), "{reply:?}");
    assert_eq!(bytes, *file, "compressing it would save less than a packet");
    let refused = async |agent: &Agent, release: ReleaseId, offset| {
        let have = Some(Part { body: BodyId::plain(release), offset });
        match fetch(agent, release, have).await {
            (FetchReplyMsg::Refused { code, .. }, rest) if rest.is_empty() => code,
            other => panic!("not refused: {other:?}"),
        }
    };
    assert_eq!(refused(&agent, one, total + 1).await, FetchCode::Offset);
    assert_eq!(refused(&agent, two, 0).await, FetchCode::NotAssigned);
    assert_eq!(refused(&agent, digest(b"?"), 0).await, FetchCode::Unknown);
    let gate = shop.world.agent("gate", 2).await;
    assert_eq!(refused(&gate, one, 0).await, FetchCode::NotAssigned);
}

#[tokio::test]
async fn a_release_that_compresses_travels_so_and_goes_on_so() {
    let shop = Shop::open();
    // safetensors allows spaces after its JSON header.
    let (first, len) = (&shop.files[0], u64::from_le_bytes(shop.files[0][..8].try_into().unwrap()));
    let end = 8 + usize::try_from(len).unwrap();
    let header = (len + 8000).to_le_bytes();
    let file = [&header[..], &first[8..end], &[b' '; 8000], &first[end..]].concat();
    let release = publish(&shop.keys, shop.registrar(), &file).unwrap();
    shop.assign(&assign(&shop.keys, 1, release, |_| {}));
    let agent = shop.world.agent("plaza-1", 1).await;
    let (reply, packed) = fetch(&agent, release, None).await;
    let (total, signature) = (u32::try_from(file.len()).unwrap(), sign_head(&file, &shop.keys.heads));
    let body = Body { id: body_id(&packed), len: u32::try_from(packed.len()).unwrap() };
    assert_eq!(reply, FetchReplyMsg::Found { total, signature, body, offset: 0 });
    assert!(packed.len() + 7000 < file.len(), "{}", packed.len());
    assert_eq!(unpack(&packed, total).unwrap(), file);
    for offset in [1, body.len - 1, body.len] {
        let (_, rest) = fetch(&agent, release, Some(Part { body: body.id, offset })).await;
        assert_eq!(rest, packed[offset as usize..]);
    }
    let beyond = Part { body: body.id, offset: body.len + 1 };
    let (reply, _) = fetch(&agent, release, Some(beyond)).await;
    assert!(matches!(reply, FetchReplyMsg::Refused { code: FetchCode::Offset, .. }), "{reply:?}");
    let unknown = Part { body: body_id(b"of another server"), offset: 9 };
    assert_eq!(fetch(&agent, release, Some(unknown)).await.1, packed, "from its start");
    let plain = Part { body: BodyId::plain(release), offset: 0 };
    assert_eq!(fetch(&agent, release, Some(plain)).await.1, file, "uncompressed, when asked for");
}

#[tokio::test]
async fn of_a_thousand_changes_a_slow_agent_hears_the_last() {
    let shop = Shop::open();
    let [one, two] = shop.releases;
    let mut agent = shop.world.agent("plaza-1", 1).await;
    ring(&mut agent).await;
    let registrar = Arc::clone(shop.registrar());
    let documents: Vec<Vec<u8>> = (1..=1000)
        .map(|n| assign(&shop.keys, n, if n % 2 == 0 { one } else { two }, |a| a.rollback = true))
        .collect();
    let last = documents.last().unwrap().clone();
    let push = tokio::task::spawn_blocking(move || {
        for document in documents {
            registrar.assign("ann", &document, Timestamp::now()).unwrap();
        }
    });
    let mut heard = 0;
    while wanted(&mut agent).await.assignment != last {
        heard += 1;
        assert!(heard < 1000, "the last one never came");
    }
    push.await.unwrap();
}

#[tokio::test]
async fn a_canary_that_goes_back_stops_the_rollout_for_everyone() {
    let shop = Shop::open();
    let [one, two] = shop.releases;
    let canary = assign(&shop.keys, 1, two, |a| {
        (a.fallback, a.share) = (Some(one), "99.9%".parse().unwrap());
        a.promotion = Some(Promotion::USUAL);
    });
    shop.assign(&canary);
    let mut agent = shop.world.agent("plaza-1", 1).await;
    ring(&mut agent).await;
    assert_eq!(wanted(&mut agent).await.share, 999);
    let report = HeadReport {
        head: "people-count".into(),
        channel: "people-count@stable".into(),
        counter: 1,
        wanted: Some(two),
        active: Some(one),
        pinned: false,
        failed: Some(two),
        error: "it yields NaN".into(),
        active_for_ms: 5,
        answers: 1,
        failures: 0,
        values: Moments::default(),
        flops: 0,
    };
    agent.say(AgentToEncoderMsg::Head(report)).await;
    assert_eq!(wanted(&mut agent).await, Wanted { assignment: canary, share: 0 });
    let channel = "people-count@stable".parse().unwrap();
    let watched = shop.registrar().watch();
    let phase = || watched.borrow().channels[&channel].rollout.phase;
    until(|| phase() == RolloutPhase::Stopped).await;
    // The evidence of the old phase does not stop it again.
    let (now, at) = (Timestamp::now(), (&channel, 1));
    shop.registrar().steer("ann", at, RolloutAction::Resume, now).unwrap();
    assert_eq!(wanted(&mut agent).await.share, 999);
    shop.registrar().step(Timestamp::now()).unwrap();
    assert_eq!(phase(), RolloutPhase::Soaking);
}

#[tokio::test]
async fn a_canary_that_soaked_without_trouble_is_promoted_within_the_signed_bounds() {
    let shop = Shop::open();
    let [one, two] = shop.releases;
    let bounds =
        Promotion { up_to: "99.9%".parse().unwrap(), soak_s: 0, min_answers: 100, ..Promotion::USUAL };
    let canary = assign(&shop.keys, 1, two, |a| {
        (a.fallback, a.share) = (Some(one), "99.8%".parse().unwrap());
        a.promotion = Some(bounds);
    });
    shop.assign(&canary);
    let mut agent = shop.world.agent("plaza-1", 1).await;
    ring(&mut agent).await;
    assert_eq!(wanted(&mut agent).await.share, 998);
    let report = |answers| HeadReport {
        head: "people-count".into(),
        channel: "people-count@stable".into(),
        counter: 1,
        wanted: Some(two),
        active: Some(two),
        pinned: false,
        failed: None,
        error: String::new(),
        // Active since the rollout began, however short ago that is.
        active_for_ms: 0,
        answers,
        failures: 0,
        values: Moments::default(),
        flops: 0,
    };
    let channel = "people-count@stable".parse().unwrap();
    let watched = shop.registrar().watch();
    let rollout = || watched.borrow().channels[&channel].rollout.clone();
    shop.registrar().hear("plaza-1", report(99), Timestamp::now());
    shop.registrar().step(Timestamp::now()).unwrap();
    assert_eq!(rollout().phase, RolloutPhase::Soaking, "one answer is missing");
    agent.say(AgentToEncoderMsg::Head(report(100))).await;
    assert_eq!(wanted(&mut agent).await, Wanted { assignment: canary, share: 999 });
    assert_eq!(rollout().phase, RolloutPhase::Done);
    let history = shop.registrar().store().history(&channel, 1).unwrap();
    assert_eq!((history[0].by.as_str(), history[0].what.as_str()), ("server", "done at 99.9%"));
}
