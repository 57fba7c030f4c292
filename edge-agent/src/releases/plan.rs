//! What is accepted, and what is to be done about it: no disk, no network, no clock.

use std::collections::BTreeMap;

use protocol::{ReleaseId, Wanted};
use shared::release::{Channel, Freshness, ReleaseError, Share, Trust, choose};

use super::state::{Digest, Followed, Slot, State, Until};

/// Most channels that are followed: far more than heads on a box.
const MOST_CHANNELS: usize = 64;

/// Why a [`Wanted`] was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows which channel it is of.
    #[error("an assignment was refused: {0}")]
    Unverified(ReleaseError),
    /// It was signed, and is not taken.
    #[error("{error}")]
    Of {
        /// The channel.
        channel: Channel,
        /// Why.
        error: Box<ReleaseError>,
    },
    /// There are too many.
    #[error("{channel}: more than {MOST_CHANNELS} channels name this camera: take it out of some")]
    TooMany {
        /// The channel.
        channel: Channel,
    },
}

/// Takes a wanted assignment into the state, if it is newer or its rollout has moved; `true`: something changed, and
/// must be on the disk before it is acted on.
///
/// # Errors
/// [`Refusal`]; nothing changed.
pub fn accept(state: &mut State, trust: &Trust, camera: &str, wanted: &Wanted) -> Result<bool, Refusal> {
    let signed = trust.open_assignment(&wanted.assignment).map_err(Refusal::Unverified)?;
    let assignment = &signed.assignment;
    let channel = assignment.channel.clone();
    let of = |error| Refusal::Of { channel: channel.clone(), error: Box::new(error) };
    // The protocol lets no more than the whole pass.
    let share = Share::from_thousandths(wanted.share).unwrap_or(Share::WHOLE);
    assignment.wanted(camera, share).map_err(of)?;
    let old = state.channels.get(&channel);
    if signed.freshness(old.map(|old| &old.seen)).map_err(of)? == Freshness::Same {
        let Some(followed) = state.channels.get_mut(&channel) else { return Ok(false) };
        let moved = followed.share != wanted.share;
        followed.share = wanted.share;
        return Ok(moved);
    }
    if old.is_none() && state.channels.len() >= MOST_CHANNELS {
        return Err(Refusal::TooMany { channel });
    }
    let superseded = old.map_or_else(Vec::new, |old| old.superseded.iter().map(|old| old.0).collect());
    assignment.check_not_superseded(&superseded).map_err(of)?;
    let mut next = Followed {
        seen: signed.seen(),
        release: Digest(assignment.release),
        document: String::from_utf8_lossy(&signed.document).into_owned(),
        share: wanted.share,
        superseded: superseded.into_iter().map(Digest).collect(),
    };
    if let Some(old) = old.filter(|old| old.release != next.release) {
        next.supersede(old.release.0);
    }
    next.superseded.retain(|old| *old != next.release);
    state.channels.insert(channel, next);
    Ok(true)
}

/// What a channel wants of one head here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// The channel that decides.
    pub channel: Channel,
    /// Counter of its newest accepted assignment.
    pub counter: u64,
    /// The release; `None`: none from a channel any more.
    pub release: Option<ReleaseId>,
}

/// What is wanted, by head. Heads whose assignment cannot be read any more (its key was revoked since) are left out:
/// they stay as they are.
#[must_use]
pub fn goals(state: &State, trust: &Trust, camera: &str) -> BTreeMap<String, Goal> {
    let mut open = Vec::new();
    let mut goals = BTreeMap::new();
    let mut unclear = Vec::new();
    for (channel, followed) in &state.channels {
        let share = Share::from_thousandths(followed.share).unwrap_or(Share::NONE);
        match trust.open_assignment(followed.document.as_bytes()) {
            Ok(signed) => {
                let goal = Goal { channel: channel.clone(), counter: followed.seen.counter, release: None };
                goals.insert(channel.head().to_owned(), goal);
                open.push((signed.assignment, share));
            }
            Err(_) => unclear.push(channel.head()),
        }
    }
    // Shares were checked when they were accepted.
    let chosen =
        choose(camera, open.iter().map(|(assignment, share)| (assignment, *share))).unwrap_or_default();
    for (head, (assignment, release)) in chosen {
        let (channel, counter) = (assignment.channel.clone(), assignment.counter);
        goals.insert(head.to_owned(), Goal { channel, counter, release: Some(release) });
    }
    goals.retain(|head, _| !unclear.contains(&head.as_str()));
    goals
}

/// Heads of which something else is wanted than before, or the same by a newer assignment.
pub fn changed<'a>(
    before: &'a BTreeMap<String, Goal>,
    now: &'a BTreeMap<String, Goal>,
) -> impl Iterator<Item = &'a str> {
    let gone = before.keys().filter(|head| !now.contains_key(*head));
    let changed = now.iter().filter(|(head, goal)| before.get(*head) != Some(goal)).map(|(head, _)| head);
    changed.chain(gone).map(String::as_str)
}

/// What to do about one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Get this release, and run it.
    Get(ReleaseId),
    /// Stop running the head: its channel gives it no more.
    Drop,
}

/// Holds a goal against what is there.
#[must_use]
pub fn step(slot: &Slot, goal: &Goal) -> Step {
    let active = slot.active.map(|active| active.0);
    match goal.release {
        _ if slot.pinned => Step::Keep,
        None if active.is_some() && slot.given_by.is_some() => Step::Drop,
        None => Step::Keep,
        Some(release) if active == Some(release) => Step::Keep,
        Some(release) if slot.failed.as_ref().is_some_and(|failed| failed.release.0 == release) => Step::Keep,
        Some(release) => Step::Get(release),
    }
}

/// Forgets failures that another wish made void, or that are worth another try; `true`: something changed.
pub fn forgive(state: &mut State, goals: &BTreeMap<String, Goal>, over: &[Until]) -> bool {
    let mut changed = false;
    for (head, slot) in &mut state.heads {
        let Some(failed) = &slot.failed else { continue };
        let wanted = goals.get(head).and_then(|goal| goal.release);
        let void = wanted.is_some_and(|wanted| wanted != failed.release.0);
        if void || over.contains(&failed.until) {
            slot.failed = None;
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::super::state::Failed;
    use super::*;
    use fixtures::Keys;
    use shared::release::Assignment;

    struct Operator {
        keys: Keys,
        trust: Trust,
    }

    impl Operator {
        fn new() -> Self {
            let keys = Keys::default();
            Self { trust: keys.trust(), keys }
        }

        fn wants(&self, counter: u64, release: u8, change: impl FnOnce(&mut Assignment)) -> Wanted {
            let mut share = 0;
            let assignment =
                self.keys.assign("count@stable", counter, ReleaseId([release; 32]), |assignment| {
                    change(assignment);
                    share = assignment.share.thousandths();
                });
            Wanted { assignment, share }
        }

        fn accept(&self, state: &mut State, wanted: &Wanted) -> Result<bool, String> {
            accept(state, &self.trust, "plaza-1", wanted).map_err(|refusal| refusal.to_string())
        }
    }

    #[test]
    fn counters_only_go_up_and_going_back_must_be_said() {
        let (operator, mut state) = (Operator::new(), State::default());
        let [first, second] = [operator.wants(1, 1, |_| {}), operator.wants(2, 2, |_| {})];
        assert_eq!(operator.accept(&mut state, &first), Ok(true));
        assert_eq!(operator.accept(&mut state, &first), Ok(false), "the same again");
        assert_eq!(operator.accept(&mut state, &second), Ok(true));
        let accepted = state.clone();
        assert!(operator.accept(&mut state, &first).unwrap_err().contains("it is a replay"));
        let back = operator.wants(3, 1, |_| {});
        assert!(operator.accept(&mut state, &back).unwrap_err().contains("was replaced before"));
        assert!(operator.accept(&mut state, &Operator::new().wants(4, 4, |_| {})).is_err(), "another's key");
        assert_eq!(state, accepted, "a refusal changes nothing");
        let back = operator.wants(3, 1, |assignment| assignment.rollback = true);
        assert_eq!(operator.accept(&mut state, &back), Ok(true));
        let goals = goals(&state, &operator.trust, "plaza-1");
        assert_eq!((goals["count"].counter, goals["count"].release), (3, Some(ReleaseId([1; 32]))));
    }

    #[test]
    fn the_server_moves_the_share_within_the_bounds_only() {
        let (operator, mut state) = (Operator::new(), State::default());
        let wanted = operator.wants(1, 1, |assignment| {
            assignment.share = Share::NONE;
            assignment.fallback = Some(ReleaseId([9; 32]));
        });
        operator.accept(&mut state, &wanted).unwrap();
        assert_eq!(goals(&state, &operator.trust, "plaza-1")["count"].release, Some(ReleaseId([9; 32])));
        let more = Wanted { share: 1000, ..wanted };
        assert!(operator.accept(&mut state, &more).unwrap_err().contains("allows 0%"));
    }

    #[test]
    fn a_newer_assignment_of_the_same_release_is_a_change() {
        let (operator, mut state) = (Operator::new(), State::default());
        let goals = |state: &State| goals(state, &operator.trust, "plaza-1");
        let none = goals(&state);
        operator.accept(&mut state, &operator.wants(1, 1, |_| {})).unwrap();
        let first = goals(&state);
        operator.accept(&mut state, &operator.wants(2, 1, |_| {})).unwrap();
        let second = goals(&state);
        let all = |before, now| changed(before, now).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all(&none, &first), ["count"]);
        assert_eq!(all(&first, &second), ["count"]);
        assert_eq!(all(&second, &none), ["count"]);
        assert!(all(&second, &second).is_empty());
    }

    #[test]
    fn a_head_is_got_kept_or_dropped() {
        let [one, two] = [1, 2].map(|n| ReleaseId([n; 32]));
        let channel: Channel = "count@stable".parse().unwrap();
        let goal = |release| Goal { channel: channel.clone(), counter: 1, release };
        let mut slot = Slot::default();
        assert_eq!(step(&slot, &goal(Some(one))), Step::Get(one));
        assert_eq!(step(&slot, &goal(None)), Step::Keep);
        slot.activate(one, Some(channel.clone()));
        assert_eq!(step(&slot, &goal(Some(one))), Step::Keep);
        assert_eq!(step(&slot, &goal(Some(two))), Step::Get(two));
        assert_eq!(step(&slot, &goal(None)), Step::Drop);
        let failed = Failed { release: Digest(two), error: "bad".into(), until: Until::Another };
        slot.failed = Some(failed);
        assert_eq!(step(&slot, &goal(Some(two))), Step::Keep, "not again");
        let mut state = State { heads: [("count".into(), slot.clone())].into(), ..State::default() };
        let goals = |release| BTreeMap::from([("count".to_owned(), goal(release))]);
        assert!(!forgive(&mut state, &goals(Some(two)), &[Until::Connection]));
        assert!(forgive(&mut state, &goals(Some(one)), &[]), "another one is wanted");
        slot.failed = None;
        slot.pinned = true;
        assert_eq!(step(&slot, &goal(Some(two))), Step::Keep);
        slot.pinned = false;
        slot.given_by = None;
        assert_eq!(step(&slot, &goal(None)), Step::Keep, "what a person installed is no channel's to take");
    }
}
