//! What cameras report about their heads, and what follows for a rollout. In memory: after a restart of the server
//! cameras report again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{CameraHead, HeadReport, Moments, ReleaseId};
use shared::release::{Channel, Evidence, Group, Pattern};

use super::Given;

/// Most cameras that are remembered; beyond that the one not heard from for longest is forgotten.
const MAX_CAMERAS: usize = 4096;

/// Most heads of one camera that are remembered: more than a box runs. Reports of others are dropped.
const MAX_HEADS: usize = 64;

/// Which phase of a rollout something belongs to: the assignment's counter, and when the phase began.
pub(super) type Phase = (u64, Timestamp);

/// The cameras that reported, by name.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    cameras: BTreeMap<String, BTreeMap<(String, String), Known>>,
}

/// What one release did on one camera.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    answers: u64,
    failures: u64,
    values: Moments,
}

/// One head of one camera.
#[derive(Debug, Clone)]
struct Known {
    heard: Timestamp,
    report: HeadReport,
    /// Values of the release that was active before.
    before: Moments,
    /// The active release since it became active, restarts of the agent included.
    total: Counts,
    phase: Option<Phase>,
    /// `total` when the phase began.
    at_phase: Counts,
}

impl Counts {
    fn of(report: &HeadReport) -> Self {
        Self { answers: report.answers, failures: report.failures, values: report.values }
    }

    fn plus(&self, more: &Self) -> Self {
        Self {
            answers: self.answers.saturating_add(more.answers),
            failures: self.failures.saturating_add(more.failures),
            values: self.values.merged(&more.values),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            answers: self.answers.saturating_sub(earlier.answers),
            failures: self.failures.saturating_sub(earlier.failures),
            values: self.values.since(&earlier.values),
        }
    }

    /// Counters that went back are those of an agent that started again.
    fn goes_on_from(&self, earlier: &Self) -> bool {
        self.answers >= earlier.answers
            && self.failures >= earlier.failures
            && self.values.count >= earlier.values.count
    }
}

impl Known {
    fn first(report: HeadReport, phase: Option<Phase>, now: Timestamp) -> Self {
        let total = Counts::of(&report);
        let active_for =
            jiff::SignedDuration::from_millis(i64::try_from(report.active_for_ms).unwrap_or(i64::MAX));
        let began_before = |(_, since): Phase| active_for > now.duration_since(since);
        let at_phase = if phase.is_some_and(began_before) { total } else { Counts::default() };
        Self { heard: now, report, before: Moments::default(), total, phase, at_phase }
    }

    fn next(&self, report: HeadReport, phase: Option<Phase>, now: Timestamp) -> Self {
        let counts = Counts::of(&report);
        if report.active != self.report.active {
            // A gap between two releases is not what was there before.
            let before = if self.report.active.is_some() { self.total.values } else { self.before };
            return Self { heard: now, report, before, total: counts, phase, at_phase: Counts::default() };
        }
        let earlier = Counts::of(&self.report);
        let more = if counts.goes_on_from(&earlier) { counts.since(&earlier) } else { counts };
        let at_phase = if phase == self.phase { self.at_phase } else { self.total };
        Self { heard: now, report, before: self.before, total: self.total.plus(&more), phase, at_phase }
    }
}

impl Fleet {
    /// Takes a report. `phase`: of the rollout of the report's channel.
    pub(super) fn hear(&mut self, camera: &str, report: HeadReport, phase: Option<Phase>, now: Timestamp) {
        if !self.cameras.contains_key(camera) && self.cameras.len() >= MAX_CAMERAS {
            self.forget_quietest();
        }
        let heads = self.cameras.entry(camera.to_owned()).or_default();
        let key = (report.channel.clone(), report.head.clone());
        let next = match heads.get(&key) {
            Some(known) => known.next(report, phase, now),
            None if heads.len() >= MAX_HEADS => {
                tracing::debug!(camera, "reports on more than {MAX_HEADS} heads: one is dropped");
                return;
            }
            None => Known::first(report, phase, now),
        };
        heads.insert(key, next);
    }

    fn forget_quietest(&mut self) {
        let last = |heads: &BTreeMap<_, Known>| heads.values().map(|known| known.heard).max();
        let quietest = self.cameras.iter().min_by_key(|(_, heads)| last(heads)).map(|(name, _)| name.clone());
        if let Some(name) = quietest {
            self.cameras.remove(&name);
        }
    }

    /// What is known that speaks for or against an assignment.
    pub(super) fn evidence(&self, given: &Given) -> Evidence {
        let Given { assignment, rollout, .. } = given;
        let phase = (assignment.counter, rollout.since);
        let channel = assignment.channel.to_string();
        let mut evidence = Evidence::default();
        for (camera, heads) in &self.cameras {
            if !assignment.concerns(camera) {
                continue;
            }
            let canary = rollout.share.holds(&assignment.channel, camera);
            for known in heads.values().filter(|known| known.report.channel == channel) {
                if canary {
                    add_canary(&mut evidence.canaries, known, phase, assignment.release);
                } else {
                    add_other(&mut evidence.others, known, phase);
                }
            }
        }
        evidence
    }

    /// One line for each head of each camera that is meant, by name.
    pub(super) fn status<'a>(
        &'a self,
        channel: Option<&'a Channel>,
        cameras: Option<&'a Pattern>,
        now: Timestamp,
    ) -> impl Iterator<Item = CameraHead> + 'a {
        let channel = channel.map(Channel::to_string);
        let meant = move |camera: &str| cameras.is_none_or(|pattern| pattern.matches(camera));
        let lines = self.cameras.iter().filter(move |(camera, _)| meant(camera));
        lines.flat_map(move |(camera, heads)| {
            let channel = channel.clone();
            let meant =
                heads.values().filter(move |k| channel.as_ref().is_none_or(|c| *c == k.report.channel));
            meant.map(move |known| CameraHead {
                camera: camera.clone(),
                connected: false,
                heard_ms: u64::try_from(now.duration_since(known.heard).as_millis()).unwrap_or(0),
                report: known.report.clone(),
                before: known.before,
            })
        })
    }
}

/// A camera that was told of the present phase and answered in it. One with a pinned head has nothing to say.
fn add_canary(group: &mut Group, known: &Known, phase: Phase, release: ReleaseId) {
    let report = &known.report;
    if known.phase != Some(phase)
        || report.counter != phase.0
        || report.wanted != Some(release)
        || report.pinned
    {
        return;
    }
    group.cameras += 1;
    group.failed += u64::from(report.failed == Some(release));
    if report.active == Some(release) {
        let counts = known.total.since(&known.at_phase);
        group.answers += counts.answers;
        group.failures += counts.failures;
        group.before = group.before.merged(&known.before);
        group.after = group.after.merged(&counts.values);
    }
}

/// A camera that stays as it was: its values before and in the phase.
fn add_other(group: &mut Group, known: &Known, phase: Phase) {
    if known.phase != Some(phase) || known.report.counter != phase.0 {
        return;
    }
    let counts = known.total.since(&known.at_phase);
    group.cameras += 1;
    group.answers += counts.answers;
    group.failures += counts.failures;
    group.before = group.before.merged(&known.at_phase.values);
    group.after = group.after.merged(&counts.values);
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
