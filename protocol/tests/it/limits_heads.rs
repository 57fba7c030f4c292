//! The largest messages about heads fit their limits; one more is refused with words.

use protocol::{
    AgentToEncoderMsg, Body, BodyId, EncoderToAgentMsg, FetchCode, FetchReplyMsg, FetchRequest, HeadReport,
    Message, OperatorRequestMsg, Part, ReleaseId, Wanted, codec,
    limits::{
        MAX_AUDIT_LINES, MAX_CONTROL_BYTES, MAX_DOCUMENT_BYTES, MAX_NAME_BYTES, MAX_RELEASE_BYTES,
        MAX_SIGNATURE_BYTES, MAX_STRING_BYTES, WHOLE_SHARE,
    },
};

use crate::samples::{self, Any};

const RELEASE: ReleaseId = ReleaseId([0xff; 32]);

fn fits<M: Message>(message: &M) {
    codec::encode(message, M::MAX_BYTES).unwrap();
}

fn refused<M: Message>(message: &M) -> String {
    codec::encode(message, M::MAX_BYTES).unwrap_err().to_string()
}

#[test]
fn documents_are_bounded() {
    let wanted = |len, share| EncoderToAgentMsg::Wanted(Wanted { assignment: vec![0xff; len], share });
    fits(&wanted(MAX_DOCUMENT_BYTES, WHOLE_SHARE));
    assert_eq!(
        refused(&wanted(MAX_DOCUMENT_BYTES + 1, 0)),
        "16385 bytes of an assignment, the limit is 16384"
    );
    assert!(refused(&wanted(1, 1001)).contains("share of the cameras in thousandths: 1001"));
    let ring = |len| EncoderToAgentMsg::KeyRing { document: vec![0xff; len] };
    fits(&ring(MAX_DOCUMENT_BYTES));
    assert!(refused(&ring(MAX_DOCUMENT_BYTES + 1)).contains("bytes of a key ring"));
    let assign = |len| OperatorRequestMsg::Assign { assignment: vec![0xff; len] };
    fits(&assign(MAX_DOCUMENT_BYTES));
    assert!(refused(&assign(MAX_DOCUMENT_BYTES + 1)).contains("bytes of an assignment"));
}

#[test]
fn releases_are_bounded() {
    let id = BodyId([0xff; 32]);
    let found = |total, len| FetchReplyMsg::Found {
        total,
        signature: vec![0xff; len],
        body: Body { id, len: total },
        offset: total,
    };
    fits(&found(MAX_RELEASE_BYTES, MAX_SIGNATURE_BYTES));
    assert!(refused(&found(MAX_RELEASE_BYTES + 1, 1)).contains("bytes of a release: 67108865"));
    assert!(refused(&found(0, 1)).contains("bytes of a release: 0"));
    assert!(refused(&found(1, MAX_SIGNATURE_BYTES + 1)).contains("bytes of a signature"));
    fits(&FetchReplyMsg::refused(FetchCode::NotAssigned, &"\u{1b}".repeat(4000)));
    let body = |len, offset| FetchReplyMsg::Found {
        total: 9,
        signature: Vec::new(),
        body: Body { id, len },
        offset,
    };
    assert_eq!(refused(&body(10, 0)), "bytes of a body: 10 is not within 1..=9");
    assert_eq!(refused(&body(0, 0)), "bytes of a body: 0 is not within 1..=9");
    assert_eq!(refused(&body(8, 9)), "offset in a body: 9 is not within 0..=8");
    let fetch = |offset| FetchRequest { release: RELEASE, have: Some(Part { body: id, offset }) };
    fits(&fetch(MAX_RELEASE_BYTES));
    assert!(refused(&fetch(MAX_RELEASE_BYTES + 1)).contains("offset in a body"));
    let publish =
        |total| OperatorRequestMsg::Publish { release: RELEASE, total, signature: vec![0xff; 1024] };
    fits(&publish(MAX_RELEASE_BYTES));
    assert!(refused(&publish(MAX_RELEASE_BYTES + 1)).contains("bytes of a release"));
}

#[test]
fn an_audit_is_bounded() {
    fits(&OperatorRequestMsg::Audit { last: MAX_AUDIT_LINES });
    for last in [0, MAX_AUDIT_LINES + 1] {
        let words = format!("lines of the audit log: {last} is not within 1..=1000");
        assert_eq!(refused(&OperatorRequestMsg::Audit { last }), words);
    }
}

#[test]
fn a_report_is_bounded_and_its_values_are_numbers() {
    let (_, sample) = samples::all().into_iter().find(|(name, _)| *name == "head-report").unwrap();
    let Any::Agent(AgentToEncoderMsg::Head(sample)) = sample else { panic!("{sample:?}") };
    let longest = HeadReport {
        head: "h".repeat(MAX_NAME_BYTES),
        channel: "c".repeat(MAX_NAME_BYTES),
        error: "e".repeat(MAX_STRING_BYTES),
        counter: u64::MAX,
        ..sample
    };
    let message = Any::Agent(AgentToEncoderMsg::Head(longest.clone()));
    assert!(message.body().len() <= MAX_CONTROL_BYTES);
    let refuse = |change: fn(&mut HeadReport)| {
        let mut report = longest.clone();
        change(&mut report);
        refused(&AgentToEncoderMsg::Head(report))
    };
    assert!(refuse(|r| r.head.push('h')).contains("head name has 129 bytes"));
    assert!(refuse(|r| r.channel = "a\nb".into()).contains("control character"));
    assert!(refuse(|r| r.error.push('e')).contains("head error has 1025 bytes"));
    assert!(refuse(|r| r.values.mean = f64::NAN).contains("mean NaN"));
    assert!(refuse(|r| r.values.squares = -1.0).contains("squares -1"));
    assert!(refuse(|r| r.values.squares = f64::INFINITY).contains("squares inf"));
}
