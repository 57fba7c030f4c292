//! Messages about heads: what a camera should run, how it does, and the bytes of a release.

use std::fmt;

use bincode::{Decode, Encode};

use crate::{
    Body, CodecError, Moments, Part, ReleaseId,
    limits::{
        MAX_DOCUMENT_BYTES, MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES, MAX_RELEASE_BYTES,
        MAX_SIGNATURE_BYTES, WHOLE_SHARE, check_document, check_name, check_range, check_text, clip,
    },
    message::Message,
};

/// A channel's newest assignment. The document says what may run; the server only adds how far the rollout has
/// come, and the agent holds that against the document's bounds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Wanted {
    /// The assignment as an operator signed it, at most [`MAX_DOCUMENT_BYTES`].
    pub assignment: Vec<u8>,
    /// Thousandths of the assignment's cameras that have the new release by now; the others have its fallback.
    pub share: u16,
}

/// How one head of a camera is doing.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct HeadReport {
    /// Name of the head, such as `people-count`.
    pub head: String,
    /// Channel that wants it, such as `people-count@stable`. Empty: installed on the box itself.
    pub channel: String,
    /// Counter of the newest assignment of that channel the agent accepted. 0: none.
    pub counter: u64,
    /// Release the channel wants here. `None`: none.
    pub wanted: Option<ReleaseId>,
    /// Release that answers frames now. `None`: none.
    pub active: Option<ReleaseId>,
    /// Someone on the box pinned the active release: pushes do not replace it.
    pub pinned: bool,
    /// Release that was refused or rolled back, until another one is wanted.
    pub failed: Option<ReleaseId>,
    /// Why, for a person. Often empty.
    pub error: String,
    /// How long the active release has been active, in milliseconds: no clock of the box is needed.
    pub active_for_ms: u64,
    /// Frames the active release answered.
    pub answers: u64,
    /// Frames it failed on.
    pub failures: u64,
    /// Its values. Of a circular output: none, since their mean says nothing.
    pub values: Moments,
    /// Operations that one answer of the active release takes, at most.
    pub flops: u64,
}

/// Asks for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct FetchRequest {
    /// The release.
    pub release: ReleaseId,
    /// The body to go on with, where an interrupted fetch stopped it. A server that has no such body starts another
    /// one. `None`: nothing is there, and the server chooses.
    pub have: Option<Part>,
}

/// Why a release is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum FetchCode {
    /// The server does not have it.
    Unknown = 0,
    /// No assignment gives it to this camera.
    NotAssigned = 1,
    /// The offset is beyond the body's end: start again.
    Offset = 2,
    /// The stream did not hold what it must.
    Malformed = 3,
    /// The server failed; try again later.
    Internal = 4,
}

impl fmt::Display for FetchCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the server does not have the release",
            Self::NotAssigned => "no assignment gives the release to this camera",
            Self::Offset => "the offset is beyond the end of what travels",
            Self::Malformed => "the server could not read the request",
            Self::Internal => "the server failed",
        })
    }
}

/// The server's one message on a fetch stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[repr(u32)]
pub enum FetchReplyMsg {
    /// The body's bytes from the offset on follow, then the end of the stream.
    Found {
        /// Length of the whole release in bytes, at most [`MAX_RELEASE_BYTES`].
        total: u32,
        /// The detached signature, as it was published; at most [`MAX_SIGNATURE_BYTES`].
        signature: Vec<u8>,
        /// What travels: the release's file, or a zlib stream (RFC 1950) that it comes out of. Never longer than the
        /// release.
        body: Body,
        /// The body's first byte that follows: the one asked for, or 0 of another body.
        offset: u32,
    } = 0,
    /// Nothing follows.
    Refused {
        /// Why.
        code: FetchCode,
        /// The values behind the code, for a person.
        message: String,
    } = 1,
}

impl FetchReplyMsg {
    /// A refusal whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn refused(code: FetchCode, message: &str) -> Self {
        Self::Refused { code, message: clip(message) }
    }
}

impl Message for FetchRequest {
    const NAME: &'static str = "FetchRequest";
    const MAX_BYTES: usize = MAX_FETCH_REQUEST_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        let offset = self.have.map_or(0, |part| part.offset);
        check_range("offset in a body", offset, 0, MAX_RELEASE_BYTES)
    }
}

impl Message for FetchReplyMsg {
    const NAME: &'static str = "FetchReplyMsg";
    const MAX_BYTES: usize = MAX_FETCH_REPLY_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Found { total, signature, body, offset } => {
                check_range("bytes of a release", *total, 1, MAX_RELEASE_BYTES)?;
                check_range("bytes of a body", body.len, 1, *total)?;
                check_range("offset in a body", *offset, 0, body.len)?;
                check_document("bytes of a signature", signature, MAX_SIGNATURE_BYTES)
            }
            Self::Refused { message, .. } => check_text("refusal message", message),
        }
    }
}

impl Wanted {
    pub(super) fn validate(&self) -> Result<(), CodecError> {
        check_document("bytes of an assignment", &self.assignment, MAX_DOCUMENT_BYTES)?;
        check_range("share of the cameras in thousandths", self.share.into(), 0, WHOLE_SHARE.into())
    }
}

impl HeadReport {
    pub(super) fn validate(&self) -> Result<(), CodecError> {
        check_name("head name", &self.head)?;
        check_name("channel name", &self.channel)?;
        check_text("head error", &self.error)?;
        self.values.validate()
    }
}
