//! Every changed byte is noticed, and a signature is good for what it was made for only.

use super::*;

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let world = World::new();
    let trust = world.trust();
    let assigned = assignment(1).sign(&world.assignments).unwrap();
    let ring = world.ring(2).sign(&world.root).unwrap();
    let signature = sign_head(b"head", &world.heads);
    let accepted = |kind: usize, bytes: &[u8]| match kind {
        0 => trust.open_assignment(bytes).is_ok(),
        1 => trust.clone().update(bytes).is_ok(),
        _ => HeadSignature::parse(bytes).is_ok_and(|s| trust.verify_head(b"head", &s).is_ok()),
    };
    for (kind, whole) in [assigned, ring, signature].iter().enumerate() {
        assert!(accepted(kind, whole));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert!(!accepted(kind, &changed), "kind {kind}, byte {at}, bit {bit}");
            }
            assert!(!accepted(kind, &whole[..at]), "kind {kind} cut at {at}");
        }
        assert!(!accepted(kind, &[whole.as_slice(), b"\n"].concat()), "kind {kind} and more");
    }
}

#[test]
fn a_signature_of_one_kind_is_none_of_another() {
    let world = World::new();
    // One key in every role: only the domain is in the way.
    let key = &world.root;
    let mut ring = world.ring(1);
    ring.keys[0].key = key.public();
    let document = ring.sign(key).unwrap();
    let trust = Trust::new(key.public(), &document).unwrap();
    let text = String::from_utf8(document).unwrap();
    let (line, content) = text.split_once('\n').unwrap();
    let release = digest(content.as_bytes());
    let forged = format!("{} {release}\n", line.replace("fth-key-ring", "fth-head"));
    let forged = HeadSignature::parse(forged.as_bytes()).unwrap();
    let refused = words(trust.verify_head(content.as_bytes(), &forged));
    assert!(refused.contains("does not fit its bytes"), "{refused}");
    let renamed = text.replacen("fth-key-ring", "fth-assignment", 1);
    assert!(words(trust.open_assignment(renamed.as_bytes())).contains("does not fit its bytes"));
    let as_it_is = words(trust.open_assignment(text.as_bytes()));
    assert!(as_it_is.contains("this is no signed assignment"), "{as_it_is}");
    let domains = [signed::Kind::Head, signed::Kind::KeyRing, signed::Kind::Assignment].map(|k| k.domain());
    for (i, domain) in domains.iter().enumerate() {
        assert!(domains.iter().enumerate().all(|(j, other)| i == j || !other.starts_with(domain)));
    }
}

#[test]
fn a_huge_document_is_not_looked_at() {
    let trust = World::new().trust();
    let huge = vec![b'x'; 16 * 1024 + 1];
    assert!(words(trust.open_assignment(&huge)).contains("at most 16384 are accepted"));
    assert!(words(HeadSignature::parse(&[b'x'; 1025])).contains("at most 1024 are accepted"));
    assert!(words(trust.open_assignment(b"\xff\n")).contains("its first line is no text"));
    assert!(words(trust.open_assignment(b"fth-assignment 2 a b\n")).contains("`fth-assignment 2`"));
}

#[test]
fn an_unknown_field_is_named() {
    // Whoever adds one raises the format: an old agent must not overlook a bound.
    let json = serde_json::to_string(&assignment(1)).unwrap().replacen('{', r#"{"until":3,"#, 1);
    let error = serde_json::from_str::<Assignment>(&json).unwrap_err().to_string();
    assert!(error.contains("unknown field `until`"), "{error}");
}
