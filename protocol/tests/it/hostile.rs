//! Bytes of a broken or hostile peer: an error, never a panic, and no more memory than the bytes are worth.

use proptest::{collection::vec, prelude::*};
use protocol::{CodecError, FrameReplyMsg, codec, limits::MAX_FRAME_HEADER_BYTES};

use crate::{
    alloc::measured,
    samples::{self, Any, Kind},
};

/// What decoding may allocate besides the body's own size: bincode's integer slack, and an error's words.
const SLACK_BYTES: usize = 1024;

/// Decodes as `kind`, and checks what it costs.
fn decode(kind: Kind, body: &[u8]) -> Result<Any, CodecError> {
    let (decoded, allocated) = measured(|| kind.decode(body));
    assert!(allocated <= body.len() + SLACK_BYTES, "{} bytes cost {allocated}: {decoded:?}", body.len());
    decoded
}

/// Decodes as every type; whatever is accepted must be writable and come back the same.
fn survives(body: &[u8]) {
    for kind in Kind::ALL {
        if let Ok(message) = decode(kind, body) {
            assert_eq!(kind.decode(&message.body()), Ok(message));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn random_bytes(body in vec(any::<u8>(), 0..300)) {
        survives(&body);
    }

    /// Small bytes look like variants and lengths, so they get deeper.
    #[test]
    fn plausible_bytes(body in vec(prop_oneof![0u8..4, 250u8..=255, any::<u8>()], 0..120)) {
        survives(&body);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for (name, message) in samples::all() {
        let body = message.body();
        for len in 0..body.len() {
            let error = decode(message.kind(), &body[..len]).unwrap_err();
            assert!(
                matches!(error, CodecError::Truncated { len: at, .. } if at == len),
                "{name} {len}: {error}"
            );
        }
    }
}

#[test]
fn every_extension_is_an_error() {
    for (name, message) in samples::all() {
        for extra in [1, 7, 32] {
            let mut body = message.body();
            body.extend(vec![0; extra]);
            let error = decode(message.kind(), &body).unwrap_err();
            let is_refused = matches!(error, CodecError::Trailing { extra: found, .. } if found == extra)
                || matches!(error, CodecError::TooLong { .. });
            assert!(is_refused, "{name}: {error}");
        }
    }
}

#[test]
fn every_other_byte_at_every_place_is_survived() {
    for (_, message) in samples::all() {
        let body = message.body();
        for at in 0..body.len() {
            let mut changed = body.clone();
            for byte in 0..=255 {
                changed[at] = byte;
                survives(&changed);
            }
        }
    }
}

/// bincode's varint of a `u64`.
fn huge_length(len: u64) -> Vec<u8> {
    [&[0xfd][..], &len.to_le_bytes()].concat()
}

#[test]
fn a_huge_claimed_length_at_every_place_is_an_error_and_costs_nothing() {
    let lengths = [1 << 20, 24 << 20, 32 << 20, u64::from(u32::MAX), 1 << 40, u64::MAX / 4, u64::MAX];
    for (_, message) in samples::all() {
        let body = message.body();
        for at in 0..body.len() {
            for claim in lengths.map(huge_length) {
                // In place of the byte, the rest kept; and at the end of the body.
                survives(&[&body[..at], &claim, &body[at + 1..]].concat());
                survives(&[&body[..at], &claim].concat());
            }
        }
    }
}

#[test]
fn a_claim_within_the_limits_of_a_reply_still_costs_nothing() {
    // Answer, seq, four timings, batch, F32, rows 1, dim 65,536, no scales, then 24 MiB of data announced.
    let mut body = vec![0, 1, 0, 0, 0, 0, 1, 0, 1, 0xfc, 0, 0, 1, 0, 0];
    body.extend(huge_length(24 << 20));
    let error = decode(Kind::Reply, &body).unwrap_err();
    assert_eq!(error, CodecError::Truncated { message: "FrameReplyMsg", len: body.len() });
}

#[test]
fn a_body_over_the_limit_is_not_looked_at() {
    let (error, allocated) =
        measured(|| codec::decode_exact::<FrameReplyMsg>(&[0xff; 4096], 4095).unwrap_err());
    assert_eq!(error, CodecError::TooLong { len: 4096, limit: 4095 });
    assert_eq!(allocated, 0);
    let header = vec![0; MAX_FRAME_HEADER_BYTES + 1];
    assert_eq!(Kind::Header.decode(&header), Err(CodecError::TooLong { len: 8257, limit: 8256 }));
}

#[test]
fn errors_name_what_was_wrong() {
    let words = |kind: Kind, body: &[u8]| kind.decode(body).unwrap_err().to_string();
    assert_eq!(
        words(Kind::Encoder, &[9]),
        "EncoderToAgentMsg cannot be read: EncoderToAgentMsg has no variant 9"
    );
    assert_eq!(words(Kind::Reply, &[1, 7]), "FrameReplyMsg ends early: 2 bytes are too few");
    // A goodbye whose message is no UTF-8.
    assert!(words(Kind::Agent, &[2, 0, 1, 0xff]).contains("cannot be read"));
}
