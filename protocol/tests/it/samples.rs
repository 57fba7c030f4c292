//! One message of every variant, with values that a mix-up of fields would show.

use protocol::{
    AgentToEncoderMsg, Answer, CodecError, DropReason, EncoderToAgentMsg, Encoding, FetchReplyMsg,
    FetchRequest, FrameHeader, FrameReplyMsg, Goodbye, GoodbyeReason, GridShape, Hello, InputSize, Kept,
    Message, OperatorReplyMsg, OperatorRequestMsg, Ping, Pong, RefuseCode, Refused, RejectCode,
    ServerTimings, SessionLimits, SpaceId, Welcome, WireTensor, codec,
};

/// Any message, so that a test can go through all of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Any {
    Agent(AgentToEncoderMsg),
    Encoder(EncoderToAgentMsg),
    Header(FrameHeader),
    Reply(FrameReplyMsg),
    Fetch(FetchRequest),
    Fetched(FetchReplyMsg),
    Operator(OperatorRequestMsg),
    Operated(OperatorReplyMsg),
}

/// Which type of message bytes are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Agent,
    Encoder,
    Header,
    Reply,
    Fetch,
    Fetched,
    Operator,
    Operated,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Agent,
        Self::Encoder,
        Self::Header,
        Self::Reply,
        Self::Fetch,
        Self::Fetched,
        Self::Operator,
        Self::Operated,
    ];

    pub(crate) fn decode(self, body: &[u8]) -> Result<Any, CodecError> {
        match self {
            Self::Agent => codec::decode_exact(body, usize::MAX).map(Any::Agent),
            Self::Encoder => codec::decode_exact(body, usize::MAX).map(Any::Encoder),
            Self::Header => codec::decode_exact(body, usize::MAX).map(Any::Header),
            Self::Reply => codec::decode_exact(body, usize::MAX).map(Any::Reply),
            Self::Fetch => codec::decode_exact(body, usize::MAX).map(Any::Fetch),
            Self::Fetched => codec::decode_exact(body, usize::MAX).map(Any::Fetched),
            Self::Operator => codec::decode_exact(body, usize::MAX).map(Any::Operator),
            Self::Operated => codec::decode_exact(body, usize::MAX).map(Any::Operated),
        }
    }

    pub(crate) const fn max_bytes(self) -> usize {
        match self {
            Self::Agent => AgentToEncoderMsg::MAX_BYTES,
            Self::Encoder => EncoderToAgentMsg::MAX_BYTES,
            Self::Header => FrameHeader::MAX_BYTES,
            Self::Reply => FrameReplyMsg::MAX_BYTES,
            Self::Fetch => FetchRequest::MAX_BYTES,
            Self::Fetched => FetchReplyMsg::MAX_BYTES,
            Self::Operator => OperatorRequestMsg::MAX_BYTES,
            Self::Operated => OperatorReplyMsg::MAX_BYTES,
        }
    }
}

impl Any {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Agent(_) => Kind::Agent,
            Self::Encoder(_) => Kind::Encoder,
            Self::Header(_) => Kind::Header,
            Self::Reply(_) => Kind::Reply,
            Self::Fetch(_) => Kind::Fetch,
            Self::Fetched(_) => Kind::Fetched,
            Self::Operator(_) => Kind::Operator,
            Self::Operated(_) => Kind::Operated,
        }
    }

    /// With its length prefix.
    pub(crate) fn framed(&self, limit: usize) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Agent(message) => codec::encode(message, limit),
            Self::Encoder(message) => codec::encode(message, limit),
            Self::Header(message) => codec::encode(message, limit),
            Self::Reply(message) => codec::encode(message, limit),
            Self::Fetch(message) => codec::encode(message, limit),
            Self::Fetched(message) => codec::encode(message, limit),
            Self::Operator(message) => codec::encode(message, limit),
            Self::Operated(message) => codec::encode(message, limit),
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.framed(usize::MAX).unwrap()[codec::PREFIX_BYTES..].to_vec()
    }
}

pub(crate) fn space(first: u8) -> SpaceId {
    SpaceId(std::array::from_fn(|i| first.wrapping_add(i as u8)))
}

pub(crate) fn timings() -> ServerTimings {
    ServerTimings {
        receive_us: 250,
        queue_us: 251,
        decode_us: 65_536,
        encode_us: 1,
        arrived_us: 1_750_000_000_000_000,
    }
}

fn welcome(grid: Option<GridShape>, patch: Option<u32>) -> Welcome {
    Welcome {
        version: 2,
        server: "dc-encoder 0.1.0".into(),
        model: "seed-80m".into(),
        note: "random weights".into(),
        space: space(0x40),
        embed_dim: 512,
        grid,
        input: InputSize { width: 960, height: 576 },
        patch,
        limits: SessionLimits { max_frame_bytes: 8 << 20, max_pixels: 33_177_600, max_in_flight: 4 },
    }
}

fn answer(embedding: WireTensor, tokens: Option<WireTensor>) -> Any {
    let answer = Answer { seq: 7, timings: timings(), batch: 3, embedding, tokens };
    Any::Reply(FrameReplyMsg::Answer(answer))
}

/// Every variant of every message, by name.
pub(crate) fn all() -> Vec<(&'static str, Any)> {
    let hello = Hello {
        version: 2,
        agent: "edge-agent 0.1.0".into(),
        instance: 0x0123_4567_89ab_cdef,
        camera: "plätz".into(),
        spaces: vec![space(0), space(0x20)],
    };
    let f32 = WireTensor {
        encoding: Encoding::F32,
        rows: 1,
        dim: 2,
        scales: vec![],
        data: [1.0f32, -2.5].iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let f16 =
        WireTensor { encoding: Encoding::F16, rows: 1, dim: 2, scales: vec![], data: vec![0, 0x3c, 0, 0xc1] };
    let int8 = WireTensor {
        encoding: Encoding::Int8,
        rows: 2,
        dim: 3,
        scales: vec![0.5, 0.0],
        data: vec![1, 0xff, 0x7f, 0, 0, 0],
    };
    let header = FrameHeader {
        seq: 300,
        captured_at_us: 1_700_000_000_000_000,
        deadline_ms: 500,
        jpeg_len: 70_000,
        embedding: Encoding::F16,
        tokens: Some(Encoding::Int8),
        patches: None,
    };
    let before_the_epoch = FrameHeader { captured_at_us: -1, tokens: None, ..header.clone() };
    let kept = Kept { count: 3, places: vec![0b1000_0001, 1, 0] };
    let patches = FrameHeader { patches: Some(kept), ..before_the_epoch.clone() };
    let goodbye = Goodbye { reason: GoodbyeReason::Replaced, message: "newer".into() };
    let ping = Ping { id: 9, sent_us: 1_700_000_000_000_001 };
    let pong = Pong { id: 9, received_us: 1_700_000_000_000_002, sent_us: 1_700_000_000_000_003 };
    let refused = Refused { code: RefuseCode::Space, message: "no".into() };
    let dropped = FrameReplyMsg::Dropped { seq: 8, reason: DropReason::Expired, timings: timings() };
    let rejected =
        FrameReplyMsg::Rejected { seq: 9, code: RejectCode::TooManyPixels, message: "30000x30000".into() };
    let grid = GridShape { rows: 12, cols: 20, dim: 512 };
    let mut all = vec![
        ("hello", Any::Agent(AgentToEncoderMsg::Hello(hello))),
        ("ping", Any::Agent(AgentToEncoderMsg::Ping(ping))),
        ("agent-goodbye", Any::Agent(AgentToEncoderMsg::Goodbye(goodbye.clone()))),
        ("welcome", Any::Encoder(EncoderToAgentMsg::Welcome(welcome(None, None)))),
        ("welcome-grid", Any::Encoder(EncoderToAgentMsg::Welcome(welcome(Some(grid), Some(48))))),
        ("refused", Any::Encoder(EncoderToAgentMsg::Refused(refused))),
        ("pong", Any::Encoder(EncoderToAgentMsg::Pong(pong))),
        ("encoder-goodbye", Any::Encoder(EncoderToAgentMsg::Goodbye(goodbye))),
        ("frame-header", Any::Header(header)),
        ("frame-header-no-tokens", Any::Header(before_the_epoch)),
        ("frame-header-patches", Any::Header(patches)),
        ("answer-f32", answer(f32.clone(), None)),
        ("answer-f16-f32", answer(f16, Some(f32.clone()))),
        ("answer-f32-int8", answer(f32, Some(int8))),
        ("dropped", Any::Reply(dropped)),
        ("rejected", Any::Reply(rejected)),
    ];
    all.extend(crate::samples_heads::all());
    all
}
