//! Messages of the control stream: who is there, what was agreed, and farewell.

use std::fmt;

use bincode::{Decode, Encode};

use crate::{
    CodecError, SpaceId,
    limits::{
        MAX_CONTROL_BYTES, MAX_DIM, MAX_DOCUMENT_BYTES, MAX_FRAME_BYTES, MAX_ROWS, MAX_SIDE, MAX_SPACES,
        check_document, check_name, check_range, check_text, clip,
    },
    message::{
        Message,
        head::{HeadReport, Wanted},
        ledger::EdgeWork,
    },
};

/// What a bidirectional stream is for: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// The one stream with [`AgentToEncoderMsg`] and [`EncoderToAgentMsg`].
    Control = 0,
    /// One frame and its reply.
    Frame = 1,
    /// The bytes of one head release.
    Fetch = 2,
    /// One [`OperatorRequestMsg`](crate::OperatorRequestMsg) and its replies; for operators' certificates only.
    Operator = 3,
}

impl TryFrom<u8> for StreamKind {
    type Error = CodecError;

    fn try_from(byte: u8) -> Result<Self, CodecError> {
        match byte {
            0 => Ok(Self::Control),
            1 => Ok(Self::Frame),
            2 => Ok(Self::Fetch),
            3 => Ok(Self::Operator),
            found => Err(CodecError::UnknownStreamKind { found }),
        }
    }
}

/// The agent introduces itself: its first message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`VERSION`](crate::VERSION) of the agent.
    pub version: u16,
    /// Program and version, for the encoder's log, such as `edge-agent 0.1.0`.
    pub agent: String,
    /// Random for each process: a reconnection replaces its own older connection, a second process with the
    /// same certificate is a duplicate.
    pub instance: u64,
    /// The camera's name; the certificate must grant it.
    pub camera: String,
    /// Embedding spaces of the agent's heads, at most [`MAX_SPACES`]. Empty: any will do.
    pub spaces: Vec<SpaceId>,
}

/// What an agent says on the control stream.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[repr(u32)]
pub enum AgentToEncoderMsg {
    /// First message.
    Hello(Hello) = 0,
    /// Asks for a [`Pong`].
    Ping(Ping) = 1,
    /// Last message.
    Goodbye(Goodbye) = 2,
    /// How one head is doing: after every change, and now and then.
    Head(HeadReport) = 3,
    /// What the box computed since the agent started: with every ping.
    Work(EdgeWork) = 4,
}

/// Shape of the latent-token grid. Tokens are ordered row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct GridShape {
    /// Patches from top to bottom.
    pub rows: u32,
    /// Patches from left to right.
    pub cols: u32,
    /// Values of one latent token.
    pub dim: u32,
}

impl GridShape {
    /// Number of tokens: `rows × cols`.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols)
    }
}

/// Size of the encoder's input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct InputSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// What the encoder accepts in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SessionLimits {
    /// Longest JPEG in bytes, at most [`MAX_FRAME_BYTES`].
    pub max_frame_bytes: u32,
    /// Most pixels (width × height) of a frame.
    pub max_pixels: u32,
    /// Most frames without a reply at one time.
    pub max_in_flight: u16,
}

/// The encoder takes the session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// [`VERSION`](crate::VERSION) of the encoder.
    pub version: u16,
    /// Program and version, for the agent's log, such as `dc-encoder 0.1.0`.
    pub server: String,
    /// The model's name.
    pub model: String,
    /// Something a person should know about the model, such as `random weights`. Often empty.
    pub note: String,
    /// The space all embeddings of this session are in.
    pub space: SpaceId,
    /// Values of an embedding.
    pub embed_dim: u32,
    /// Shape of the latent-token grid. `None`: this encoder gives no tokens.
    pub grid: Option<GridShape>,
    /// What a frame is resized to before it is encoded: sending more pixels gains nothing.
    pub input: InputSize,
    /// Side of a patch in pixels, if the encoder takes frames as patches ([`Kept`](crate::Kept)). `None`: it takes whole
    /// frames only.
    pub patch: Option<u32>,
    /// What the agent must keep to.
    pub limits: SessionLimits,
}

/// Why a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RefuseCode {
    /// Another protocol version.
    Version = 0,
    /// No head of the agent is in the encoder's embedding space.
    Space = 1,
    /// The certificate does not grant the camera.
    Camera = 2,
    /// Another agent is connected as this camera.
    Duplicate = 3,
    /// The encoder has as many sessions as it takes.
    Limit = 4,
    /// The encoder is shutting down.
    Draining = 5,
    /// The certificate's role may not send frames.
    Role = 6,
    /// The first message was not a readable [`Hello`].
    Malformed = 7,
}

impl RefuseCode {
    /// All codes.
    pub const ALL: [Self; 8] = [
        Self::Version,
        Self::Space,
        Self::Camera,
        Self::Duplicate,
        Self::Limit,
        Self::Draining,
        Self::Role,
        Self::Malformed,
    ];

    /// One word for machines, such as `duplicate`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Space => "space",
            Self::Camera => "camera",
            Self::Duplicate => "duplicate",
            Self::Limit => "limit",
            Self::Draining => "draining",
            Self::Role => "role",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "the two programs speak different protocol versions",
            Self::Space => "no head is in the encoder's embedding space",
            Self::Camera => "the certificate is for another camera",
            Self::Duplicate => "another agent is connected as this camera",
            Self::Limit => "the encoder has no room for another camera",
            Self::Draining => "the encoder is shutting down",
            Self::Role => "the certificate's role may not send frames",
            Self::Malformed => "the encoder could not read the greeting",
        })
    }
}

/// The encoder does not take the session, and closes it with [`close::REFUSED`](crate::close::REFUSED).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// Why.
    pub code: RefuseCode,
    /// The values behind the code and what to do, for a person.
    pub message: String,
}

impl Refused {
    /// A refusal whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn new(code: RefuseCode, message: &str) -> Self {
        Self { code, message: clip(message) }
    }
}

/// The code in plain words, then the message; safe to print whatever the peer wrote.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reason_and_message(f, &self.code, &self.message)
    }
}

/// Asks the encoder for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Ping {
    /// Chosen by the agent, returned in the [`Pong`].
    pub id: u64,
    /// The agent's clock when it was sent, in microseconds since the Unix epoch.
    pub sent_us: u64,
}

/// Answers a [`Ping`]: with both clocks, the agent estimates their offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Pong {
    /// The ping's.
    pub id: u64,
    /// The encoder's clock when the ping arrived, in microseconds since the Unix epoch.
    pub received_us: u64,
    /// The encoder's clock when this was sent, in microseconds since the Unix epoch.
    pub sent_us: u64,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum GoodbyeReason {
    /// The sender stops.
    Shutdown = 0,
    /// The encoder takes no more frames; go to another.
    Draining = 1,
    /// The agent's certificate was revoked.
    Revoked = 2,
    /// A newer connection of the same process took its place.
    Replaced = 3,
    /// The sender read bytes that are no message.
    Malformed = 4,
}

impl fmt::Display for GoodbyeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "the other side stops",
            Self::Draining => "the encoder is shutting down",
            Self::Revoked => "the certificate was revoked",
            Self::Replaced => "a newer connection of this agent took its place",
            Self::Malformed => "the other side received bytes it could not read",
        })
    }
}

/// The last message of either side; the connection closes with
/// [`GoodbyeReason::close_code`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// More for a person. Often empty.
    pub message: String,
}

impl Goodbye {
    /// A goodbye whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn new(reason: GoodbyeReason, message: &str) -> Self {
        Self { reason, message: clip(message) }
    }
}

/// The reason in plain words, then the message; safe to print whatever the peer wrote.
impl fmt::Display for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        reason_and_message(f, &self.reason, &self.message)
    }
}

/// What an encoder says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[repr(u32)]
pub enum EncoderToAgentMsg {
    /// First message: the session is taken.
    Welcome(Welcome) = 0,
    /// First and last message: it is not.
    Refused(Refused) = 1,
    /// Answers a [`Ping`].
    Pong(Pong) = 2,
    /// Last message.
    Goodbye(Goodbye) = 3,
    /// The current key ring, as signed: before the first [`Wanted`], and when it changes.
    KeyRing {
        /// The signed document, at most [`MAX_DOCUMENT_BYTES`].
        document: Vec<u8>,
    } = 4,
    /// What a channel wants of this camera: all that concern it after the welcome, then changes.
    Wanted(Wanted) = 5,
}

impl Message for AgentToEncoderMsg {
    const NAME: &'static str = "AgentToEncoderMsg";
    const MAX_BYTES: usize = MAX_CONTROL_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Hello(hello) => hello.validate(),
            Self::Ping(_) | Self::Work(_) => Ok(()),
            Self::Goodbye(goodbye) => check_text("goodbye message", &goodbye.message),
            Self::Head(report) => report.validate(),
        }
    }
}

impl Message for EncoderToAgentMsg {
    const NAME: &'static str = "EncoderToAgentMsg";
    const MAX_BYTES: usize = MAX_CONTROL_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Welcome(welcome) => welcome.validate(),
            Self::Refused(refused) => check_text("refusal message", &refused.message),
            Self::Pong(_) => Ok(()),
            Self::Goodbye(goodbye) => check_text("goodbye message", &goodbye.message),
            Self::KeyRing { document } => check_document("bytes of a key ring", document, MAX_DOCUMENT_BYTES),
            Self::Wanted(wanted) => wanted.validate(),
        }
    }
}

impl Hello {
    fn validate(&self) -> Result<(), CodecError> {
        check_name("agent name", &self.agent)?;
        check_name("camera name", &self.camera)?;
        if self.spaces.len() > MAX_SPACES {
            let (count, limit) = (self.spaces.len(), MAX_SPACES);
            return Err(CodecError::TooMany { field: "embedding spaces", count, limit });
        }
        Ok(())
    }
}

impl Welcome {
    fn validate(&self) -> Result<(), CodecError> {
        check_name("server name", &self.server)?;
        check_name("model name", &self.model)?;
        check_text("model note", &self.note)?;
        check_range("embedding dimension", self.embed_dim, 1, MAX_DIM)?;
        if let Some(grid) = &self.grid {
            check_range("grid rows", grid.rows, 1, MAX_ROWS)?;
            check_range("grid columns", grid.cols, 1, MAX_ROWS)?;
            check_range("grid tokens", u32::try_from(grid.tokens()).unwrap_or(u32::MAX), 1, MAX_ROWS)?;
            check_range("latent-token dimension", grid.dim, 1, MAX_DIM)?;
        }
        check_range("input width", self.input.width, 1, MAX_SIDE)?;
        check_range("input height", self.input.height, 1, MAX_SIDE)?;
        if let Some(patch) = self.patch {
            check_range("side of a patch", patch, 1, self.input.width.min(self.input.height))?;
            let places = u64::from(self.input.width / patch) * u64::from(self.input.height / patch);
            check_range("patches", u32::try_from(places).unwrap_or(u32::MAX), 1, MAX_ROWS)?;
        }
        check_range("largest frame in bytes", self.limits.max_frame_bytes, 1, MAX_FRAME_BYTES)?;
        check_range("largest frame in pixels", self.limits.max_pixels, 1, u32::MAX)?;
        check_range("frames in flight", self.limits.max_in_flight.into(), 1, u16::MAX.into())
    }
}

fn reason_and_message(f: &mut fmt::Formatter<'_>, reason: &dyn fmt::Display, message: &str) -> fmt::Result {
    if message.is_empty() { write!(f, "{reason}") } else { write!(f, "{reason}: {}", clip(message)) }
}
