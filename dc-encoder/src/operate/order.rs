//! The next assignment of a channel, from what an operator wants and where the channel stands. Pure.

use protocol::ReleaseId;
use shared::release::{Assignment, Channel, FORMAT, Pattern, Promotion, Share};

use super::OperateError;

/// Where a channel stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its newest assignment, verified.
    pub assignment: Assignment,
    /// How far its rollout has come, as the registry says.
    pub share: Share,
}

impl Standing {
    /// What most cameras run: the release when it reached all of them, else what the others have.
    fn settled(&self) -> Option<ReleaseId> {
        let Assignment { release, fallback, .. } = self.assignment;
        if self.share == Share::WHOLE { Some(release) } else { fallback }
    }
}

/// What an operator wants to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// To where.
    pub channel: Channel,
    /// What.
    pub release: ReleaseId,
    /// For which cameras. `None`: as before, at first all.
    pub cameras: Option<Vec<Pattern>>,
    /// For how many of them.
    pub share: Share,
    /// How far the server may go by itself.
    pub promotion: Option<Promotion>,
}

impl Publication {
    /// The assignment that says so. Its fallback is what cameras run by now: what the others keep, and what all go back
    /// to when the rollout is stopped.
    #[must_use]
    pub fn after(self, standing: Option<&Standing>) -> Assignment {
        let Self { channel, release, cameras, share, promotion } = self;
        let before = standing.map(|standing| &standing.assignment);
        let settled = standing.and_then(Standing::settled).filter(|settled| *settled != release);
        // The same release again, for more cameras: the way back stays.
        let fallback = settled.or_else(|| before?.fallback).filter(|fallback| *fallback != release);
        let everywhere = || vec!["*".parse().expect("a star is a pattern")];
        let cameras =
            cameras.or_else(|| before.map(|before| before.cameras.clone())).unwrap_or_else(everywhere);
        Assignment {
            format: FORMAT,
            channel,
            counter: before.map_or(1, |before| before.counter.saturating_add(1)),
            release,
            fallback,
            cameras,
            share,
            promotion,
            rollback: false,
        }
    }
}

/// The assignment that goes back: to `to`, or to what the present one names as its fallback. That is signed; the
/// server's history is not.
///
/// # Errors
/// [`OperateError::NoWayBack`].
pub fn rollback(standing: &Standing, to: Option<ReleaseId>) -> Result<Assignment, OperateError> {
    let before = &standing.assignment;
    let no = |why| OperateError::NoWayBack { channel: before.channel.to_string(), why };
    let release = to.or(before.fallback).ok_or_else(|| no("its assignment names no release before"))?;
    if release == before.release && standing.share == Share::WHOLE {
        return Err(no("its cameras have this release"));
    }
    Ok(Assignment {
        counter: before.counter.saturating_add(1),
        release,
        fallback: None,
        share: Share::WHOLE,
        promotion: None,
        rollback: true,
        ..before.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ReleaseId = ReleaseId([1; 32]);
    const TWO: ReleaseId = ReleaseId([2; 32]);
    const THREE: ReleaseId = ReleaseId([3; 32]);

    fn publication(release: ReleaseId) -> Publication {
        let channel = "people-count@stable".parse().unwrap();
        Publication { channel, release, cameras: None, share: Share::WHOLE, promotion: None }
    }

    fn at(assignment: Assignment, share: &str) -> Standing {
        Standing { assignment, share: share.parse().unwrap() }
    }

    #[test]
    fn the_first_is_for_all_and_the_next_keeps_the_cameras() {
        let plaza: Vec<Pattern> = vec!["plaza-*".parse().unwrap()];
        let first = publication(ONE).after(None);
        assert_eq!((first.counter, first.fallback, first.cameras[0].to_string()), (1, None, "*".into()));
        let narrow = Publication { cameras: Some(plaza.clone()), ..publication(TWO) };
        let second = narrow.after(Some(&at(first, "100%")));
        assert_eq!((second.counter, second.fallback, &second.cameras), (2, Some(ONE), &plaza));
        let third = publication(THREE).after(Some(&at(second, "100%")));
        assert_eq!((third.counter, third.fallback, third.cameras), (3, Some(TWO), plaza));
    }

    #[test]
    fn the_fallback_is_what_cameras_run_and_never_a_stopped_canary() {
        let first = publication(ONE).after(None);
        let canary = Publication { share: "10%".parse().unwrap(), ..publication(TWO) };
        let canary = canary.after(Some(&at(first, "100%")));
        for share in ["0%", "10%"] {
            let next = publication(THREE).after(Some(&at(canary.clone(), share)));
            assert_eq!(next.fallback, Some(ONE), "at {share}");
        }
        let promoted = publication(THREE).after(Some(&at(canary.clone(), "100%")));
        assert_eq!(promoted.fallback, Some(TWO));
        let wider = publication(TWO).after(Some(&at(canary, "10%")));
        assert_eq!((wider.release, wider.fallback), (TWO, Some(ONE)), "the same release for all");
        let again = publication(TWO).after(Some(&at(wider, "100%")));
        assert_eq!(again.fallback, Some(ONE), "the way back stays");
    }

    #[test]
    fn going_back_is_a_new_assignment_that_says_so() {
        let first = publication(ONE).after(None);
        let nowhere = rollback(&at(first.clone(), "100%"), None).unwrap_err().to_string();
        assert!(nowhere.contains("--to"), "{nowhere}");
        let second = publication(TWO).after(Some(&at(first, "100%")));
        let back = rollback(&at(second.clone(), "100%"), None).unwrap();
        assert_eq!((back.counter, back.release, back.rollback, back.fallback), (3, ONE, true, None));
        assert_eq!(rollback(&at(second.clone(), "100%"), Some(THREE)).unwrap().release, THREE);
        assert!(rollback(&at(second, "100%"), Some(TWO)).is_err(), "they have it");
    }
}
