use std::collections::BTreeSet;

use shared::release::{Assignment, FORMAT, Promotion, Rollout, Share};

use super::*;

const OLD: ReleaseId = ReleaseId([1; 32]);
const NEW: ReleaseId = ReleaseId([2; 32]);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn given(share: Share, since: i64) -> Given {
    let assignment = Assignment {
        format: FORMAT,
        channel: "people-count@stable".parse().unwrap(),
        counter: 2,
        release: NEW,
        fallback: Some(OLD),
        cameras: vec!["plaza-*".parse().unwrap()],
        share,
        promotion: Some(Promotion::USUAL),
        rollback: false,
    };
    let rollout = Rollout { share, ..Rollout::start(&assignment, at(since)) };
    Given { assignment, document: Vec::new(), rollout, audience: Vec::new() }
}

fn report(active: ReleaseId, wanted: ReleaseId, answers: u64, mean: f64) -> HeadReport {
    HeadReport {
        head: "people-count".into(),
        channel: "people-count@stable".into(),
        counter: 2,
        wanted: Some(wanted),
        active: Some(active),
        pinned: false,
        failed: None,
        error: String::new(),
        active_for_ms: 0,
        answers,
        failures: 0,
        values: Moments { count: answers, mean, squares: 0.0 },
        flops: 0,
    }
}

fn phase(given: &Given) -> Option<Phase> {
    Some((given.assignment.counter, given.rollout.since))
}

#[test]
fn a_canary_is_compared_with_the_release_it_had() {
    let given = given(Share::WHOLE, 100);
    let mut fleet = Fleet::default();
    fleet.hear("plaza-1", report(OLD, OLD, 40, 3.0), None, at(99));
    fleet.hear("plaza-1", report(NEW, NEW, 10, 5.0), phase(&given), at(101));
    fleet.hear("plaza-1", report(NEW, NEW, 30, 5.0), phase(&given), at(102));
    // The agent started again and counts from zero: what it did before is not forgotten.
    fleet.hear("plaza-1", report(NEW, NEW, 5, 5.0), phase(&given), at(103));
    fleet.hear("gate", report(NEW, NEW, 9, 9.0), phase(&given), at(103));
    let Group { cameras, failed, answers, before, after, .. } = fleet.evidence(&given).canaries;
    assert_eq!((cameras, failed, answers), (1, 0, 35));
    assert_eq!((before.count, before.mean, after.count, after.mean), (40, 3.0, 35, 5.0));
}

#[test]
fn failures_of_an_earlier_phase_do_not_count() {
    let first = given(Share::WHOLE, 100);
    let mut fleet = Fleet::default();
    let failed = HeadReport { failed: Some(NEW), ..report(OLD, NEW, 10, 3.0) };
    fleet.hear("plaza-1", failed, phase(&first), at(101));
    assert_eq!(fleet.evidence(&first).canaries.failed, 1);
    // Resumed: nobody has said anything yet, then the camera tries again.
    let second = given(Share::WHOLE, 200);
    assert_eq!(fleet.evidence(&second).canaries.cameras, 0);
    fleet.hear("plaza-1", report(NEW, NEW, 3, 3.0), phase(&second), at(201));
    let canaries = fleet.evidence(&second).canaries;
    assert_eq!((canaries.cameras, canaries.failed, canaries.answers), (1, 0, 3));
}

#[test]
fn other_cameras_are_compared_with_themselves_and_pinned_ones_not_at_all() {
    let none = given(Share::NONE, 100);
    let mut fleet = Fleet::default();
    fleet.hear("plaza-1", report(OLD, OLD, 40, 3.0), None, at(99));
    fleet.hear("plaza-1", report(OLD, OLD, 50, 3.0), phase(&none), at(101));
    let others = fleet.evidence(&none).others;
    assert_eq!((others.cameras, others.before.count, others.after.count), (1, 40, 10));
    let whole = given(Share::WHOLE, 100);
    fleet.hear("plaza-1", HeadReport { pinned: true, ..report(NEW, NEW, 9, 1.0) }, phase(&whole), at(102));
    assert_eq!(fleet.evidence(&whole).canaries, Group::default());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut fleet = Fleet::default();
    for i in 0..MAX_CAMERAS + 10 {
        fleet.hear(&format!("c{i}"), report(OLD, OLD, 1, 1.0), None, at(i64::try_from(i).unwrap()));
    }
    assert_eq!(fleet.cameras.len(), MAX_CAMERAS);
    assert!(!fleet.cameras.contains_key("c0") && fleet.cameras.contains_key("c4105"));
    for i in 0..MAX_HEADS + 10 {
        fleet.hear("c9", HeadReport { head: format!("h{i}"), ..report(OLD, OLD, 1, 1.0) }, None, at(9));
    }
    let (stable, c9) = ("people-count@stable".parse().unwrap(), "c9".parse().unwrap());
    let of_one: BTreeSet<String> =
        fleet.status(Some(&stable), Some(&c9), at(10)).map(|line| line.report.head).collect();
    assert!(of_one.len() <= MAX_HEADS);
}
