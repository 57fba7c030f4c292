//! Samples of the messages about heads.

use protocol::{
    AgentToEncoderMsg, AuditEntry, Body, BodyId, BoxModel, CameraAccount, CameraHead, ChannelState, EdgeWork,
    EncoderToAgentMsg, FetchCode, FetchReplyMsg, FetchRequest, HeadReport, HistoryEntry, Moments,
    OperatorCode, OperatorReplyMsg, OperatorRequestMsg, Part, ReleaseId, RolloutAction, RolloutPhase, Site,
    Wanted,
};

use crate::samples::Any;

fn release(first: u8) -> ReleaseId {
    ReleaseId(std::array::from_fn(|i| first.wrapping_add(i as u8)))
}

fn report() -> HeadReport {
    HeadReport {
        head: "count".into(),
        channel: "count@stable".into(),
        counter: 7,
        wanted: Some(release(0)),
        active: Some(release(0x20)),
        pinned: true,
        failed: None,
        error: "no".into(),
        active_for_ms: 251,
        answers: 65_536,
        failures: 2,
        values: Moments { count: 3, mean: 1.0, squares: 2.5 },
        flops: 2048,
    }
}

/// Every variant about heads and the ledger, by name.
pub(crate) fn all() -> Vec<(&'static str, Any)> {
    [heads(), ledger()].concat()
}

fn heads() -> Vec<(&'static str, Any)> {
    let wanted = Wanted { assignment: vec![1, 2, 3], share: 250 };
    let body = Body { id: BodyId(release(0x40).0), len: 9000 };
    let found = FetchReplyMsg::Found { total: 20_000, signature: vec![4, 5], body, offset: 300 };
    let have = Some(Part { body: BodyId(release(0x20).0), offset: 65_536 });
    let publish = OperatorRequestMsg::Publish { release: release(0), total: 20_000, signature: vec![4, 5] };
    let steer =
        OperatorRequestMsg::Rollout { channel: "a@b".into(), counter: 9, action: RolloutAction::Abort };
    let state = ChannelState {
        channel: "a@b".into(),
        assignment: vec![1, 2],
        share: 100,
        phase: RolloutPhase::Stopped,
        reason: "no".into(),
        since_us: 1_700_000_000_000_000,
    };
    let entry = HistoryEntry {
        counter: 9,
        release: release(0x40),
        rollback: true,
        by: "ada".into(),
        what: "assigned".into(),
        at_us: -1,
    };
    let head = CameraHead {
        camera: "plaza-1".into(),
        connected: true,
        heard_ms: 300,
        report: HeadReport { wanted: None, failed: Some(release(1)), ..report() },
        before: Moments::default(),
    };
    let line = AuditEntry { by: "ada".into(), what: "key ring version 2".into(), at_us: -1 };
    let operated = OperatorReplyMsg::Refused { code: OperatorCode::Conflict, message: "no".into() };
    let refused = FetchReplyMsg::Refused { code: FetchCode::Offset, message: "no".into() };
    let status = OperatorRequestMsg::Status { channel: "a@b".into(), cameras: "plaza-*".into() };
    vec![
        ("head-report", Any::Agent(AgentToEncoderMsg::Head(report()))),
        ("key-ring", Any::Encoder(EncoderToAgentMsg::KeyRing { document: vec![9, 8, 7] })),
        ("wanted", Any::Encoder(EncoderToAgentMsg::Wanted(wanted))),
        ("fetch", Any::Fetch(FetchRequest { release: release(0), have: None })),
        ("fetch-on", Any::Fetch(FetchRequest { release: release(0), have })),
        ("fetch-found", Any::Fetched(found)),
        ("fetch-refused", Any::Fetched(refused)),
        ("publish", Any::Operator(publish)),
        ("take-key-ring", Any::Operator(OperatorRequestMsg::KeyRing { document: vec![9, 8, 7] })),
        ("assign", Any::Operator(OperatorRequestMsg::Assign { assignment: vec![1, 2, 3] })),
        ("steer", Any::Operator(steer)),
        ("channel", Any::Operator(OperatorRequestMsg::Channel { channel: "a@b".into() })),
        ("status", Any::Operator(status)),
        ("audit", Any::Operator(OperatorRequestMsg::Audit { last: 100 })),
        ("done", Any::Operated(OperatorReplyMsg::Done { note: "was there".into() })),
        ("operator-refused", Any::Operated(operated)),
        ("channel-state", Any::Operated(OperatorReplyMsg::Channel(state))),
        ("history", Any::Operated(OperatorReplyMsg::History(entry))),
        ("camera-head", Any::Operated(OperatorReplyMsg::Head(head))),
        ("audit-line", Any::Operated(OperatorReplyMsg::Audit(line))),
    ]
}

fn ledger() -> Vec<(&'static str, Any)> {
    let edge = EdgeWork { frames: 3, head_flops: 70_000, picture_flops: 1 << 40, cpu_us: 20_000 };
    let account = CameraAccount {
        camera: "plaza-1".into(),
        frames: 300,
        flops: 1 << 40,
        busy_us: 251,
        joules: 1.5,
        received: 65_536,
        sent: 9,
        edge,
    };
    let camera_box = BoxModel { name: "pi".into(), cores: 4, extra_watts: 3.2, gflops: 48.0 };
    let site = Site {
        name: "hall 3".into(),
        for_ms: 251,
        model: "demo".into(),
        frame_flops: 1 << 31,
        power: "rapl".into(),
        metered: true,
        idle_joules: 0.5,
        grid_gco2_per_kwh: Some(350.0),
        camera_box,
    };
    let ledger = OperatorRequestMsg::Ledger { cameras: "plaza-*".into() };
    vec![
        ("work", Any::Agent(AgentToEncoderMsg::Work(edge))),
        ("ledger", Any::Operator(ledger)),
        ("site", Any::Operated(OperatorReplyMsg::Site(site))),
        ("account", Any::Operated(OperatorReplyMsg::Account(account))),
    ]
}
