//! The keeper without a network: power cuts at every change of the disk, trouble, pins, and a queue that is full.

use std::path::Path;

use fixtures::{Keys, linear, manifest};
use shared::release::{Channel, Trust, digest};

use super::super::store::power;
use super::*;
use crate::heads::Embedding;

const SPACE: protocol::SpaceId = protocol::SpaceId([7; 32]);
const BUDGET: Duration = Duration::from_secs(60);

#[derive(Default)]
struct World(Keys);

impl World {
    fn ring(&self, version: u64) -> Vec<u8> {
        self.0.ring(version, &[])
    }

    /// As after a start of the agent.
    fn start(&self, dir: &Path) -> (Keeper, Port) {
        let store = Store::open(dir).unwrap();
        let ring = store.ring().unwrap().unwrap_or_else(|| self.ring(1));
        let trust = Some(Trust::new(self.0.root.public(), &ring).unwrap());
        let gate = Gate { trust, allow_unsigned: false };
        let (fixed, heads) = (HeadSet::default(), Arc::new(Heads::default()));
        let (camera, uplink) = ("plaza-1".into(), shared::uplink::Uplink::default().id());
        Keeper::open(Start { store, gate, camera, uplink, budget: BUDGET, fixed, heads }).unwrap()
    }

    fn install(&self, file: &[u8]) -> Command {
        Command::Install { file: file.to_vec(), signature: Some(self.0.sign(file).1) }
    }

    fn wants(&self, counter: u64, release: ReleaseId) -> Event {
        let assignment = self.0.assign("count@stable", counter, release, |_| {});
        Event::Wanted(Wanted { assignment, share: 1000 })
    }
}

/// A head that answers with `weight` times the only number of its embedding. Its self-test says nothing of frames.
fn head(name: &str, weight: f32) -> Vec<u8> {
    linear(&manifest(name, SPACE, 1), &[weight], 0.0, &[0.0])
}

fn active(keeper: &Keeper) -> Option<ReleaseId> {
    let set = keeper.heads.current();
    let mut heads = set.iter().map(|loaded| loaded.release);
    let active = heads.next();
    assert_eq!(heads.next(), None, "one release of a head at a time");
    active
}

/// Answers a frame, as the way of a frame does.
fn answer(keeper: &Keeper) -> bool {
    let set = keeper.heads.current();
    let embedding = Embedding { space: SPACE, embedding: vec![2.0], tokens: None };
    let sound = set.answer(&embedding).iter().all(|outcome| outcome.result.is_ok());
    keeper.heads.answered(&set);
    sound
}

#[tokio::test]
async fn a_power_cut_at_any_change_of_the_disk_leaves_the_old_or_the_new() {
    let (first, second) = (head("count", 1.0), head("count", 2.0));
    let [old, new] = [&first, &second].map(|file| digest(file));
    let mut cuts = 0;
    loop {
        let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
        let mut keeper = world.start(dir.path()).0;
        keeper.command(world.install(&first)).await.unwrap();
        power::cut(dir.path(), Some(cuts));
        keeper.batch(Event::KeyRing(world.ring(2))).await;
        let ring = keeper.gate.trust.as_ref().unwrap().ring().version;
        keeper.batch(world.wants(5, new)).await;
        let heard = !keeper.state.channels.is_empty();
        let installed = keeper.command(world.install(&second)).await;
        assert_eq!(active(&keeper), Some(if installed.is_ok() { new } else { old }));
        power::cut(dir.path(), None);
        drop(keeper);

        let mut keeper = world.start(dir.path()).0;
        let now = active(&keeper);
        assert!(now == Some(old) || now == Some(new), "after {cuts} changes: {now:?}");
        assert!(
            installed.is_err() || now == Some(new),
            "what was said to run is there, after {cuts} changes"
        );
        assert!(keeper.gate.trust.as_ref().unwrap().ring().version >= ring, "a ring went back");
        let counter = keeper.state.channels.values().next().map(|channel| channel.seen.counter);
        assert!(!heard || counter == Some(5), "a counter went back");
        keeper.command(world.install(&second)).await.unwrap();
        assert_eq!(active(&keeper), Some(new), "and it goes on from there");
        if installed.is_ok() && heard && ring == 2 {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "each file takes five changes, and there are five files: {cuts}");
}

#[tokio::test]
async fn a_release_that_fails_on_frames_makes_way_and_is_not_tried_again() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let (mut keeper, _port) = world.start(dir.path());
    let (good, bad) = (head("count", 1.0), head("count", f32::MAX));
    keeper.command(world.install(&good)).await.unwrap();
    keeper.command(world.install(&bad)).await.unwrap();
    for _ in 0..3 {
        assert!(!answer(&keeper), "twice the largest number is none");
    }
    keeper.heads.trouble().await;
    keeper.trouble().await;
    assert!(active(&keeper) == Some(digest(&good)) && answer(&keeper));
    keeper.batch(world.wants(1, digest(&bad))).await;
    let goals = keeper.goals();
    assert_eq!(plan::step(&keeper.state.heads["count"], &goals["count"]), Step::Keep, "not again");
    let report = keeper.head_report("count", &goals);
    assert_eq!((report.failed, report.active), (Some(digest(&bad)), Some(digest(&good))));
    assert!(report.error.contains("taken off after it ran"), "{}", report.error);
    drop(keeper);
    let keeper = world.start(dir.path()).0;
    assert_eq!(active(&keeper), Some(digest(&good)));
    assert_eq!(
        plan::step(&keeper.state.heads["count"], &keeper.goals()["count"]),
        Step::Keep,
        "nor after a restart"
    );
}

#[tokio::test]
async fn a_release_that_cannot_be_read_any_more_gives_way_to_the_one_before() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let mut keeper = world.start(dir.path()).0;
    let files = [head("count", 1.0), head("count", 2.0)];
    for file in &files {
        keeper.command(world.install(file)).await.unwrap();
    }
    let path = keeper.store.head_path(digest(&files[1]));
    drop(keeper);
    std::fs::write(&path, &files[1][..files[1].len() - 1]).unwrap();
    let keeper = world.start(dir.path()).0;
    assert_eq!(active(&keeper), Some(digest(&files[0])));
}

#[tokio::test]
async fn an_installed_head_is_pinned_where_a_channel_wants_another() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let mut keeper = world.start(dir.path()).0;
    keeper.batch(world.wants(1, ReleaseId([9; 32]))).await;
    let said = keeper.command(world.install(&head("count", 1.0))).await.unwrap();
    assert!(said.contains("It is pinned, because count@stable wants another"), "{said}");
    let report = keeper.head_report("count", &keeper.goals());
    assert!(report.pinned && report.error.contains("pinned on the box"), "{report:?}");
    keeper.command(Command::Unpin { head: "count".into() }).await.unwrap();
    let channel: Channel = "count@stable".parse().unwrap();
    assert_eq!(keeper.goals()["count"].channel, channel);
    assert_eq!(
        plan::step(&keeper.state.heads["count"], &keeper.goals()["count"]),
        Step::Get(ReleaseId([9; 32]))
    );
}
