//! The messages about heads, mirrored.

use protocol as p;
use wincode::{SchemaRead, SchemaWrite};

mirror_struct!(Moments { count: u64, mean: f64, squares: f64 });
mirror_struct!(EdgeWork { frames: u64, head_flops: u64, picture_flops: u64, cpu_us: u64 });
mirror_struct!(CameraAccount {
    camera: String,
    frames: u64,
    flops: u64,
    busy_us: u64,
    joules: f64,
    received: u64,
    sent: u64,
    edge: EdgeWork
});
mirror_struct!(BoxModel { name: String, cores: u32, extra_watts: f64, gflops: f64 });
mirror_struct!(Site {
    name: String,
    for_ms: u64,
    model: String,
    frame_flops: u64,
    power: String,
    metered: bool,
    idle_joules: f64,
    grid_gco2_per_kwh: Option<f64>,
    camera_box: BoxModel
});
mirror_struct!(Wanted { assignment: Vec<u8>, share: u16 });
mirror_struct!(Body { id: Release, len: u32 });
mirror_struct!(Part { body: Release, offset: u32 });
mirror_struct!(AuditEntry { by: String, what: String, at_us: i64 });
mirror_struct!(CameraHead {
    camera: String,
    connected: bool,
    heard_ms: u64,
    report: HeadReport,
    before: Moments
});
mirror_struct!(ChannelState {
    channel: String,
    assignment: Vec<u8>,
    share: u16,
    phase: RolloutPhase,
    reason: String,
    since_us: i64
});
mirror_struct!(HistoryEntry {
    counter: u64,
    release: Release,
    rollback: bool,
    by: String,
    what: String,
    at_us: i64
});
mirror_enum!(FetchCode { Unknown, NotAssigned, Offset, Malformed, Internal });
mirror_enum!(OperatorCode { Role, Signature, Head, Unknown, Conflict, Malformed, Internal });
mirror_enum!(RolloutAction { Hold, Resume, Abort, Promote });
mirror_enum!(RolloutPhase { Soaking, Held, Stopped, Aborted, Done });

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct Release([u8; 32]);

impl From<p::ReleaseId> for Release {
    fn from(original: p::ReleaseId) -> Self {
        Self(original.0)
    }
}

impl From<p::BodyId> for Release {
    fn from(original: p::BodyId) -> Self {
        Self(original.0)
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct FetchRequest {
    release: Release,
    have: Option<Part>,
}

impl From<p::FetchRequest> for FetchRequest {
    fn from(original: p::FetchRequest) -> Self {
        Self { release: original.release.into(), have: original.have.map(Into::into) }
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) struct HeadReport {
    head: String,
    channel: String,
    counter: u64,
    wanted: Option<Release>,
    active: Option<Release>,
    pinned: bool,
    failed: Option<Release>,
    error: String,
    active_for_ms: u64,
    answers: u64,
    failures: u64,
    values: Moments,
    flops: u64,
}

impl From<p::HeadReport> for HeadReport {
    fn from(original: p::HeadReport) -> Self {
        let [wanted, active, failed] =
            [original.wanted, original.active, original.failed].map(|release| release.map(Into::into));
        Self {
            head: original.head,
            channel: original.channel,
            counter: original.counter,
            wanted,
            active,
            pinned: original.pinned,
            failed,
            error: original.error,
            active_for_ms: original.active_for_ms,
            answers: original.answers,
            failures: original.failures,
            values: original.values.into(),
            flops: original.flops,
        }
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum FetchReplyMsg {
    Found { len: u32, signature: Vec<u8>, body: Body, offset: u32 }, // the derive trips over a field named `total`
    Refused { code: FetchCode, message: String },
}

impl From<p::FetchReplyMsg> for FetchReplyMsg {
    fn from(original: p::FetchReplyMsg) -> Self {
        match original {
            p::FetchReplyMsg::Found { total, signature, body, offset } => {
                Self::Found { len: total, signature, body: body.into(), offset }
            }
            p::FetchReplyMsg::Refused { code, message } => Self::Refused { code: code.into(), message },
        }
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum OperatorRequestMsg {
    Publish { release: Release, len: u32, signature: Vec<u8> },
    KeyRing { document: Vec<u8> },
    Assign { assignment: Vec<u8> },
    Rollout { channel: String, counter: u64, action: RolloutAction },
    Channel { channel: String },
    Status { channel: String, cameras: String },
    Audit { last: u32 },
    Ledger { cameras: String },
}

impl From<p::OperatorRequestMsg> for OperatorRequestMsg {
    fn from(original: p::OperatorRequestMsg) -> Self {
        use p::OperatorRequestMsg as P;
        match original {
            P::Publish { release, total, signature } => {
                Self::Publish { release: release.into(), len: total, signature }
            }
            P::KeyRing { document } => Self::KeyRing { document },
            P::Assign { assignment } => Self::Assign { assignment },
            P::Rollout { channel, counter, action } => {
                Self::Rollout { channel, counter, action: action.into() }
            }
            P::Channel { channel } => Self::Channel { channel },
            P::Status { channel, cameras } => Self::Status { channel, cameras },
            P::Audit { last } => Self::Audit { last },
            P::Ledger { cameras } => Self::Ledger { cameras },
        }
    }
}

#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub(crate) enum OperatorReplyMsg {
    Done { note: String },
    Refused { code: OperatorCode, message: String },
    Channel(ChannelState),
    History(HistoryEntry),
    Head(CameraHead),
    Audit(AuditEntry),
    Site(Site),
    Account(CameraAccount),
}

impl From<p::OperatorReplyMsg> for OperatorReplyMsg {
    fn from(original: p::OperatorReplyMsg) -> Self {
        use p::OperatorReplyMsg as P;
        match original {
            P::Done { note } => Self::Done { note },
            P::Refused { code, message } => Self::Refused { code: code.into(), message },
            P::Channel(state) => Self::Channel(state.into()),
            P::History(entry) => Self::History(entry.into()),
            P::Head(head) => Self::Head(head.into()),
            P::Audit(entry) => Self::Audit(entry.into()),
            P::Site(site) => Self::Site(site.into()),
            P::Account(account) => Self::Account(account.into()),
        }
    }
}
