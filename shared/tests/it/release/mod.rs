//! Signed releases, key rings and assignments: what is accepted, and what is refused with which words.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use protocol::ReleaseId;
use shared::release::{
    Assignment, FORMAT, Freshness, HeadSignature, KeyRing, KeyRole, Promotion, PublicKey, RingKey, Share,
    SigningKey, Trust, digest, sign_head, signature_path, signed,
};

mod golden;
mod tampering;

/// Who signs in these tests.
pub struct World {
    pub root: SigningKey,
    pub heads: SigningKey,
    pub assignments: SigningKey,
}

impl World {
    pub fn new() -> Self {
        let [root, heads, assignments] = std::array::from_fn(|_| SigningKey::generate());
        Self { root, heads, assignments }
    }

    pub fn ring(&self, version: u64) -> KeyRing {
        let key = |name: &str, key: &SigningKey, role| RingKey {
            name: name.into(),
            key: key.public(),
            role,
            revoked: false,
        };
        let keys = vec![
            key("heads-1", &self.heads, KeyRole::Heads),
            key("assignments-1", &self.assignments, KeyRole::Assignments),
        ];
        KeyRing { format: FORMAT, version, keys }
    }

    pub fn trust(&self) -> Trust {
        Trust::new(self.root.public(), &self.ring(1).sign(&self.root).unwrap()).unwrap()
    }
}

pub fn assignment(counter: u64) -> Assignment {
    Assignment {
        format: FORMAT,
        channel: "people-count@stable".parse().unwrap(),
        counter,
        release: ReleaseId([0xaa; 32]),
        fallback: Some(ReleaseId([0xbb; 32])),
        cameras: vec!["plaza-*".parse().unwrap()],
        share: "10%".parse().unwrap(),
        promotion: Some(Promotion::USUAL),
        rollback: false,
    }
}

fn words<T: std::fmt::Debug>(result: Result<T, shared::release::ReleaseError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_head_is_verified_by_its_file_or_its_digest_alone() {
    let (world, file) = (World::new(), b"a head");
    let signature = HeadSignature::parse(&sign_head(file, &world.heads)).unwrap();
    let trust = world.trust();
    assert_eq!((signature.release, signature.key()), (digest(file), world.heads.public()));
    assert_eq!(trust.verify_head(file, &signature).unwrap().name, "heads-1");
    assert_eq!(trust.verify_release(digest(file), &signature).unwrap().name, "heads-1");
    let other = words(trust.verify_head(b"another head", &signature));
    assert!(other.contains("is for release") && other.contains(&digest(b"another head").short()), "{other}");
    assert_eq!(signature_path("a/b.safetensors".as_ref()).to_str(), Some("a/b.safetensors.sig"));
}

#[test]
fn only_keys_of_the_ring_with_the_right_role_count() {
    let world = World::new();
    let trust = world.trust();
    let signed = |key: &SigningKey| HeadSignature::parse(&sign_head(b"h", key)).unwrap();
    let stranger = words(trust.verify_head(b"h", &signed(&SigningKey::generate())));
    assert!(stranger.contains("is not in key ring version 1"), "{stranger}");
    let wrong = words(trust.verify_head(b"h", &signed(&world.assignments)));
    assert!(wrong.contains("assignments-1") && wrong.contains("signs assignments, not heads"), "{wrong}");
    let wrong = words(trust.open_assignment(&assignment(1).sign(&world.heads).unwrap()));
    assert!(wrong.contains("signs heads, not assignments"), "{wrong}");
    // The root signs rings and nothing else.
    assert!(words(trust.verify_head(b"h", &signed(&world.root))).contains("is not in key ring"));
}

#[test]
fn a_revoked_key_is_refused_from_the_next_ring_on() {
    let world = World::new();
    let mut trust = world.trust();
    let head = HeadSignature::parse(&sign_head(b"h", &world.heads)).unwrap();
    let document = assignment(1).sign(&world.assignments).unwrap();
    trust.verify_head(b"h", &head).unwrap();
    trust.open_assignment(&document).unwrap();
    let mut ring = world.ring(2);
    ring.keys.iter_mut().for_each(|key| key.revoked = true);
    assert!(trust.update(&ring.sign(&world.root).unwrap()).unwrap());
    for refused in [words(trust.verify_head(b"h", &head)), words(trust.open_assignment(&document))] {
        assert!(refused.contains("was revoked, key ring version 2 says: sign again"), "{refused}");
    }
}

#[test]
fn a_ring_never_goes_back_and_only_its_root_makes_it() {
    let world = World::new();
    let ring = |version| world.ring(version).sign(&world.root).unwrap();
    let mut trust = world.trust();
    assert!(!trust.update(&ring(1)).unwrap());
    assert!(trust.update(&ring(5)).unwrap());
    assert_eq!((trust.ring().version, trust.document()), (5, &*ring(5)));
    assert!(words(trust.update(&ring(4))).contains("version 4 is older than version 5"));
    let mut other = world.ring(5);
    other.keys.pop();
    assert!(words(trust.update(&other.sign(&world.root).unwrap())).contains("two different key rings"));
    let foreign = world.ring(9).sign(&SigningKey::generate()).unwrap();
    assert!(words(trust.update(&foreign)).contains("is trusted here"));
    assert_eq!(trust.ring().version, 5, "a refused ring changes nothing");
}

#[test]
fn counters_never_go_back() {
    let world = World::new();
    let trust = world.trust();
    let open =
        |counter| trust.open_assignment(&assignment(counter).sign(&world.assignments).unwrap()).unwrap();
    let seen = open(7).seen();
    assert_eq!(open(7).freshness(None).unwrap(), Freshness::Newer);
    assert_eq!(open(8).freshness(Some(&seen)).unwrap(), Freshness::Newer);
    assert_eq!(open(7).freshness(Some(&seen)).unwrap(), Freshness::Same);
    let replayed = words(open(6).freshness(Some(&seen)));
    assert!(replayed.contains("people-count@stable: assignment 6 is older than 7"), "{replayed}");
    let other = Assignment { rollback: true, ..assignment(7) }.sign(&world.assignments).unwrap();
    let twice = words(trust.open_assignment(&other).unwrap().freshness(Some(&seen)));
    assert!(twice.contains("two different assignments 7"), "{twice}");
    let json = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<shared::release::Seen>(&json).unwrap(), seen);
}

#[test]
fn a_release_that_was_replaced_comes_back_only_when_it_is_said() {
    let (old, new) = (ReleaseId([1; 32]), ReleaseId([0xaa; 32]));
    assignment(2).check_not_superseded(&[old]).unwrap();
    let refused = words(assignment(2).check_not_superseded(&[old, new]));
    assert!(refused.contains("was replaced before") && refused.contains("head rollback"), "{refused}");
    Assignment { rollback: true, ..assignment(2) }.check_not_superseded(&[new]).unwrap();
}

#[test]
fn the_server_chooses_within_the_signed_bounds_only() {
    let bounded = Assignment {
        promotion: Some(Promotion { up_to: "50%".parse().unwrap(), ..Promotion::USUAL }),
        ..assignment(1)
    };
    let (release, fallback) = (Some(bounded.release), bounded.fallback);
    for number in 0..200 {
        let camera = format!("plaza-{number}");
        for share in [Share::NONE, bounded.share, bounded.largest_share()] {
            let want = if share.holds(&bounded.channel, &camera) { release } else { fallback };
            assert_eq!(bounded.wanted(&camera, share).unwrap(), want);
        }
    }
    assert_eq!(bounded.wanted("gate-1", bounded.share).unwrap(), None);
    let beyond = words(bounded.wanted("plaza-1", "50.1%".parse().unwrap()));
    assert!(beyond.contains("50.1% of the cameras, assignment 1 allows 50%"), "{beyond}");
    let fixed = Assignment { promotion: None, ..bounded };
    assert!(fixed.wanted("plaza-1", "10.1%".parse().unwrap()).is_err());
}

#[test]
fn a_channel_gives_only_heads_of_its_name() {
    let channel = assignment(1).channel;
    channel.check_head("people-count", ReleaseId([1; 32])).unwrap();
    let other = words(channel.check_head("car-count", ReleaseId([1; 32])));
    assert!(other.contains("publish it under car-count@stable"), "{other}");
}

#[test]
fn what_would_be_refused_is_not_signed() {
    let world = World::new();
    let refused = |change: &dyn Fn(&mut Assignment)| {
        let mut assignment = assignment(1);
        change(&mut assignment);
        words(assignment.sign(&world.assignments))
    };
    let promotion = |change: fn(&mut Promotion)| {
        refused(&move |a: &mut Assignment| change(a.promotion.as_mut().unwrap()))
    };
    assert!(refused(&|a| a.format = 2).contains("format 2 is not known"));
    assert!(refused(&|a| a.counter = 0).contains("`counter` is 0"));
    assert!(refused(&|a| a.fallback = Some(a.release)).contains("`fallback`"));
    assert!(refused(&|a| a.cameras = vec!["*".parse().unwrap(); 65]).contains("`cameras` is 65"));
    assert!(promotion(|p| p.up_to = Share::NONE).contains("`promotion.up_to` is 0%"));
    assert!(promotion(|p| p.soak_s = u64::MAX).contains("`promotion.soak_s`"));
    assert!(promotion(|p| p.max_failures = f64::NAN).contains("`promotion.max_failures` is NaN"));
    assert!(promotion(|p| p.max_shift = 0.0).contains("`promotion.max_shift`"));
    assert!(promotion(|p| p.max_spread = 1.0).contains("`promotion.max_spread`"));
    let ring = |change: fn(&mut KeyRing)| {
        let mut ring = world.ring(1);
        change(&mut ring);
        words(ring.sign(&world.root))
    };
    assert!(ring(|r| r.version = 0).contains("`version` is 0"));
    assert!(ring(|r| r.keys[0].name = "A b".into()).contains("`keys.name`"));
    assert!(ring(|r| r.keys[1].key = r.keys[0].key).contains("each name and key once"));
    assert!(ring(|r| r.keys = vec![r.keys[0].clone(); 65]).contains("`keys` is 65"));
}

#[test]
fn the_largest_ring_and_assignment_fit_their_limit() {
    let world = World::new();
    let mut ring = world.ring(u64::MAX);
    ring.keys = (0..64)
        .map(|i| RingKey {
            name: format!("{i:063}"),
            key: SigningKey::generate().public(),
            role: KeyRole::Assignments,
            revoked: false,
        })
        .collect();
    let document = ring.sign(&world.root).unwrap();
    assert_eq!(KeyRing::open(&document, world.root.public()).unwrap(), ring);
    let cameras = vec!["a".repeat(63).parse().unwrap(); 64];
    Assignment { cameras, ..assignment(u64::MAX) }.sign(&world.assignments).unwrap();
}

#[test]
fn key_files_are_private_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heads-1.key");
    std::fs::write(&path, golden::PEM).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let exposed = words(SigningKey::load(&path));
    assert!(exposed.contains("has mode 644") && exposed.contains("chmod 600"), "{exposed}");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let key = SigningKey::load(&path).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey(of {})", key.public()));
    for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        std::fs::write(&path, bad).unwrap();
        assert!(words(SigningKey::load(&path)).contains("is no Ed25519 private key in PKCS#8 PEM"));
    }
    std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
    assert!(words(SigningKey::load(&path)).contains("this is some other file"));
    assert!(words(PublicKey::load(&dir.path().join("root.pub"))).contains("root.pub"));
}
