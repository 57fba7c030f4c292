//! How heads are doing, for the server.

use std::collections::{BTreeMap, BTreeSet};

use protocol::HeadReport;
use protocol::limits::clip;

use super::Keeper;
use crate::heads::Loaded;
use crate::releases::plan::Goal;

impl Keeper {
    /// Reports every head there is, was, or should be. What the queue has no room for comes first in the next round.
    pub(super) fn report_all(&mut self) {
        if self.session.is_none() {
            return;
        }
        let goals = self.goals();
        let names = self.names(&goals);
        let (earlier, later): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| *name < self.unreported);
        self.unreported.clear();
        for head in later.into_iter().chain(earlier) {
            if self.reports.try_send(self.head_report(&head, &goals)).is_err() {
                self.unreported = head;
                return;
            }
        }
    }

    /// Reports one head. Without a connection nobody listens; the next one gets all reports.
    pub(super) fn report(&self, head: &str) {
        if self.session.is_some() {
            // A full queue is drained by a slow link, and reports come again.
            let _ = self.reports.try_send(self.head_report(head, &self.goals()));
        }
    }

    /// Every head there is, was, or should be.
    pub(super) fn names(&self, goals: &BTreeMap<String, Goal>) -> BTreeSet<String> {
        let fixed = self.fixed.iter().map(|fixed| &fixed.info.name);
        goals.keys().chain(self.state.heads.keys()).chain(fixed).cloned().collect()
    }

    pub(super) fn head_report(&self, head: &str, goals: &BTreeMap<String, Goal>) -> HeadReport {
        let slot = self.state.heads.get(head).cloned().unwrap_or_default();
        let fixed = self.fixed.iter().find(|fixed| fixed.info.name == head);
        let active: Option<&Loaded> = fixed.or_else(|| self.loaded.get(head)).map(|loaded| &**loaded);
        let goal = goals.get(head);
        let wanted = goal.and_then(|goal| goal.release);
        let overruled = wanted.is_some() && wanted != active.map(|loaded| loaded.release);
        let error = match (&slot.failed, fixed) {
            (_, Some(_)) if overruled => {
                "the agent was started with this head: pushes do not replace it".to_owned()
            }
            (Some(failed), _) => failed.error.clone(),
            _ if slot.pinned && overruled => {
                "pinned on the box: `edge-agent heads unpin` lets pushes in".to_owned()
            }
            _ => [head, ""].iter().find_map(|name| self.complaints.get(*name)).cloned().unwrap_or_default(),
        };
        let counts = active.map(|loaded| loaded.tally.counts()).unwrap_or_default();
        let age = active.map_or(0, |loaded| loaded.tally.age().as_millis());
        HeadReport {
            head: head.to_owned(),
            channel: goal.map_or_else(String::new, |goal| goal.channel.to_string()),
            counter: goal.map_or(0, |goal| goal.counter),
            wanted,
            active: active.map(|loaded| loaded.release),
            pinned: slot.pinned || fixed.is_some(),
            failed: slot.failed.map(|failed| failed.release.0),
            error: clip(&error),
            active_for_ms: u64::try_from(age).unwrap_or(u64::MAX),
            answers: counts.answers,
            failures: counts.failures,
            values: counts.values,
            flops: active.map_or(0, |loaded| loaded.flops),
        }
    }
}
