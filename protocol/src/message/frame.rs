//! Messages of a frame stream: the header before the JPEG, and the reply.

use std::fmt;

use bincode::{Decode, Encode};

use crate::{
    CodecError, Encoding, WireTensor,
    limits::{
        MAX_FRAME_BYTES, MAX_FRAME_HEADER_BYTES, MAX_PLACES_BYTES, MAX_REPLY_BYTES, MAX_ROWS, check_document,
        check_range, check_text, clip,
    },
    message::Message,
};

/// Announces a frame; `jpeg_len` bytes of JPEG follow, then the end of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FrameHeader {
    /// The frame's number within the agent's process, from 0.
    pub seq: u64,
    /// When the camera took it, in microseconds since the Unix epoch, by the agent's clock.
    pub captured_at_us: i64,
    /// The answer is still useful for this many milliseconds after the encoder received the header. 0: for
    /// as long as the stream is open.
    pub deadline_ms: u32,
    /// Length of the JPEG in bytes, at most [`MAX_FRAME_BYTES`] and the session's
    /// [`max_frame_bytes`](crate::SessionLimits::max_frame_bytes).
    pub jpeg_len: u32,
    /// How the embedding is to travel.
    pub embedding: Encoding,
    /// How the latent tokens are to travel. `None`: not wanted.
    pub tokens: Option<Encoding>,
    /// Which patches the JPEG holds. `None`: it is the whole frame.
    pub patches: Option<Kept>,
}

/// The patches of the encoder's input that a frame's JPEG holds, as a mosaic: side by side from left to right and from
/// top to bottom in the order of their places. The encoder has the others from earlier frames of the session, so the
/// first of these frames holds all.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// How many there are, from 1.
    pub count: u32,
    /// One bit for each place of the grid, row after row, the lowest bit of the first byte first: 1 where the patch is
    /// there. As many bytes as the grid needs, at most [`MAX_PLACES_BYTES`].
    pub places: Vec<u8>,
}

impl Kept {
    fn validate(&self) -> Result<(), CodecError> {
        check_document("bytes of the places of patches", &self.places, MAX_PLACES_BYTES)?;
        check_range("patches", self.count, 1, MAX_ROWS)?;
        let want = self.places.iter().map(|byte| u64::from(byte.count_ones())).sum();
        if u64::from(self.count) != want {
            let got = self.count.into();
            return Err(CodecError::WrongCount { field: "patches of a frame", got, want });
        }
        Ok(())
    }
}

/// Where the encoder's time for one frame went, in microseconds, durations by its own monotonic clock: latency splits
/// without synchronised clocks. What a frame did not reach is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct ServerTimings {
    /// From the header to the last byte of the JPEG.
    pub receive_us: u32,
    /// Waiting, for a decoder and for a place in a batch.
    pub queue_us: u32,
    /// JPEG to the encoder's input.
    pub decode_us: u32,
    /// The batch in the encoder.
    pub encode_us: u32,
    /// When the header arrived, in microseconds since the Unix epoch, by the encoder's wall clock: with the bounds that
    /// pings give on the offset of the clocks, the agent knows which way through the network took how long.
    pub arrived_us: u64,
}

/// A frame's embedding.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Answer {
    /// The frame's.
    pub seq: u64,
    /// Where the encoder's time went.
    pub timings: ServerTimings,
    /// Frames encoded together with this one, itself included.
    pub batch: u16,
    /// The embedding, one row.
    pub embedding: WireTensor,
    /// The latent tokens, one row each, if the header asked for them.
    pub tokens: Option<WireTensor>,
}

/// Why the encoder did not encode a frame that was in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum DropReason {
    /// A newer frame of the same camera came first.
    Superseded = 0,
    /// Its deadline passed in the queue.
    Expired = 1,
    /// The encoder has too much to do, or a limit on what this camera or all together may send was reached.
    Overloaded = 2,
    /// The encoder is shutting down.
    Draining = 3,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Superseded, Self::Expired, Self::Overloaded, Self::Draining];

    /// One word for machines, such as `superseded`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "a newer frame took its place in the encoder's queue",
            Self::Expired => "its deadline passed in the encoder's queue",
            Self::Overloaded => "the encoder has more to do than it can",
            Self::Draining => "the encoder is shutting down",
        })
    }
}

/// Why the encoder will never encode a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RejectCode {
    /// The stream did not hold what it must.
    Malformed = 0,
    /// More bytes than the session allows.
    TooLarge = 1,
    /// The bytes are no JPEG, or one that cannot be decoded.
    NotJpeg = 2,
    /// The stream or the JPEG ends early.
    Truncated = 3,
    /// More pixels than the session allows.
    TooManyPixels = 4,
    /// The encoder failed; the frame may be fine.
    Internal = 5,
    /// Latent tokens were asked for, and this encoder gives none.
    TokensUnavailable = 6,
    /// Patches were sent, and this encoder takes whole frames only.
    PatchesUnavailable = 7,
    /// Some patches were never sent in this session: the next frame must hold all.
    PatchesMissing = 8,
}

impl RejectCode {
    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::TooLarge,
        Self::NotJpeg,
        Self::Truncated,
        Self::TooManyPixels,
        Self::Internal,
        Self::TokensUnavailable,
        Self::PatchesUnavailable,
        Self::PatchesMissing,
    ];

    /// One word for machines, such as `not_jpeg`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::NotJpeg => "not_jpeg",
            Self::Truncated => "truncated",
            Self::TooManyPixels => "too_many_pixels",
            Self::Internal => "internal",
            Self::TokensUnavailable => "tokens_unavailable",
            Self::PatchesUnavailable => "patches_unavailable",
            Self::PatchesMissing => "patches_missing",
        }
    }
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the encoder could not read the frame's stream",
            Self::TooLarge => "the frame has more bytes than the encoder takes",
            Self::NotJpeg => "the frame is no JPEG that can be decoded",
            Self::Truncated => "the frame ends early",
            Self::TooManyPixels => "the frame has more pixels than the encoder takes",
            Self::Internal => "the encoder failed",
            Self::TokensUnavailable => "this encoder gives no latent tokens",
            Self::PatchesUnavailable => "this encoder takes whole frames only",
            Self::PatchesMissing => "some patches of the frame were never sent",
        })
    }
}

/// The encoder's one message on a frame stream.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[repr(u32)]
pub enum FrameReplyMsg {
    /// The embedding.
    Answer(Answer) = 0,
    /// Not encoded, though in order.
    Dropped {
        /// The frame's.
        seq: u64,
        /// Why.
        reason: DropReason,
        /// Where the encoder's time went until then.
        timings: ServerTimings,
    } = 1,
    /// Not in order.
    Rejected {
        /// The frame's.
        seq: u64,
        /// Why.
        code: RejectCode,
        /// The values behind the code, for a person.
        message: String,
    } = 2,
}

impl FrameReplyMsg {
    /// A rejection whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn rejected(seq: u64, code: RejectCode, message: &str) -> Self {
        Self::Rejected { seq, code, message: clip(message) }
    }

    /// Number of the frame this replies to.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Answer(Answer { seq, .. }) | Self::Dropped { seq, .. } | Self::Rejected { seq, .. } => *seq,
        }
    }
}

impl Message for FrameHeader {
    const NAME: &'static str = "FrameHeader";
    const MAX_BYTES: usize = MAX_FRAME_HEADER_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        check_range("frame bytes", self.jpeg_len, 0, MAX_FRAME_BYTES)?;
        self.patches.as_ref().map_or(Ok(()), Kept::validate)
    }
}

impl Message for FrameReplyMsg {
    const NAME: &'static str = "FrameReplyMsg";
    const MAX_BYTES: usize = MAX_REPLY_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Answer(answer) => {
                answer.embedding.validate()?;
                check_range("embedding rows", answer.embedding.rows, 1, 1)?;
                answer.tokens.as_ref().map_or(Ok(()), WireTensor::validate)
            }
            Self::Dropped { .. } => Ok(()),
            Self::Rejected { message, .. } => check_text("rejection message", message),
        }
    }
}
