//! Enrolment's own set of messages: pinned bytes, hostile bytes, limits.

use std::fmt::Debug;

use protocol::{
    ALPN_ENROLL, CodecError, EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Grant, Message, codec, limits,
};

fn grant() -> Grant {
    Grant {
        chain: vec![vec![1, 2], vec![3]],
        authority: vec![4, 5, 6],
        servers: vec!["a:1".into(), "b:2".into()],
        release_root: "ed25519 ab".into(),
        key_ring: vec![9, 8],
        now: 1_750_000_000,
    }
}

fn enroll() -> EnrollRequestMsg {
    EnrollRequestMsg::Enroll { token: vec![7, 7, 7], request: vec![0x30, 1] }
}

/// These bytes never change while the ALPN is `fth-enroll/1`.
fn pinned<M: Message + PartialEq + Debug>(message: &M, golden: &str) {
    let bytes = codec::encode(message, usize::MAX).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.replace(' ', ""), "{message:?}");
    let body = &bytes[codec::PREFIX_BYTES..];
    assert_eq!(codec::decode_exact::<M>(body, usize::MAX).as_ref(), Ok(message));
    for cut in 0..body.len() {
        codec::decode_exact::<M>(&body[..cut], usize::MAX).unwrap_err();
    }
    let longer = [body, &[0]].concat();
    assert!(matches!(
        codec::decode_exact::<M>(&longer, usize::MAX),
        Err(CodecError::Trailing { extra: 1, .. })
    ));
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut flipped = body.to_vec();
            flipped[at] ^= 1 << bit;
            // Whatever it is: an error or a message within the limits, and no more memory than it has bytes.
            if let Ok(message) = codec::decode_exact::<M>(&flipped, usize::MAX) {
                message.validate().unwrap();
            }
        }
    }
}

#[test]
fn every_message_is_pinned() {
    assert_eq!(ALPN_ENROLL, b"fth-enroll/1");
    pinned(&enroll(), "08000000 00 03 070707 02 3001");
    pinned(&EnrollRequestMsg::Renew { request: vec![0x30, 1] }, "04000000 01 02 3001");
    pinned(
        &EnrollReplyMsg::Granted(grant()),
        "27000000 00 02 02 0102 01 03 03 040506 02 03 613a31 03 623a32 0a 65643235353139206162 02 0908 fc80e14e68",
    );
    pinned(&EnrollReplyMsg::refused(EnrollCode::Used, "no"), "05000000 01 01 02 6e6f");
}

#[test]
fn every_code_is_pinned_and_has_words_of_its_own() {
    use EnrollCode::*;
    let codes = [Token, Used, Expired, Withdrawn, Request, Certificate, Early, Busy, Internal];
    for (number, code) in (0_u8..).zip(codes) {
        let body = [1, number, 0];
        let refused = EnrollReplyMsg::Refused { code, message: String::new() };
        assert_eq!(codec::decode_exact(&body, usize::MAX), Ok(refused));
    }
    codec::decode_exact::<EnrollReplyMsg>(&[1, 9, 0], usize::MAX).unwrap_err();
    let words: std::collections::BTreeSet<_> = codes.map(|code| code.to_string()).into();
    assert_eq!(words.len(), codes.len());
}

#[test]
fn what_is_too_long_does_not_travel() {
    let refused = |message: Grant| EnrollReplyMsg::Granted(message).validate().unwrap_err().to_string();
    let long = vec![0; limits::MAX_CERTIFICATE_BYTES + 1];
    assert!(refused(Grant { chain: vec![long.clone()], ..grant() }).contains("bytes of a certificate"));
    assert!(refused(Grant { authority: long.clone(), ..grant() }).contains("bytes of a certificate"));
    assert!(
        refused(Grant { chain: vec![vec![]; limits::MAX_CHAIN + 1], ..grant() }).contains("certificates")
    );
    assert!(refused(Grant { servers: vec!["a\nb".into()], ..grant() }).contains("control character"));
    assert!(refused(Grant { servers: vec!["a".into(); 9], ..grant() }).contains("servers"));
    assert!(
        refused(Grant { key_ring: vec![0; limits::MAX_DOCUMENT_BYTES + 1], ..grant() }).contains("key ring")
    );
    EnrollRequestMsg::Renew { request: long.clone() }.validate().unwrap_err();
    EnrollRequestMsg::Enroll { token: long, request: vec![] }.validate().unwrap_err();
}

#[test]
fn a_token_is_never_shown() {
    let shown = format!("{:?}", EnrollRequestMsg::Enroll { token: vec![201, 202], request: vec![1] });
    assert!(!shown.contains("201") && !shown.contains("token"), "{shown}");
}
