//! What sessions push to cameras: the ring, and the newest assignment of every channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{ReleaseId, Wanted};
use shared::release::{Assignment, Channel, Pattern, Rollout};

/// What a channel gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The assignment.
    pub assignment: Assignment,
    /// As signed.
    pub document: Vec<u8>,
    /// How far it has come.
    pub rollout: Rollout,
    /// Cameras that some assignment of the channel was for.
    pub audience: Vec<Pattern>,
}

/// All of it at one moment. A session that is late sees the newest only: what lay between is nobody's concern.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The key ring as signed, and its version.
    pub ring: Option<(u64, Vec<u8>)>,
    /// Channels whose assignment is valid by that ring.
    pub channels: BTreeMap<Channel, Arc<Given>>,
}

impl Given {
    /// As it goes to a camera. `None`: the camera was never meant.
    #[must_use]
    pub fn wanted(&self, camera: &str) -> Option<Wanted> {
        let concerns = self.assignment.concerns(camera) || self.audience.iter().any(|p| p.matches(camera));
        let share = self.rollout.share.thousandths();
        concerns.then(|| Wanted { assignment: self.document.clone(), share })
    }
}

impl Snapshot {
    /// Whether a channel may have told the camera to run the release.
    #[must_use]
    pub fn assigns(&self, camera: &str, release: ReleaseId) -> bool {
        let gives = |given: &Arc<Given>| {
            let assignment = &given.assignment;
            assignment.concerns(camera)
                && (assignment.release == release || assignment.fallback == Some(release))
        };
        self.channels.values().any(gives)
    }
}
