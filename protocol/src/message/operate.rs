//! Messages of an operator stream: one request, and replies one after another, so that a history or the status
//! of a thousand cameras needs no long message.

use std::fmt;

use bincode::{Decode, Encode};

use crate::{
    CodecError, HeadReport, Moments, ReleaseId,
    limits::{
        MAX_AUDIT_LINES, MAX_CONTROL_BYTES, MAX_DOCUMENT_BYTES, MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES,
        WHOLE_SHARE, check_document, check_name, check_range, check_text, clip,
    },
    message::{
        Message,
        ledger::{CameraAccount, Site},
    },
};

/// What to do with a running rollout. All of it stays inside the bounds of the signed assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RolloutAction {
    /// Stay where it is.
    Hold = 0,
    /// Go on after a hold or a stop; the soak starts again.
    Resume = 1,
    /// Give every camera the fallback.
    Abort = 2,
    /// Go to the largest share now, without waiting for the soak.
    Promote = 3,
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[repr(u32)]
pub enum OperatorRequestMsg {
    /// Keep a release: `total` bytes of the head file follow, then the end of the stream. A reply may come before
    /// they are all sent: the release is there already, or is refused.
    Publish {
        /// SHA-256 of the bytes that follow.
        release: ReleaseId,
        /// Their length, at most [`MAX_RELEASE_BYTES`].
        total: u32,
        /// The detached signature, at most [`MAX_SIGNATURE_BYTES`].
        signature: Vec<u8>,
    } = 0,
    /// Take a newer key ring.
    KeyRing {
        /// The signed document, at most [`MAX_DOCUMENT_BYTES`].
        document: Vec<u8>,
    } = 1,
    /// Take a channel's next assignment; also how a channel is rolled back.
    Assign {
        /// The signed document, at most [`MAX_DOCUMENT_BYTES`].
        assignment: Vec<u8>,
    } = 2,
    /// Steer the rollout of an assignment.
    Rollout {
        /// The channel.
        channel: String,
        /// Counter of the assignment that is meant: a newer one is not steered by mistake.
        counter: u64,
        /// What to do.
        action: RolloutAction,
    } = 3,
    /// Where a channel stands, and its history: [`OperatorReplyMsg::Channel`], then
    /// [`OperatorReplyMsg::History`] from the newest entry on.
    Channel {
        /// The channel. Empty: every channel, without history.
        channel: String,
    } = 4,
    /// How cameras do: one [`OperatorReplyMsg::Head`] for each camera and head.
    Status {
        /// Only this channel. Empty: all.
        channel: String,
        /// Only cameras that match this pattern, such as `plaza-*`. Empty: all.
        cameras: String,
    } = 5,
    /// Who changed what: [`OperatorReplyMsg::Audit`], from the newest line on.
    Audit {
        /// How many lines, at most [`MAX_AUDIT_LINES`].
        last: u32,
    } = 6,
    /// Where operations, bytes and energy went: [`OperatorReplyMsg::Site`], then one
    /// [`OperatorReplyMsg::Account`] for each camera.
    Ledger {
        /// Only cameras that match this pattern, such as `plaza-*`. Empty: all.
        cameras: String,
    } = 7,
}

/// How far a rollout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RolloutPhase {
    /// The canaries run the release; it is promoted or stopped by what they report.
    Soaking = 0,
    /// Stays at its share: an operator held it, or the assignment does not allow promotion.
    Held = 1,
    /// Stopped by itself; everyone has the fallback until an operator resumes it.
    Stopped = 2,
    /// An operator aborted it; everyone has the fallback.
    Aborted = 3,
    /// Reached its largest share.
    Done = 4,
}

impl fmt::Display for RolloutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Soaking => "soaking",
            Self::Held => "held",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
            Self::Done => "done",
        })
    }
}

/// Where a channel stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ChannelState {
    /// Its name.
    pub channel: String,
    /// The newest assignment as signed. Empty: none yet.
    pub assignment: Vec<u8>,
    /// Thousandths of the cameras that have the release by now.
    pub share: u16,
    /// How far the rollout has come.
    pub phase: RolloutPhase,
    /// Why, for a person. Often empty.
    pub reason: String,
    /// When it came there, in microseconds since the Unix epoch by the server's clock.
    pub since_us: i64,
}

/// One line of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HistoryEntry {
    /// Counter of the assignment.
    pub counter: u64,
    /// The release it gave.
    pub release: ReleaseId,
    /// It was an explicit rollback.
    pub rollback: bool,
    /// Who did it: the operator's name in the certificate, or `server` for what it did by itself.
    pub by: String,
    /// What happened: `assigned`, `promoted`, `stopped: …`.
    pub what: String,
    /// When, in microseconds since the Unix epoch by the server's clock.
    pub at_us: i64,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditEntry {
    /// Who: an operator's name in the certificate, `local` for a command on the registry's machine, `server` for what
    /// the server did by itself.
    pub by: String,
    /// What was changed.
    pub what: String,
    /// When, in microseconds since the Unix epoch by the server's clock.
    pub at_us: i64,
}

/// One head on one camera.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct CameraHead {
    /// The camera.
    pub camera: String,
    /// It is connected now.
    pub connected: bool,
    /// Milliseconds since its last report.
    pub heard_ms: u64,
    /// Its last report.
    pub report: HeadReport,
    /// Values of the release that was active before.
    pub before: Moments,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum OperatorCode {
    /// The certificate's role may not do this.
    Role = 0,
    /// A signature, key or document is not accepted.
    Signature = 1,
    /// The head cannot be used.
    Head = 2,
    /// The server does not have the release or the channel.
    Unknown = 3,
    /// Something newer is there: another operator was faster, or this is a replay.
    Conflict = 4,
    /// The stream did not hold what it must.
    Malformed = 5,
    /// The server failed, or has no room.
    Internal = 6,
}

impl fmt::Display for OperatorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Role => "the certificate's role may not do this",
            Self::Signature => "the signature is not accepted",
            Self::Head => "the head cannot be used",
            Self::Unknown => "the server does not know it",
            Self::Conflict => "something newer is there",
            Self::Malformed => "the server could not read the request",
            Self::Internal => "the server failed",
        })
    }
}

/// What the server says to an operator; the last one is [`Done`](Self::Done) or [`Refused`](Self::Refused).
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[repr(u32)]
pub enum OperatorReplyMsg {
    /// It is done, and on disk.
    Done {
        /// What an operator should know, such as `was there already`. Often empty.
        note: String,
    } = 0,
    /// It is not done.
    Refused {
        /// Why.
        code: OperatorCode,
        /// The values behind the code and what to do, for a person.
        message: String,
    } = 1,
    /// Where a channel stands.
    Channel(ChannelState) = 2,
    /// One line of its history.
    History(HistoryEntry) = 3,
    /// One head on one camera.
    Head(CameraHead) = 4,
    /// One line of the audit log.
    Audit(AuditEntry) = 5,
    /// What all accounts of the ledger have in common.
    Site(Site) = 6,
    /// One camera's account.
    Account(CameraAccount) = 7,
}

impl OperatorReplyMsg {
    /// A refusal whose message is made fit to travel: [`clip`].
    #[must_use]
    pub fn refused(code: OperatorCode, message: &str) -> Self {
        Self::Refused { code, message: clip(message) }
    }
}

impl Message for OperatorRequestMsg {
    const NAME: &'static str = "OperatorRequestMsg";
    const MAX_BYTES: usize = MAX_CONTROL_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Publish { total, signature, .. } => {
                check_range("bytes of a release", *total, 1, MAX_RELEASE_BYTES)?;
                check_document("bytes of a signature", signature, MAX_SIGNATURE_BYTES)
            }
            Self::KeyRing { document } => check_document("bytes of a key ring", document, MAX_DOCUMENT_BYTES),
            Self::Assign { assignment } => {
                check_document("bytes of an assignment", assignment, MAX_DOCUMENT_BYTES)
            }
            Self::Rollout { channel, .. } | Self::Channel { channel } => check_name("channel name", channel),
            Self::Status { channel, cameras } => {
                check_name("channel name", channel)?;
                check_name("camera pattern", cameras)
            }
            Self::Ledger { cameras } => check_name("camera pattern", cameras),
            Self::Audit { last } => check_range("lines of the audit log", *last, 1, MAX_AUDIT_LINES),
        }
    }
}

impl Message for OperatorReplyMsg {
    const NAME: &'static str = "OperatorReplyMsg";
    const MAX_BYTES: usize = MAX_CONTROL_BYTES;

    fn validate(&self) -> Result<(), CodecError> {
        match self {
            Self::Done { note } => check_text("note", note),
            Self::Refused { message, .. } => check_text("refusal message", message),
            Self::Channel(state) => {
                check_name("channel name", &state.channel)?;
                check_text("rollout reason", &state.reason)?;
                check_document("bytes of an assignment", &state.assignment, MAX_DOCUMENT_BYTES)?;
                check_range("share of the cameras in thousandths", state.share.into(), 0, WHOLE_SHARE.into())
            }
            Self::History(entry) => {
                check_name("operator name", &entry.by)?;
                check_text("history entry", &entry.what)
            }
            Self::Head(head) => {
                check_name("camera name", &head.camera)?;
                head.report.validate()?;
                head.before.validate()
            }
            Self::Audit(entry) => {
                check_name("operator name", &entry.by)?;
                check_text("line of the audit log", &entry.what)
            }
            Self::Site(site) => site.validate(),
            Self::Account(account) => account.validate(),
        }
    }
}
