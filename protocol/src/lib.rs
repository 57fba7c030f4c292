//! The wire between `edge-agent` and `dc-encoder`. Sans-io: bytes in, messages out.
//!
//! ```text
//! agent                                                        encoder
//!  control stream   Hello ───────────────────────────────────►
//!  (one)                  ◄─────────────── Welcome | Refused
//!                         ◄────────────────────── KeyRing, Wanted  (signed documents, as they change)
//!                   Ping, Work, HeadReport, Goodbye ◄────────►  Pong, Goodbye
//!
//!  frame stream     StreamKind::Frame, FrameHeader, JPEG, FIN ─►
//!  (one a frame)          ◄── FrameReplyMsg: Answer | Dropped | Rejected, FIN
//!
//!  fetch stream     StreamKind::Fetch, FetchRequest, FIN ─────►
//!  (one a release)        ◄── FetchReplyMsg: Found, the body from an offset on | Refused, FIN
//!
//! operator
//!  operator stream  StreamKind::Operator, OperatorRequestMsg [, the head file], FIN ─►
//!  (one a request)        ◄── OperatorReplyMsg …, the last one Done | Refused, FIN
//! ```
//! An operator's connection has no control stream: its certificate says who it is, the ALPN which version.
//! Every bidirectional stream is opened by the agent or operator and starts with one [`StreamKind`] byte. A
//! message is a little-endian `u32` length and that many bytes of bincode (standard configuration: varint,
//! little-endian).
//! A frame that went stale is cancelled: the agent resets its side and stops the reply with [`close::STALE`].
//!
//! Over TCP, where UDP is blocked and to compare with QUIC, one TLS connection carries a camera's messages one after another:
//! each comes after its [`StreamKind`] byte, `Control` or `Frame`, in both directions. Replies come as they are ready and are
//! known by `seq`. Nothing can be cancelled there, and neither releases nor operators' requests travel.
//!
//! A box without a certificate gets one on another address, under [`ALPN_ENROLL`]: one connection, one stream, one
//! [`EnrollRequestMsg`] and one [`EnrollReplyMsg`].
//!
//! Whoever reads goes through [`codec`]: it checks the length against a limit before anything is allocated,
//! allocates no more than the bytes it was given, refuses trailing bytes, and checks every string, count and
//! tensor of the message ([`Message::validate`]). The format is pinned by golden bytes in `tests/`.

mod body;
pub mod close;
pub mod codec;
mod hex;
pub mod limits;
pub mod message;
mod moments;
mod release;
mod space;
mod tensor;

pub use body::{Body, BodyId, Part};
pub use codec::{CodecError, Deframer};
pub use message::Message;
pub use message::control::{
    AgentToEncoderMsg, EncoderToAgentMsg, Goodbye, GoodbyeReason, GridShape, Hello, InputSize, Ping, Pong,
    RefuseCode, Refused, SessionLimits, StreamKind, Welcome,
};
pub use message::enroll::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Grant};
pub use message::frame::{Answer, DropReason, FrameHeader, FrameReplyMsg, Kept, RejectCode, ServerTimings};
pub use message::head::{FetchCode, FetchReplyMsg, FetchRequest, HeadReport, Wanted};
pub use message::ledger::{BoxModel, CameraAccount, EdgeWork, Site};
pub use message::operate::{
    AuditEntry, CameraHead, ChannelState, HistoryEntry, OperatorCode, OperatorReplyMsg, OperatorRequestMsg,
    RolloutAction, RolloutPhase,
};
pub use moments::Moments;
pub use release::{ParseReleaseIdError, ReleaseId};
pub use space::{ParseSpaceIdError, SpaceId};
pub use tensor::{Encoding, ParseEncodingError, WireTensor};

/// Names this protocol, and its version, in the TLS handshake: peers of different versions do not connect.
pub const ALPN: &[u8] = b"fth/4";

/// The same over TCP.
pub const ALPN_TCP: &[u8] = b"fth-tcp/4";

/// Enrolment, which has a version of its own: a box that was installed years ago must still get in.
pub const ALPN_ENROLL: &[u8] = b"fth-enroll/1";

/// The version that [`Hello`] and [`Welcome`] carry. It changes together with [`ALPN`] and [`ALPN_TCP`].
pub const VERSION: u16 = 4;
