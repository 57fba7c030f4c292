//! The formats, pinned: what was signed once stays readable. The signatures are OpenSSL's, by the key of RFC 8032,
//! section 7.1, TEST 1: `openssl pkeyutl -sign -rawin` over domain, zero byte and SHA-256.

use super::*;

/// The test key of the RFC, as `openssl genpkey` would write it.
pub const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

const HEAD: &str = concat!(
    "fth-head 1 d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a ",
    "2c7541b6ab6b6357a9538f1702fee58175348e9df3427df530f8bd202732f0e4",
    "a9fb53853a3972d93e234d8c5c697dbdfefab41cca338a81a984ab96999b3b02 ",
    "9f2e6d33a3717ee826353a404ba4618d1aeeb6879ad7936bce8ed5f46814924d\n"
);

fn key() -> SigningKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, PEM).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    SigningKey::load(&path).unwrap()
}

#[test]
fn a_heads_signature() {
    assert_eq!(key().public().to_string(), PUBLIC);
    assert_eq!(String::from_utf8(sign_head(b"head", &key())).unwrap(), HEAD);
}

#[test]
fn a_ring_and_an_assignment() {
    let entry = |name: &str, key, role| RingKey { name: name.into(), key, role, revoked: false };
    let ring = KeyRing {
        format: FORMAT,
        version: 3,
        keys: vec![
            entry("assignments-1", key().public(), KeyRole::Assignments),
            RingKey { revoked: true, ..entry("heads-1", "ab".repeat(32).parse().unwrap(), KeyRole::Heads) },
        ],
    };
    let (signed_ring, signed_assignment) =
        (include_bytes!("key-ring").as_slice(), include_bytes!("assignment").as_slice());
    assert_eq!(String::from_utf8_lossy(&ring.sign(&key()).unwrap()), String::from_utf8_lossy(signed_ring));
    let trust = Trust::new(key().public(), signed_ring).unwrap();
    assert_eq!(trust.ring(), &ring);
    let opened = trust.open_assignment(signed_assignment).unwrap();
    assert_eq!((opened.assignment, opened.signer.as_str()), (assignment(7), "assignments-1"));
    let written = assignment(7).sign(&key()).unwrap();
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(signed_assignment));
}
