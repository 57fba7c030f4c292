//! The registry: what is kept, what is refused, and what a crash leaves.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use dc_encoder::registry::{Embedded, Registrar, RegistryError, Snapshot};
use fixtures::{ASSIGNMENTS, HEADS, Keys};
use jiff::Timestamp;
use protocol::{OperatorCode, OperatorReplyMsg, OperatorRequestMsg, ReleaseId, RolloutAction, RolloutPhase};
use shared::release::{Assignment, Promotion, Share, SigningKey, digest, sign_head};
use tempfile::TempDir;

/// Puts a signed head into a registry.
pub fn publish(keys: &Keys, registrar: &Registrar, head: &[u8]) -> Result<ReleaseId, RegistryError> {
    let (id, signature) = keys.sign(head);
    registrar.expects(id, &signature)?;
    let mut file = registrar.store().incoming()?;
    file.write_all(head).unwrap();
    registrar.publish("ann", (id, &signature), file, Timestamp::now())?;
    Ok(id)
}

/// A signed assignment of the head for the plazas' cameras.
pub fn assign(
    keys: &Keys,
    counter: u64,
    release: ReleaseId,
    change: impl FnOnce(&mut Assignment),
) -> Vec<u8> {
    keys.assign("people-count@stable", counter, release, |assignment| {
        assignment.cameras = vec!["plaza-*".parse().unwrap()];
        change(assignment);
    })
}

struct World {
    dir: TempDir,
    keys: Keys,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), keys: Keys::default() }
    }

    fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    fn open(&self) -> Registrar {
        let store = Box::new(Embedded::open(self.dir.path()).unwrap());
        Registrar::open(store, Some(self.keys.root.public()), Timestamp::now()).unwrap()
    }

    /// With a ring.
    fn ready(&self) -> Registrar {
        let registrar = self.open();
        assert!(registrar.take_ring("ann", &self.keys.ring(1, &[]), Timestamp::now()).unwrap());
        registrar
    }

    fn publish(&self, registrar: &Registrar, head: &[u8]) -> Result<ReleaseId, RegistryError> {
        publish(&self.keys, registrar, head)
    }
}

/// Two releases of one head.
pub fn heads() -> (Vec<u8>, Vec<u8>) {
    let first = crate::keys::head();
    // safetensors allows spaces after its JSON header: the same head, another file.
    let len = u64::from_le_bytes(first[..8].try_into().unwrap());
    let end = 8 + usize::try_from(len).unwrap();
    let second = [&(len + 8).to_le_bytes()[..], &first[8..end], &[b' '; 8][..], &first[end..]].concat();
    (first, second)
}

fn snapshot(registrar: &Registrar) -> Arc<Snapshot> {
    registrar.watch().borrow().clone()
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn what_was_published_and_assigned_survives_and_is_audited() {
    let world = World::new();
    let (first, second) = heads();
    let registrar = world.ready();
    let one = world.publish(&registrar, &first).unwrap();
    let two = world.publish(&registrar, &second).unwrap();
    assert!(!registrar.expects(one, &sign_head(&first, &world.keys.heads)).unwrap(), "it is there");
    assert!(registrar.assign("ann", &assign(&world.keys, 1, one, |_| {}), now()).unwrap());
    let next = assign(&world.keys, 2, two, |a| a.fallback = Some(one));
    assert!(registrar.assign("bob", &next, now()).unwrap());
    assert!(!registrar.assign("bob", &next, now()).unwrap(), "the same again changes nothing");
    let before = snapshot(&registrar);
    drop(registrar);
    let registrar = world.open();
    assert_eq!(snapshot(&registrar), before);
    assert!(before.assigns("plaza-1", one) && before.assigns("plaza-1", two) && !before.assigns("gate", one));
    let channel = "people-count@stable".parse().unwrap();
    let history = registrar.store().history(&channel, 9).unwrap();
    let lines: Vec<_> = history.iter().map(|line| (line.counter, line.by.as_str())).collect();
    assert_eq!(lines, [(2, "bob"), (1, "ann")]);
    let audit = registrar.store().audit(99).unwrap();
    assert_eq!(audit.len(), 6, "root, ring, two releases, two assignments: {audit:?}");
    assert!(audit[0].by == "bob" && audit[0].what.contains("assignment 2"), "{audit:?}");
    assert_eq!(std::fs::read(world.blobs().join(one.to_string())).unwrap(), first);
}

#[test]
fn a_publication_that_was_cut_short_leaves_the_old_state() {
    let world = World::new();
    let (first, second) = heads();
    let registrar = world.ready();
    let one = world.publish(&registrar, &first).unwrap();
    drop(registrar);
    // Killed while the bytes came; and between the file and the transaction.
    std::fs::write(world.blobs().join("incoming-abc"), &second[..9]).unwrap();
    std::fs::write(world.blobs().join(digest(&second).to_string()), &second).unwrap();
    let registrar = world.open();
    let left: Vec<_> = std::fs::read_dir(world.blobs()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [one.to_string().as_str()]);
    assert!(registrar.store().release(digest(&second)).unwrap().is_none());
    world.publish(&registrar, &second).unwrap();
}

#[test]
fn nothing_wrong_is_kept() {
    let world = World::new();
    let (first, second) = heads();
    let registrar = world.open();
    assert!(matches!(world.publish(&registrar, &first), Err(RegistryError::NoRing)));
    registrar.take_ring("ann", &world.keys.ring(2, &[]), now()).unwrap();
    let (id, signature) = (digest(&first), sign_head(&first, &world.keys.heads));
    let upload = |bytes: &[u8]| {
        let mut file = registrar.store().incoming().unwrap();
        file.write_all(bytes).unwrap();
        registrar.publish("ann", (id, &signature), file, now()).unwrap_err()
    };
    let mut flipped = first.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [&first[..first.len() - 1], &flipped, &second] {
        assert!(matches!(upload(bytes), RegistryError::Garbled { .. }));
    }
    let text = b"not a head".to_vec();
    assert_eq!(world.publish(&registrar, &text).unwrap_err().code(), OperatorCode::Head);
    let strange = sign_head(&first, &SigningKey::generate());
    assert_eq!(registrar.expects(id, &strange).unwrap_err().code(), OperatorCode::Signature);
    assert_eq!(std::fs::read_dir(world.blobs()).unwrap().count(), 0, "uploads leave nothing");
    let unknown = registrar.assign("ann", &assign(&world.keys, 1, id, |_| {}), now()).unwrap_err();
    assert_eq!(unknown.code(), OperatorCode::Unknown);
    let older = registrar.take_ring("ann", &world.keys.ring(1, &[]), now()).unwrap_err();
    assert_eq!(older.code(), OperatorCode::Conflict);
    assert!(snapshot(&registrar).channels.is_empty());
}

#[test]
fn a_head_whose_manifest_lies_about_its_size_is_refused() {
    let world = World::new();
    let registrar = world.ready();
    let (first, _) = heads();
    let at = first.windows(9).position(|w| w == b"\\\"dim\\\":4").expect("the manifest names its size");
    let mut lying = first;
    lying[at + 8] = b'9';
    let refused = world.publish(&registrar, &lying).unwrap_err();
    assert_eq!(refused.code(), OperatorCode::Head, "{refused}");
    assert_eq!(std::fs::read_dir(world.blobs()).unwrap().count(), 0);
}

#[test]
fn a_file_that_was_spoilt_on_the_disk_comes_again() {
    let world = World::new();
    let registrar = world.ready();
    let (first, _) = heads();
    let one = world.publish(&registrar, &first).unwrap();
    let (blob, signature) = (world.blobs().join(one.to_string()), sign_head(&first, &world.keys.heads));
    for spoilt in [&first[..first.len() - 1], &[&first[..], b"x"].concat()] {
        std::fs::write(&blob, spoilt).unwrap();
        assert!(registrar.expects(one, &signature).unwrap());
        world.publish(&registrar, &first).unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), first);
    }
    std::fs::remove_file(&blob).unwrap();
    assert!(registrar.expects(one, &signature).unwrap());
}

#[test]
fn compressed_files_are_swept_checked_and_come_again() {
    let world = World::new();
    let registrar = world.ready();
    let (small, _) = heads();
    let len = u64::from_le_bytes(small[..8].try_into().unwrap());
    let end = 8 + usize::try_from(len).unwrap();
    let large = [&(len + 8000).to_le_bytes()[..], &small[8..end], &[b' '; 8000], &small[end..]].concat();
    let one = world.publish(&registrar, &large).unwrap();
    let two = world.publish(&registrar, &small).unwrap();
    let path = world.blobs().join(format!("{one}.zlib"));
    let (packed, signature) = (std::fs::read(&path).unwrap(), sign_head(&large, &world.keys.heads));
    assert!(!registrar.expects(one, &signature).unwrap());
    std::fs::write(&path, &packed[..packed.len() - 1]).unwrap();
    assert!(registrar.expects(one, &signature).unwrap(), "it is spoilt");
    world.publish(&registrar, &large).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), packed);
    drop(registrar);
    // Of a publication that was cut short, and of a release that is not worth compressing.
    for orphan in [digest(b"cut short"), two] {
        std::fs::write(world.blobs().join(format!("{orphan}.zlib")), b"?").unwrap();
    }
    let registrar = world.open();
    let kept: BTreeSet<_> = std::fs::read_dir(world.blobs())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept, BTreeSet::from([one.to_string(), format!("{one}.zlib"), two.to_string()]));
    assert!(!registrar.expects(one, &signature).unwrap());
}

#[test]
fn replays_accidental_returns_and_other_heads_are_refused() {
    let world = World::new();
    let (first, second) = heads();
    let registrar = world.ready();
    let (one, two) =
        (world.publish(&registrar, &first).unwrap(), world.publish(&registrar, &second).unwrap());
    let old = assign(&world.keys, 1, one, |_| {});
    registrar.assign("ann", &old, now()).unwrap();
    registrar.assign("ann", &assign(&world.keys, 2, two, |_| {}), now()).unwrap();
    let refused = |document: &[u8]| registrar.assign("ann", document, now()).unwrap_err();
    assert!(refused(&old).to_string().contains("replay"));
    assert!(
        refused(&assign(&world.keys, 2, one, |_| {})).to_string().contains("two different assignments 2")
    );
    let back = |rollback| assign(&world.keys, 3, one, |a| a.rollback = rollback);
    assert!(refused(&back(false)).to_string().contains("head rollback"));
    let other = assign(&world.keys, 1, one, |a| a.channel = "time-of-day@stable".parse().unwrap());
    assert_eq!(refused(&other).code(), OperatorCode::Head);
    registrar.assign("ann", &back(true), now()).unwrap();
    // A revoked key: what it signed is not sent any more, and takes nothing.
    registrar.take_ring("ann", &world.keys.ring(2, &[HEADS, ASSIGNMENTS]), now()).unwrap();
    assert!(snapshot(&registrar).channels.is_empty());
    assert_eq!(refused(&assign(&world.keys, 4, two, |_| {})).code(), OperatorCode::Signature);
    let state = OperatorRequestMsg::Channel { channel: "people-count@stable".into() };
    let replies = registrar.answer("ann", &state, now(), &|_| false).unwrap();
    let OperatorReplyMsg::Channel(state) = &replies[0] else { panic!("{replies:?}") };
    assert!(state.reason.contains("was revoked"), "{state:?}");
}

#[test]
fn a_rollout_is_steered_and_its_state_survives() {
    let world = World::new();
    let (first, second) = heads();
    let registrar = world.ready();
    let (one, two) =
        (world.publish(&registrar, &first).unwrap(), world.publish(&registrar, &second).unwrap());
    let canary = assign(&world.keys, 1, two, |a| {
        (a.fallback, a.share) = (Some(one), "10%".parse().unwrap());
        a.promotion = Some(Promotion::USUAL);
    });
    registrar.assign("ann", &canary, now()).unwrap();
    let channel = "people-count@stable".parse().unwrap();
    let state = |registrar: &Registrar| snapshot(registrar).channels[&channel].rollout.clone();
    assert_eq!(state(&registrar).phase, RolloutPhase::Soaking);
    registrar.step(now()).unwrap();
    assert_eq!(state(&registrar).phase, RolloutPhase::Soaking, "nobody has reported");
    let late = registrar.steer("bob", (&channel, 7), RolloutAction::Abort, now()).unwrap_err();
    assert_eq!(late.code(), OperatorCode::Conflict);
    registrar.steer("bob", (&channel, 1), RolloutAction::Abort, now()).unwrap();
    drop(registrar);
    let registrar = world.open();
    assert_eq!((state(&registrar).phase, state(&registrar).share), (RolloutPhase::Aborted, Share::NONE));
    assert!(registrar.store().history(&channel, 1).unwrap()[0].what.contains("aborted at 0%"));
}

#[test]
fn a_registry_keeps_its_root_and_one_process_has_it() {
    let world = World::new();
    let store = || Embedded::open(world.dir.path());
    let without = Registrar::open(Box::new(store().unwrap()), None, now()).unwrap_err();
    assert!(matches!(without, RegistryError::NoRoot));
    let registrar = world.open();
    assert!(store().unwrap_err().to_string().contains("--server HOST:PORT"));
    drop(registrar);
    let other = SigningKey::generate().public();
    let refused = Registrar::open(Box::new(store().unwrap()), Some(other), now()).unwrap_err();
    assert!(matches!(refused, RegistryError::OtherRoot { .. }));
    Registrar::open(Box::new(store().unwrap()), None, now()).unwrap();
}
