//! Two channels of one head may want the same camera: one rule decides, on the server and on the box.

use std::collections::BTreeMap;

use protocol::ReleaseId;

use super::{Assignment, ReleaseError, Share};

/// For each head that a camera should run, the release, and the assignment it comes from. `assignments`: the newest
/// of each channel, with the share its rollout has come to.
///
/// Of several channels of one head, the one with the most specific matching pattern counts (a whole name first);
/// then a track that is not `stable`, since it was meant for fewer; then the track's name. One that has nothing for
/// the camera (outside its share, without a fallback) leaves it to the next.
///
/// # Errors
/// [`ReleaseError::BeyondShare`] when a share is more than its assignment allows.
pub fn choose<'a>(
    camera: &str,
    assignments: impl IntoIterator<Item = (&'a Assignment, Share)>,
) -> Result<BTreeMap<&'a str, (&'a Assignment, ReleaseId)>, ReleaseError> {
    let mut concerned: Vec<_> = assignments.into_iter().filter(|(a, _)| a.concerns(camera)).collect();
    concerned.sort_by_key(|(assignment, _)| rank(camera, assignment));
    let mut chosen = BTreeMap::new();
    for (assignment, share) in concerned {
        if let Some(release) = assignment.wanted(camera, share)? {
            chosen.entry(assignment.channel.head()).or_insert((assignment, release));
        }
    }
    Ok(chosen)
}

/// Least first.
fn rank<'a>(camera: &str, assignment: &'a Assignment) -> (std::cmp::Reverse<usize>, bool, &'a str) {
    let matching = assignment.cameras.iter().filter(|pattern| pattern.matches(camera));
    let specificity = matching.map(super::Pattern::specificity).max().unwrap_or(0);
    let track = assignment.channel.track();
    (std::cmp::Reverse(specificity), track == "stable", track)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::FORMAT;

    fn assignment(channel: &str, cameras: &[&str]) -> Assignment {
        Assignment {
            format: FORMAT,
            channel: channel.parse().unwrap(),
            counter: 1,
            release: ReleaseId([1; 32]),
            fallback: None,
            cameras: cameras.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            share: Share::WHOLE,
            promotion: None,
            rollback: false,
        }
    }

    #[test]
    fn the_more_specific_then_the_less_stable_counts() {
        let all = [
            assignment("count@stable", &["*"]),
            assignment("count@canary", &["plaza-*", "gate"]),
            assignment("count@beta", &["plaza-*"]),
            assignment("hour@stable", &["plaza-1", "gate"]),
            assignment("hour@canary", &["*"]),
        ];
        let tracks = |camera: &str| -> Vec<String> {
            let whole = all.iter().map(|a| (a, Share::WHOLE));
            let forwards = choose(camera, whole.clone()).unwrap();
            assert_eq!(choose(camera, whole.rev()).unwrap(), forwards, "the order does not matter");
            forwards.values().map(|(assignment, _)| assignment.channel.to_string()).collect()
        };
        assert_eq!(tracks("plaza-1"), ["count@beta", "hour@stable"]);
        assert_eq!(tracks("gate"), ["count@canary", "hour@stable"]);
        assert_eq!(tracks("roof"), ["count@stable", "hour@canary"]);
        assert!(choose("roof", [(&assignment("count@stable", &[]), Share::WHOLE)]).unwrap().is_empty());
    }

    #[test]
    fn a_channel_with_nothing_for_the_camera_leaves_it_to_the_next() {
        let (stable, canary) = (assignment("count@stable", &["*"]), assignment("count@canary", &["plaza-*"]));
        let track = |canary: &Assignment, share| {
            let chosen = choose("plaza-1", [(&stable, Share::WHOLE), (canary, share)]).unwrap();
            chosen["count"].0.channel.track().to_owned()
        };
        assert_eq!(track(&canary, Share::WHOLE), "canary");
        assert_eq!(track(&canary, Share::NONE), "stable");
        let back = Assignment { fallback: Some(ReleaseId([2; 32])), ..canary.clone() };
        assert_eq!(track(&back, Share::NONE), "canary");
        let small = Assignment { share: Share::NONE, ..canary };
        assert!(choose("plaza-1", [(&small, Share::WHOLE)]).is_err(), "more than was signed");
    }
}
