//! Any valid message about heads.

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    AuditEntry, Body, BodyId, BoxModel, CameraAccount, CameraHead, ChannelState, EdgeWork, FetchCode,
    FetchReplyMsg, FetchRequest, HeadReport, HistoryEntry, Moments, OperatorCode, OperatorReplyMsg,
    OperatorRequestMsg, Part, ReleaseId, RolloutAction, RolloutPhase, Site, Wanted,
    limits::{MAX_AUDIT_LINES, MAX_DOCUMENT_BYTES, MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES, WHOLE_SHARE},
};

use crate::strategies::{name, text};

pub(crate) fn report() -> impl Strategy<Value = HeadReport> {
    let words = (name(), name(), text());
    let releases = (option::of(release()), option::of(release()), option::of(release()));
    (words, releases, any::<(u64, bool, u64, u64, u64, u64)>(), moments()).prop_map(
        |((head, channel, error), (wanted, active, failed), numbers, values)| {
            let (counter, pinned, active_for_ms, answers, failures, flops) = numbers;
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
                flops,
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
    let part = (body_id(), 0..=MAX_RELEASE_BYTES).prop_map(|(body, offset)| Part { body, offset });
    (release(), option::of(part)).prop_map(|(release, have)| FetchRequest { release, have })
}

pub(crate) fn fetched() -> impl Strategy<Value = FetchReplyMsg> {
    use FetchCode::*;
    let code = prop::sample::select(vec![Unknown, NotAssigned, Offset, Malformed, Internal]);
    prop_oneof![found(), (code, text()).prop_map(|(code, message)| FetchReplyMsg::Refused { code, message }),]
}

fn found() -> impl Strategy<Value = FetchReplyMsg> {
    let lengths = total().prop_flat_map(|total| (Just(total), 1..=total));
    let lengths = lengths.prop_flat_map(|(total, len)| (Just(total), Just(len), 0..=len));
    (lengths, signature(), body_id()).prop_map(|((total, len, offset), signature, id)| FetchReplyMsg::Found {
        total,
        signature,
        body: Body { id, len },
        offset,
    })
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
        (1..=MAX_AUDIT_LINES).prop_map(|last| Audit { last }),
        name().prop_map(|cameras| Ledger { cameras }),
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
        (name(), text(), any::<i64>()).prop_map(|(by, what, at_us)| OperatorReplyMsg::Audit(AuditEntry {
            by,
            what,
            at_us
        })),
        site().prop_map(OperatorReplyMsg::Site),
        account().prop_map(OperatorReplyMsg::Account),
    ]
}

pub(crate) fn work() -> impl Strategy<Value = EdgeWork> {
    any::<[u64; 4]>().prop_map(|[frames, head_flops, picture_flops, cpu_us]| EdgeWork {
        frames,
        head_flops,
        picture_flops,
        cpu_us,
    })
}

fn account() -> impl Strategy<Value = CameraAccount> {
    (name(), any::<[u64; 5]>(), 0.0..1e300, work()).prop_map(
        |(camera, [frames, flops, busy_us, received, sent], joules, edge)| CameraAccount {
            camera,
            frames,
            flops,
            busy_us,
            joules,
            received,
            sent,
            edge,
        },
    )
}

fn site() -> impl Strategy<Value = Site> {
    let camera_box = (text(), any::<u32>(), 0.0..1e300, 0.0..1e300)
        .prop_map(|(name, cores, extra_watts, gflops)| BoxModel { name, cores, extra_watts, gflops });
    let words = (name(), name(), text());
    (words, any::<(u64, u64, bool)>(), 0.0..1e300, option::of(0.0..1e300), camera_box).prop_map(
        |(
            (name, model, power),
            (for_ms, frame_flops, metered),
            idle_joules,
            grid_gco2_per_kwh,
            camera_box,
        )| Site {
            name,
            for_ms,
            model,
            frame_flops,
            power,
            metered,
            idle_joules,
            grid_gco2_per_kwh,
            camera_box,
        },
    )
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

fn body_id() -> impl Strategy<Value = BodyId> {
    any::<[u8; 32]>().prop_map(BodyId)
}

fn total() -> impl Strategy<Value = u32> {
    1..=MAX_RELEASE_BYTES
}

fn signature() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=MAX_SIGNATURE_BYTES)
}
