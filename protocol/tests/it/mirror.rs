//! A second, maintained implementation of the same format reads and writes the same bytes: the codec crate can
//! be replaced without a change on the wire.

use proptest::prelude::*;
use protocol as p;
use wincode::{
    SchemaRead, SchemaWrite,
    config::{self, Configuration},
};

use crate::{
    samples::{self, Any},
    strategies,
};

/// Fields in the order of the original, each from the field of its name.
macro_rules! mirror_struct {
    ($name:ident { $($field:ident: $type:ty),* }) => {
        #[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
        pub(crate) struct $name { $($field: $type),* }

        impl From<p::$name> for $name {
            fn from(original: p::$name) -> Self {
                Self { $($field: original.$field.into()),* }
            }
        }
    };
}

/// Variants in the order of the original.
macro_rules! mirror_enum {
    ($name:ident { $($plain:ident),* }) => {
        #[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
        pub(crate) enum $name { $($plain),* }

        impl From<p::$name> for $name {
            fn from(original: p::$name) -> Self {
                match original { $(p::$name::$plain => Self::$plain),* }
            }
        }
    };
    ($name:ident { $($variant:ident($inner:ident)),* }) => {
        #[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
        pub(crate) enum $name { $($variant($inner)),* }

        impl From<p::$name> for $name {
            fn from(original: p::$name) -> Self {
                match original { $(p::$name::$variant(inner) => Self::$variant(inner.into())),* }
            }
        }
    };
}

mod heads;
use heads::*;

mirror_struct!(Ping { id: u64, sent_us: u64 });
mirror_struct!(Pong { id: u64, received_us: u64, sent_us: u64 });
mirror_struct!(GridShape { rows: u32, cols: u32, dim: u32 });
mirror_struct!(InputSize { width: u32, height: u32 });
mirror_struct!(Kept { count: u32, places: Vec<u8> });
mirror_struct!(SessionLimits { max_frame_bytes: u32, max_pixels: u32, max_in_flight: u16 });
mirror_struct!(ServerTimings {
    receive_us: u32,
    queue_us: u32,
    decode_us: u32,
    encode_us: u32,
    arrived_us: u64
});
mirror_struct!(Refused { code: RefuseCode, message: String });
mirror_struct!(Goodbye { reason: GoodbyeReason, message: String });
mirror_struct!(WireTensor { encoding: Encoding, rows: u32, dim: u32, scales: Vec<f32>, data: Vec<u8> });
mirror_enum!(Encoding { F32, F16, Int8 });
mirror_enum!(RefuseCode { Version, Space, Camera, Duplicate, Limit, Draining, Role, Malformed });
mirror_enum!(GoodbyeReason { Shutdown, Draining, Revoked, Replaced, Malformed });
mirror_enum!(DropReason { Superseded, Expired, Overloaded, Draining });
mirror_enum!(RejectCode {
    Malformed,
    TooLarge,
    NotJpeg,
    Truncated,
    TooManyPixels,
    Internal,
    TokensUnavailable,
    PatchesUnavailable,
    PatchesMissing
});
mirror_enum!(AgentToEncoderMsg { Hello(Hello), Ping(Ping), Goodbye(Goodbye), Head(HeadReport), Work(EdgeWork) });

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct Hello {
    version: u16,
    agent: String,
    instance: u64,
    camera: String,
    spaces: Vec<[u8; 32]>,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct Welcome {
    version: u16,
    server: String,
    model: String,
    note: String,
    space: [u8; 32],
    embed_dim: u32,
    grid: Option<GridShape>,
    input: InputSize,
    patch: Option<u32>,
    limits: SessionLimits,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct FrameHeader {
    seq: u64,
    captured_at_us: i64,
    deadline_ms: u32,
    jpeg_len: u32,
    embedding: Encoding,
    tokens: Option<Encoding>,
    patches: Option<Kept>,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct Answer {
    seq: u64,
    timings: ServerTimings,
    batch: u16,
    embedding: WireTensor,
    tokens: Option<WireTensor>,
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum FrameReplyMsg {
    Answer(Answer),
    Dropped { seq: u64, reason: DropReason, timings: ServerTimings },
    Rejected { seq: u64, code: RejectCode, message: String },
}

impl From<p::Hello> for Hello {
    fn from(original: p::Hello) -> Self {
        let p::Hello { version, agent, instance, camera, spaces } = original;
        let spaces = spaces.into_iter().map(|space| space.0).collect();
        Self { version, agent, instance, camera, spaces }
    }
}

impl From<p::Welcome> for Welcome {
    fn from(original: p::Welcome) -> Self {
        let p::Welcome { version, server, model, note, space, embed_dim, grid, input, patch, limits } =
            original;
        let (space, grid, input, limits) = (space.0, grid.map(Into::into), input.into(), limits.into());
        Self { version, server, model, note, space, embed_dim, grid, input, patch, limits }
    }
}

impl From<p::FrameHeader> for FrameHeader {
    fn from(original: p::FrameHeader) -> Self {
        let p::FrameHeader { seq, captured_at_us, deadline_ms, jpeg_len, embedding, tokens, patches } =
            original;
        let (embedding, tokens, patches) =
            (embedding.into(), tokens.map(Into::into), patches.map(Into::into));
        Self { seq, captured_at_us, deadline_ms, jpeg_len, embedding, tokens, patches }
    }
}

impl From<p::FrameReplyMsg> for FrameReplyMsg {
    fn from(original: p::FrameReplyMsg) -> Self {
        match original {
            p::FrameReplyMsg::Answer(p::Answer { seq, timings, batch, embedding, tokens }) => {
                let (timings, embedding, tokens) = (timings.into(), embedding.into(), tokens.map(Into::into));
                Self::Answer(Answer { seq, timings, batch, embedding, tokens })
            }
            p::FrameReplyMsg::Dropped { seq, reason, timings } => {
                Self::Dropped { seq, reason: reason.into(), timings: timings.into() }
            }
            p::FrameReplyMsg::Rejected { seq, code, message } => {
                Self::Rejected { seq, code: code.into(), message }
            }
        }
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum EncoderToAgentMsg {
    Welcome(Welcome),
    Refused(Refused),
    Pong(Pong),
    Goodbye(Goodbye),
    KeyRing { document: Vec<u8> },
    Wanted(Wanted),
}

impl From<p::EncoderToAgentMsg> for EncoderToAgentMsg {
    fn from(original: p::EncoderToAgentMsg) -> Self {
        match original {
            p::EncoderToAgentMsg::Welcome(inner) => Self::Welcome(inner.into()),
            p::EncoderToAgentMsg::Refused(inner) => Self::Refused(inner.into()),
            p::EncoderToAgentMsg::Pong(inner) => Self::Pong(inner.into()),
            p::EncoderToAgentMsg::Goodbye(inner) => Self::Goodbye(inner.into()),
            p::EncoderToAgentMsg::KeyRing { document } => Self::KeyRing { document },
            p::EncoderToAgentMsg::Wanted(inner) => Self::Wanted(inner.into()),
        }
    }
}

macro_rules! check {
    ($mirror:ident, $original:expr, $body:expr) => {{
        let config = Configuration::default().with_varint_encoding();
        let mirror = $mirror::from($original);
        assert_eq!(config::serialize(&mirror, config).unwrap(), $body, "written: {mirror:?}");
        let read: $mirror = config::deserialize_exact(&$body, config).unwrap();
        assert_eq!(read, mirror);
    }};
}

fn check(message: Any) {
    let body = message.body();
    match message {
        Any::Agent(message) => check!(AgentToEncoderMsg, message, body),
        Any::Encoder(message) => check!(EncoderToAgentMsg, message, body),
        Any::Header(message) => check!(FrameHeader, message, body),
        Any::Reply(message) => check!(FrameReplyMsg, message, body),
        Any::Fetch(message) => check!(FetchRequest, message, body),
        Any::Fetched(message) => check!(FetchReplyMsg, message, body),
        Any::Operator(message) => check!(OperatorRequestMsg, message, body),
        Any::Operated(message) => check!(OperatorReplyMsg, message, body),
    }
}

#[test]
fn reads_and_writes_every_sample() {
    samples::all().into_iter().for_each(|(_, message)| check(message));
}

proptest! {
    #[test]
    fn reads_and_writes_any_message(message in strategies::message()) {
        check(message);
    }
}
