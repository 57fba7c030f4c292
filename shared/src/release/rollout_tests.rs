use proptest::prelude::*;
use protocol::ReleaseId;

use super::*;
use crate::release::FORMAT;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn assignment(share: &str) -> Assignment {
    Assignment {
        format: FORMAT,
        channel: "people-count@stable".parse().unwrap(),
        counter: 3,
        release: ReleaseId([1; 32]),
        fallback: Some(ReleaseId([2; 32])),
        cameras: vec!["*".parse().unwrap()],
        share: share.parse().unwrap(),
        promotion: Some(Promotion { soak_s: 60, min_answers: 100, ..Promotion::USUAL }),
        rollback: false,
    }
}

/// `count` values of this mean and standard deviation.
fn values(count: u64, mean: f64, deviation: f64) -> Moments {
    Moments { count, mean, squares: deviation * deviation * count as f64 }
}

fn healthy() -> Evidence {
    let group = Group {
        cameras: 3,
        answers: 1000,
        before: values(500, 4.0, 2.0),
        after: values(1000, 4.5, 2.2),
        ..Group::default()
    };
    Evidence { canaries: group, others: Group { cameras: 20, ..group } }
}

fn stopped(change: impl Fn(&mut Evidence)) -> Option<String> {
    let assignment = assignment("10%");
    let mut evidence = healthy();
    change(&mut evidence);
    let next = Rollout::start(&assignment, START).step(&assignment, &evidence, after(1))?;
    assert_eq!((next.share, next.phase, next.since), (Share::NONE, RolloutPhase::Stopped, after(1)));
    Some(next.reason)
}

#[test]
fn a_healthy_canary_is_promoted_after_its_soak_and_not_before() {
    let assignment = assignment("10%");
    let start = Rollout::start(&assignment, START);
    assert_eq!((start.phase, start.share.to_string()), (RolloutPhase::Soaking, "10%".into()));
    assert_eq!(start.step(&assignment, &healthy(), after(59)), None);
    let done = start.step(&assignment, &healthy(), after(60)).unwrap();
    assert_eq!((done.phase, done.share), (RolloutPhase::Done, Share::WHOLE));
    assert_eq!(done.step(&assignment, &healthy(), after(61)), None);
    for lacking in [
        |e: &mut Evidence| e.canaries.answers = 99,
        |e: &mut Evidence| e.canaries.cameras = 0,
        // One in two hundred is within the bounds of a stop, and no reason to go further.
        |e: &mut Evidence| (e.canaries.failed, e.canaries.cameras) = (1, 200),
    ] {
        let mut evidence = healthy();
        lacking(&mut evidence);
        assert_eq!(start.step(&assignment, &evidence, after(3600)), None, "{evidence:?}");
    }
}

#[test]
fn failures_stop_it_at_once() {
    assert_eq!(stopped(|_| {}), None);
    let words = stopped(|e| e.canaries.failed = 1).unwrap();
    assert_eq!(words, "1 of 3 canaries refused the release or went back");
    assert_eq!(stopped(|e| e.canaries.failures = 10), None);
    assert_eq!(stopped(|e| e.canaries.failures = 11).unwrap(), "11 of 1011 frames failed on the canaries");
    // The first frame fails: one of one, yet one of a hundred is allowed.
    let first = |failures| move |e: &mut Evidence| (e.canaries.answers, e.canaries.failures) = (0, failures);
    assert_eq!(stopped(first(1)), None);
    assert!(stopped(first(2)).is_some());
}

#[test]
fn values_that_depart_stop_it() {
    let words = stopped(|e| e.canaries.after = values(1000, 9.0, 2.2)).unwrap();
    assert_eq!(words, "the canaries' mean value went from 4.000 to 9.000");
    // Everyone's went up: it is the time of day.
    assert_eq!(
        stopped(|e| {
            e.canaries.after = values(1000, 9.0, 2.2);
            e.others.after = values(1000, 8.5, 2.2);
        }),
        None
    );
    // Or the canaries' did not, and everyone else's did.
    assert!(stopped(|e| e.others.after = values(1000, 9.0, 2.2)).is_some());
    assert!(stopped(|e| e.canaries.after = values(1000, 4.0, 7.0)).unwrap().contains("spread 3.18 times"));
    assert!(stopped(|e| e.canaries.after = values(1000, 4.0, 0.5)).unwrap().contains("as wide"));
    // From a constant to a spread nothing can be said of the spread; too few values say nothing at all.
    assert_eq!(stopped(|e| e.canaries.before = values(500, 4.0, 0.0)), None);
    assert_eq!(stopped(|e| e.canaries.after = values(99, 90.0, 2.0)), None);
    // Constants: any difference is one.
    let constant = |mean| {
        move |e: &mut Evidence| {
            e.canaries.before = values(500, 4.0, 0.0);
            e.canaries.after = values(500, mean, 0.0);
            e.others = Group::default();
        }
    };
    assert_eq!(stopped(constant(4.0)), None);
    assert!(stopped(constant(4.1)).is_some());
}

#[test]
fn a_clock_set_back_starts_the_soak_again() {
    let assignment = assignment("10%");
    let start = Rollout { since: after(1_000_000), ..Rollout::start(&assignment, START) };
    let again = start.step(&assignment, &healthy(), after(5)).unwrap();
    assert_eq!((again.phase, again.since), (RolloutPhase::Soaking, after(5)));
    assert!(again.step(&assignment, &healthy(), after(65)).is_some());
}

#[test]
fn an_operator_steers() {
    use RolloutAction::{Abort, Hold, Promote, Resume};
    let assignment = assignment("10%");
    let start = Rollout::start(&assignment, START);
    let act = |state: &Rollout, action| state.act(&assignment, action, after(9));
    let held = act(&start, Hold).unwrap();
    assert_eq!((held.phase, held.share), (RolloutPhase::Held, start.share));
    assert_eq!(held.step(&assignment, &healthy(), after(9999)), None);
    assert!(act(&held, Hold).unwrap_err().to_string().contains("the rollout is held"));
    let resumed = act(&held, Resume).unwrap();
    assert_eq!(resumed, Rollout { since: after(9), ..start.clone() });
    assert!(act(&resumed, Resume).is_err());
    let aborted = act(&resumed, Abort).unwrap();
    assert_eq!((aborted.phase, aborted.share), (RolloutPhase::Aborted, Share::NONE));
    assert!(act(&aborted, Abort).is_err());
    assert_eq!(act(&aborted, Resume).unwrap(), resumed);
    let promoted = act(&start, Promote).unwrap();
    assert_eq!((promoted.phase, promoted.share), (RolloutPhase::Done, Share::WHOLE));
    assert!(act(&promoted, Promote).is_err() && act(&promoted, Hold).is_err());
    assert_eq!(act(&promoted, Abort).unwrap().share, Share::NONE);
}

#[test]
fn without_bounds_the_server_does_nothing_by_itself() {
    let alone = |share| Assignment { promotion: None, ..assignment(share) };
    let part = Rollout::start(&alone("10%"), START);
    assert_eq!((part.phase, part.share.to_string()), (RolloutPhase::Done, "10%".into()));
    assert_eq!(Rollout::start(&alone("0%"), START).phase, RolloutPhase::Held);
    assert_eq!(Rollout::start(&assignment("100%"), START).phase, RolloutPhase::Done);
    let mut bad = healthy();
    bad.canaries.failed = 3;
    assert_eq!(part.step(&alone("10%"), &bad, after(9999)), None);
}

#[test]
fn the_state_survives_a_file() {
    let state = Rollout { phase: RolloutPhase::Stopped, ..Rollout::start(&assignment("10%"), after(7)) };
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(json, r#"{"share":"10%","phase":"stopped","reason":"","since":"1970-01-01T00:00:07Z"}"#);
    assert_eq!(serde_json::from_str::<Rollout>(&json).unwrap(), state);
}

proptest! {
    /// Whatever is reported, and whoever acts, the share stays within the assignment, and no camera gets more than
    /// its release or fallback.
    #[test]
    fn never_beyond_the_bounds(
        share in 0u16..=300,
        up_to in 300u16..=1000,
        steps in proptest::collection::vec((0u8..6, 0u64..4, 0u64..2000, 0u64..50, -9.0..9.0, 0i64..200), 0..30),
    ) {
        let [share, up_to] = [share, up_to].map(|n| Share::from_thousandths(n).unwrap());
        let promotion = Promotion { up_to, soak_s: 60, min_answers: 100, ..Promotion::USUAL };
        let assignment = Assignment { share, promotion: Some(promotion), ..assignment("0%") };
        let mut state = Rollout::start(&assignment, START);
        for (what, failed, answers, failures, mean, at) in steps {
            let actions = [RolloutAction::Hold, RolloutAction::Resume, RolloutAction::Abort, RolloutAction::Promote];
            let next = match actions.get(usize::from(what)) {
                Some(action) => state.act(&assignment, *action, after(at)).ok(),
                None => {
                    let mut evidence = healthy();
                    let moved = values(answers, mean, 2.0);
                    evidence.canaries = Group { failed, answers, failures, after: moved, ..evidence.canaries };
                    state.step(&assignment, &evidence, after(at))
                }
            };
            if let Some(next) = next {
                prop_assert!(next != state || what < 4, "a step that changes nothing is none");
                state = next;
            }
            prop_assert!([Share::NONE, share, up_to].contains(&state.share));
            let wanted = assignment.wanted("plaza-1", state.share).unwrap();
            prop_assert!([Some(assignment.release), assignment.fallback].contains(&wanted));
        }
    }
}
