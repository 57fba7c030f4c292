//! Numbers of the plain enums on the wire: variants are appended, never moved or removed.

use std::fmt::Debug;

use bincode::{Decode, Encode, config};
use protocol::{
    CodecError, DropReason, Encoding, FetchCode, GoodbyeReason, OperatorCode, RefuseCode, RejectCode,
    RolloutAction, RolloutPhase, StreamKind,
};

/// `pinned` are all variants, in order from 0: the byte after them must be unknown. A new variant turns this
/// red until it is appended here.
fn check<E: Encode + Decode<()> + Debug + PartialEq>(pinned: &[E]) {
    for (number, variant) in (0u8..).zip(pinned) {
        let encoded = bincode::encode_to_vec(variant, config::standard()).unwrap();
        assert_eq!(encoded, [number], "{variant:?}");
        let (decoded, _): (E, _) = bincode::decode_from_slice(&encoded, config::standard()).unwrap();
        assert_eq!(&decoded, variant);
    }
    let next = [u8::try_from(pinned.len()).unwrap()];
    assert!(bincode::decode_from_slice::<E, _>(&next, config::standard()).is_err());
}

#[test]
fn are_pinned() {
    check(&[Encoding::F32, Encoding::F16, Encoding::Int8]);
    {
        use RefuseCode::*;
        check(&[Version, Space, Camera, Duplicate, Limit, Draining, Role, Malformed]);
    }
    {
        use GoodbyeReason::*;
        check(&[Shutdown, Draining, Revoked, Replaced, Malformed]);
    }
    {
        use DropReason::*;
        check(&[Superseded, Expired, Overloaded, Draining]);
    }
    {
        use RejectCode::*;
        check(&[
            Malformed,
            TooLarge,
            NotJpeg,
            Truncated,
            TooManyPixels,
            Internal,
            TokensUnavailable,
            PatchesUnavailable,
            PatchesMissing,
        ]);
    }
    {
        use FetchCode::*;
        check(&[Unknown, NotAssigned, Offset, Malformed, Internal]);
    }
    {
        use OperatorCode::*;
        check(&[Role, Signature, Head, Unknown, Conflict, Malformed, Internal]);
    }
    check(&[RolloutAction::Hold, RolloutAction::Resume, RolloutAction::Abort, RolloutAction::Promote]);
    {
        use RolloutPhase::*;
        check(&[Soaking, Held, Stopped, Aborted, Done]);
    }
}

#[test]
fn of_streams_are_pinned() {
    let kinds = [StreamKind::Control, StreamKind::Frame, StreamKind::Fetch, StreamKind::Operator];
    for (number, kind) in (0u8..).zip(kinds) {
        assert_eq!((kind as u8, StreamKind::try_from(number)), (number, Ok(kind)));
    }
    assert_eq!(StreamKind::try_from(4), Err(CodecError::UnknownStreamKind { found: 4 }));
}

#[test]
fn every_reason_has_its_own_words() {
    use RefuseCode::*;
    let refusals =
        [Version, Space, Camera, Duplicate, Limit, Draining, Role, Malformed].map(|c| c.to_string());
    let goodbyes = [
        GoodbyeReason::Shutdown,
        GoodbyeReason::Draining,
        GoodbyeReason::Revoked,
        GoodbyeReason::Replaced,
        GoodbyeReason::Malformed,
    ]
    .map(|reason| reason.to_string());
    let drops = [DropReason::Superseded, DropReason::Expired, DropReason::Overloaded, DropReason::Draining];
    for words in [&refusals[..], &goodbyes[..], &drops.map(|reason| reason.to_string())[..]] {
        let distinct: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(distinct.len(), words.len(), "{words:?}");
    }
    assert_eq!(drops.map(DropReason::key), ["superseded", "expired", "overloaded", "draining"]);
    assert_eq!(RejectCode::TooManyPixels.key(), "too_many_pixels");
}

#[test]
fn a_refusal_prints_safely() {
    let refused = protocol::Refused { code: RefuseCode::Space, message: "have\u{1b}[2J a, want b".into() };
    assert_eq!(refused.to_string(), "no head is in the encoder's embedding space: have [2J a, want b");
    let goodbye = protocol::Goodbye::new(GoodbyeReason::Shutdown, "");
    assert_eq!(goodbye.to_string(), "the other side stops");
}
