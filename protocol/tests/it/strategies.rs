//! Any valid message, for property tests.

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    AgentToEncoderMsg, Answer, DropReason, EncoderToAgentMsg, Encoding, FrameHeader, FrameReplyMsg, Goodbye,
    GoodbyeReason, GridShape, Hello, InputSize, Kept, Ping, Pong, RefuseCode, Refused, RejectCode,
    ServerTimings, SessionLimits, SpaceId, Welcome, WireTensor,
    limits::{MAX_DIM, MAX_FRAME_BYTES, MAX_NAME_BYTES, MAX_SIDE, MAX_SPACES, MAX_STRING_BYTES},
};

use crate::{samples::Any, strategies_heads as heads};

/// Every variant of every message, all values within the limits.
pub(crate) fn message() -> impl Strategy<Value = Any> {
    prop_oneof![
        agent().prop_map(Any::Agent),
        encoder().prop_map(Any::Encoder),
        header().prop_map(Any::Header),
        reply().prop_map(Any::Reply),
        heads::fetch().prop_map(Any::Fetch),
        heads::fetched().prop_map(Any::Fetched),
        heads::request().prop_map(Any::Operator),
        heads::reply().prop_map(Any::Operated),
    ]
}

fn agent() -> impl Strategy<Value = AgentToEncoderMsg> {
    let hello = (any::<u16>(), name(), any::<u64>(), name(), vec(space(), 0..=MAX_SPACES)).prop_map(
        |(version, agent, instance, camera, spaces)| Hello { version, agent, instance, camera, spaces },
    );
    let ping = any::<(u64, u64)>().prop_map(|(id, sent_us)| Ping { id, sent_us });
    prop_oneof![
        hello.prop_map(AgentToEncoderMsg::Hello),
        ping.prop_map(AgentToEncoderMsg::Ping),
        goodbye().prop_map(AgentToEncoderMsg::Goodbye),
        heads::report().prop_map(AgentToEncoderMsg::Head),
        heads::work().prop_map(AgentToEncoderMsg::Work),
    ]
}

fn encoder() -> impl Strategy<Value = EncoderToAgentMsg> {
    let refused = (refuse_code(), text()).prop_map(|(code, message)| Refused { code, message });
    let pong =
        any::<(u64, u64, u64)>().prop_map(|(id, received_us, sent_us)| Pong { id, received_us, sent_us });
    prop_oneof![
        welcome().prop_map(EncoderToAgentMsg::Welcome),
        refused.prop_map(EncoderToAgentMsg::Refused),
        pong.prop_map(EncoderToAgentMsg::Pong),
        goodbye().prop_map(EncoderToAgentMsg::Goodbye),
        heads::document().prop_map(|document| EncoderToAgentMsg::KeyRing { document }),
        heads::wanted().prop_map(EncoderToAgentMsg::Wanted),
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let words = (any::<u16>(), name(), name(), text(), space());
    let grid =
        (1u32..=256, 1u32..=256, 1..=MAX_DIM).prop_map(|(rows, cols, dim)| GridShape { rows, cols, dim });
    let input = (1..=MAX_SIDE, 1..=MAX_SIDE).prop_map(|(width, height)| InputSize { width, height });
    let limits = (1..=MAX_FRAME_BYTES, 1..=u32::MAX, 1..=u16::MAX).prop_map(
        |(max_frame_bytes, max_pixels, max_in_flight)| SessionLimits {
            max_frame_bytes,
            max_pixels,
            max_in_flight,
        },
    );
    // As long as the smallest input's side, and never so small that the largest has too many patches.
    let input = input.prop_flat_map(|input| {
        let least = 256.min(input.width).min(input.height);
        (Just(input), option::of(least..=input.width.min(input.height)))
    });
    (words, 1..=MAX_DIM, option::of(grid), input, limits).prop_map(
        |((version, server, model, note, space), embed_dim, grid, (input, patch), limits)| Welcome {
            version,
            server,
            model,
            note,
            space,
            embed_dim,
            grid,
            input,
            patch,
            limits,
        },
    )
}

fn header() -> impl Strategy<Value = FrameHeader> {
    let encodings = (encoding(), option::of(encoding()));
    (any::<(u64, i64, u32)>(), 0..=MAX_FRAME_BYTES, encodings, option::of(kept())).prop_map(
        |((seq, captured_at_us, deadline_ms), jpeg_len, (embedding, tokens), patches)| FrameHeader {
            seq,
            captured_at_us,
            deadline_ms,
            jpeg_len,
            embedding,
            tokens,
            patches,
        },
    )
}

fn kept() -> impl Strategy<Value = Kept> {
    vec(any::<u8>(), 1..300).prop_filter_map("one place at least", |places| {
        let count = places.iter().map(|byte| byte.count_ones()).sum();
        (count > 0).then_some(Kept { count, places })
    })
}

fn reply() -> impl Strategy<Value = FrameReplyMsg> {
    let answer =
        (any::<(u64, u16)>(), timings(), tensor(1), option::of((1u32..40).prop_flat_map(tensor))).prop_map(
            |((seq, batch), timings, embedding, tokens)| Answer { seq, timings, batch, embedding, tokens },
        );
    let dropped = (any::<u64>(), drop_reason(), timings())
        .prop_map(|(seq, reason, timings)| FrameReplyMsg::Dropped { seq, reason, timings });
    let rejected = (any::<u64>(), reject_code(), text())
        .prop_map(|(seq, code, message)| FrameReplyMsg::Rejected { seq, code, message });
    prop_oneof![answer.prop_map(FrameReplyMsg::Answer), dropped, rejected]
}

fn tensor(rows: u32) -> impl Strategy<Value = WireTensor> {
    (encoding(), 1u32..70).prop_flat_map(move |(encoding, dim)| {
        let values = (rows * dim) as usize;
        let scales = if encoding == Encoding::Int8 { rows as usize } else { 0 };
        (vec(0f32..f32::MAX, scales), vec(any::<u8>(), values * encoding.bytes_per_value() as usize))
            .prop_map(move |(scales, data)| WireTensor { encoding, rows, dim, scales, data })
    })
}

fn timings() -> impl Strategy<Value = ServerTimings> {
    any::<(u32, u32, u32, u32, u64)>().prop_map(|(receive_us, queue_us, decode_us, encode_us, arrived_us)| {
        ServerTimings { receive_us, queue_us, decode_us, encode_us, arrived_us }
    })
}

fn goodbye() -> impl Strategy<Value = Goodbye> {
    (goodbye_reason(), text()).prop_map(|(reason, message)| Goodbye { reason, message })
}

fn space() -> impl Strategy<Value = SpaceId> {
    any::<[u8; 32]>().prop_map(SpaceId)
}

pub(crate) fn name() -> impl Strategy<Value = String> {
    "[ -~äß水🎥]{0,40}".prop_filter("short enough", |name| name.len() <= MAX_NAME_BYTES)
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    "\\PC{0,300}".prop_filter("short enough", |text| text.len() <= MAX_STRING_BYTES)
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![Encoding::F32, Encoding::F16, Encoding::Int8])
}

fn refuse_code() -> impl Strategy<Value = RefuseCode> {
    use RefuseCode::*;
    prop::sample::select(vec![Version, Space, Camera, Duplicate, Limit, Draining, Role, Malformed])
}

fn goodbye_reason() -> impl Strategy<Value = GoodbyeReason> {
    use GoodbyeReason::*;
    prop::sample::select(vec![Shutdown, Draining, Revoked, Replaced, Malformed])
}

fn drop_reason() -> impl Strategy<Value = DropReason> {
    use DropReason::*;
    prop::sample::select(vec![Superseded, Expired, Overloaded, Draining])
}

fn reject_code() -> impl Strategy<Value = RejectCode> {
    use RejectCode::*;
    prop::sample::select(vec![
        Malformed,
        TooLarge,
        NotJpeg,
        Truncated,
        TooManyPixels,
        Internal,
        TokensUnavailable,
        PatchesUnavailable,
        PatchesMissing,
    ])
}
