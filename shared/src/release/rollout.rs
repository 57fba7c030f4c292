//! How far a rollout goes: pure decisions from what cameras report. The server keeps the state and asks again with
//! every report and every few seconds; `now` is its own clock, and only soaks are measured by it.
//!
//! ```text
//! start ─► Soaking ─── soaked, enough answers, no canary failed ──► Done (largest share)
//!             │  └─ failures, or values beyond the bounds ──► Stopped (share 0: everyone has the fallback)
//!          hold ▼ ▲ resume          resume ◄──────────────────┘      abort ──► Aborted (share 0)
//!             Held
//! ```

use jiff::Timestamp;
use protocol::{Moments, RolloutAction, RolloutPhase};
use serde::{Deserialize, Serialize};

use super::{Assignment, Promotion, ReleaseError, Share};

/// Where the rollout of one assignment stands. The registry keeps it beside the assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// How many of the cameras have the release.
    pub share: Share,
    /// What it does.
    #[serde(with = "phase_text")]
    pub phase: RolloutPhase,
    /// Why, for a person. Often empty.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a group of cameras reported, added up over its cameras.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Group {
    /// Cameras that were told and have reported on the release.
    pub cameras: u64,
    /// Those of them that refused it or went back by themselves.
    pub failed: u64,
    /// Frames answered since the present phase began ([`Rollout::since`]): after a resume, old failures do not count.
    pub answers: u64,
    /// Frames failed on since then.
    pub failures: u64,
    /// Values of the release they had before.
    pub before: Moments,
    /// Values since the phase began. Circular outputs have none, and are not compared.
    pub after: Moments,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Cameras of the share.
    pub canaries: Group,
    /// The assignment's other cameras: what happens to them is the weather, not the release.
    pub others: Group,
}

impl Rollout {
    /// A new assignment begins.
    #[must_use]
    pub fn start(assignment: &Assignment, now: Timestamp) -> Self {
        let share = assignment.share;
        let (phase, reason) = match &assignment.promotion {
            _ if share == Share::WHOLE || share == assignment.largest_share() && share > Share::NONE => {
                (RolloutPhase::Done, "")
            }
            Some(_) => (RolloutPhase::Soaking, ""),
            None => (RolloutPhase::Held, "the assignment gives no share"),
        };
        Self { share, phase, reason: reason.to_owned(), since: now }
    }

    /// The next state; `None`: it stays.
    #[must_use]
    pub fn step(&self, assignment: &Assignment, evidence: &Evidence, now: Timestamp) -> Option<Self> {
        let promotion = assignment.promotion.as_ref()?;
        if self.phase != RolloutPhase::Soaking {
            return None;
        }
        if let Some(reason) =
            failing(promotion, &evidence.canaries).or_else(|| departing(promotion, evidence))
        {
            return Some(Self { share: Share::NONE, phase: RolloutPhase::Stopped, reason, since: now });
        }
        let soaked = now.duration_since(self.since);
        if soaked.is_negative() {
            // The clock was set back: soak again rather than for ever.
            return Some(Self { since: now, ..self.clone() });
        }
        let canaries = &evidence.canaries;
        let ready = soaked.as_secs().cast_unsigned() >= promotion.soak_s
            && canaries.cameras > 0
            && canaries.failed == 0
            && canaries.answers >= promotion.min_answers;
        let share = assignment.largest_share();
        ready.then(|| Self { share, phase: RolloutPhase::Done, reason: String::new(), since: now })
    }

    /// What an operator's action makes of it.
    ///
    /// # Errors
    /// [`ReleaseError::Rollout`] when there is nothing to do.
    pub fn act(
        &self,
        assignment: &Assignment,
        action: RolloutAction,
        now: Timestamp,
    ) -> Result<Self, ReleaseError> {
        use RolloutPhase::{Aborted, Done, Held, Soaking, Stopped};
        let refuse = |remedy| Err(ReleaseError::Rollout { phase: self.phase.to_string(), remedy });
        let next = |share, phase, reason: &str| Self { share, phase, reason: reason.to_owned(), since: now };
        let by_operator = "an operator did it";
        match (action, self.phase) {
            (RolloutAction::Hold, Soaking) => Ok(next(self.share, Held, by_operator)),
            (RolloutAction::Hold, _) => refuse("only one that soaks can be held"),
            (RolloutAction::Resume, Held | Stopped | Aborted) => {
                Ok(Self { reason: String::new(), ..Self::start(assignment, now) })
            }
            (RolloutAction::Resume, _) => refuse("it goes on already"),
            (RolloutAction::Abort, Aborted) => refuse("every camera has the fallback already"),
            (RolloutAction::Abort, _) => Ok(next(Share::NONE, Aborted, by_operator)),
            (RolloutAction::Promote, Done) => refuse("it has the largest share the assignment allows"),
            (RolloutAction::Promote, _) => Ok(next(assignment.largest_share(), Done, by_operator)),
        }
    }
}

/// Too many failures, in words. A rate is held against at least `min_answers` frames, so that the first failed
/// frame does not count as all of them.
fn failing(promotion: &Promotion, canaries: &Group) -> Option<String> {
    let Group { cameras, failed, answers, failures, .. } = *canaries;
    let most = promotion.max_failures;
    if failed > 0 && failed as f64 > most * cameras as f64 {
        return Some(format!("{failed} of {cameras} canaries refused the release or went back"));
    }
    let frames = (answers + failures).max(promotion.min_answers);
    (failures > 0 && failures as f64 > most * frames as f64)
        .then(|| format!("{failures} of {} frames failed on the canaries", answers + failures))
}

/// Values that depart from before by more than other cameras' do, in words.
fn departing(promotion: &Promotion, evidence: &Evidence) -> Option<String> {
    let Evidence { canaries, others } = evidence;
    let enough = |group: &Group| group.before.count.min(group.after.count) >= promotion.min_answers.max(2);
    if !enough(canaries) {
        return None;
    }
    let others = enough(others).then_some(others);
    let moved = |group: &Group| group.after.mean - group.before.mean;
    // Both together: a quiet night before would make any day a departure.
    let deviation = f64::midpoint(canaries.before.variance(), canaries.after.variance()).sqrt();
    let shift = (moved(canaries) - others.map_or(0.0, moved)).abs();
    if shift > promotion.max_shift * deviation {
        let (before, after) = (canaries.before.mean, canaries.after.mean);
        return Some(format!("the canaries' mean value went from {before:.3} to {after:.3}"));
    }
    let spread = |group: &Group| {
        let (before, after) = (group.before.variance().sqrt(), group.after.variance().sqrt());
        (before > 0.0 && after > 0.0).then(|| after / before)
    };
    let beyond = spread(canaries)? / others.and_then(spread).unwrap_or(1.0);
    (beyond.max(beyond.recip()) > promotion.max_spread)
        .then(|| format!("the canaries' values spread {beyond:.2} times as wide as before"))
}

/// A phase as its word.
mod phase_text {
    use protocol::RolloutPhase;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    const ALL: [RolloutPhase; 5] = [
        RolloutPhase::Soaking,
        RolloutPhase::Held,
        RolloutPhase::Stopped,
        RolloutPhase::Aborted,
        RolloutPhase::Done,
    ];

    pub(super) fn serialize<S: Serializer>(phase: &RolloutPhase, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(phase)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RolloutPhase, D::Error> {
        let text = String::deserialize(from)?;
        let found = ALL.into_iter().find(|phase| phase.to_string() == text);
        found.ok_or_else(|| D::Error::custom(format!("{text:?} is no phase of a rollout")))
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
