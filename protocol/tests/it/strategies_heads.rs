//! Any valid message about heads.

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    CameraHead, ChannelState, FetchCode, FetchReplyMsg, FetchRequest, HeadReport, HistoryEntry, Moments,
    OperatorCode, OperatorReplyMsg, OperatorRequestMsg, ReleaseId, RolloutAction, RolloutPhase, Wanted,
    limits::{MAX_DOCUMENT_BYTES, MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES, WHOLE_SHARE},
};

use crate::strategies::{name, text};

pub(crate) fn report() -> impl Strategy<Value = HeadReport> {
    let words = (name(), name(), text());
    let releases = (option::of(release()), option::of(release()), option::of(release()));
    (words, releases, any::<(u64, bool, u64, u64, u64)>(), moments()).prop_map(
        |((head, channel, error), (wanted, active, failed), numbers, values)| {
            let (counter, pinned, active_for_ms, answers, failures) = numbers;
            HeadReport {
                head,
                channel,
                counter,
                wanted,
                active,
                pinned,
                failed,
                error,
                active_for_ms,
                answers,
                failures,
                values,
            }
        },
    )
}

pub(crate) fn wanted() -> impl Strategy<Value = Wanted> {
    (document(), 0..=WHOLE_SHARE).prop_map(|(assignment, share)| Wanted { assignment, share })
}

pub(crate) fn document() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..400).prop_filter("short enough", |bytes| bytes.len() <= MAX_DOCUMENT_BYTES)
}

pub(crate) fn fetch() -> impl Strategy<Value = FetchRequest> {
    (release(), 0..=MAX_RELEASE_BYTES).prop_map(|(release, offset)| FetchRequest { release, offset })
}

pub(crate) fn fetched() -> impl Strategy<Value = FetchReplyMsg> {
    use FetchCode::*;
    let code = prop::sample::select(vec![Unknown, NotAssigned, Offset, Malformed, Internal]);
    prop_oneof![
        (total(), signature()).prop_map(|(total, signature)| FetchReplyMsg::Found { total, signature }),
        (code, text()).prop_map(|(code, message)| FetchReplyMsg::Refused { code, message }),
    ]
}

pub(crate) fn request() -> impl Strategy<Value = OperatorRequestMsg> {
    use OperatorRequestMsg::*;
    use RolloutAction::*;
    let action = prop::sample::select(vec![Hold, Resume, Abort, Promote]);
    prop_oneof![
        (release(), total(), signature()).prop_map(|(release, total, signature)| Publish {
            release,
            total,
            signature
        }),
        document().prop_map(|document| KeyRing { document }),
        document().prop_map(|assignment| Assign { assignment }),
        (name(), any::<u64>(), action).prop_map(|(channel, counter, action)| Rollout {
            channel,
            counter,
            action
        }),
        name().prop_map(|channel| Channel { channel }),
        (name(), name()).prop_map(|(channel, cameras)| Status { channel, cameras }),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = OperatorReplyMsg> {
    use OperatorCode::*;
    let code = prop::sample::select(vec![Role, Signature, Head, Unknown, Conflict, Malformed, Internal]);
    prop_oneof![
        text().prop_map(|note| OperatorReplyMsg::Done { note }),
        (code, text()).prop_map(|(code, message)| OperatorReplyMsg::Refused { code, message }),
        state().prop_map(OperatorReplyMsg::Channel),
        entry().prop_map(OperatorReplyMsg::History),
        (name(), any::<(bool, u64)>(), report(), moments()).prop_map(
            |(camera, (connected, heard_ms), report, before)| {
                OperatorReplyMsg::Head(CameraHead { camera, connected, heard_ms, report, before })
            }
        ),
    ]
}

fn state() -> impl Strategy<Value = ChannelState> {
    use RolloutPhase::*;
    let phase = prop::sample::select(vec![Soaking, Held, Stopped, Aborted, Done]);
    (name(), document(), 0..=WHOLE_SHARE, phase, text(), any::<i64>()).prop_map(
        |(channel, assignment, share, phase, reason, since_us)| ChannelState {
            channel,
            assignment,
            share,
            phase,
            reason,
            since_us,
        },
    )
}

fn entry() -> impl Strategy<Value = HistoryEntry> {
    (any::<(u64, bool, i64)>(), release(), name(), text()).prop_map(
        |((counter, rollback, at_us), release, by, what)| HistoryEntry {
            counter,
            release,
            rollback,
            by,
            what,
            at_us,
        },
    )
}

fn moments() -> impl Strategy<Value = Moments> {
    (any::<u64>(), -1e300..1e300, 0.0..1e300).prop_map(|(count, mean, squares)| Moments {
        count,
        mean,
        squares,
    })
}

fn release() -> impl Strategy<Value = ReleaseId> {
    any::<[u8; 32]>().prop_map(ReleaseId)
}

fn total() -> impl Strategy<Value = u32> {
    1..=MAX_RELEASE_BYTES
}

fn signature() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=MAX_SIGNATURE_BYTES)
}
