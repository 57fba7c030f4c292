//! Why there is no session, in plain words, and whether that may heal.

use protocol::{RefuseCode, Refused};
use shared::tls::{Cause, Diagnosis};

/// Whether a failure may heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Heals {
    /// By itself: an encoder that restarts, a link that comes back.
    Soon,
    /// When a person or a clock acts: certificates, names, addresses.
    ByPerson,
    /// Not for this agent as it is: version, embedding space, camera, role.
    Never,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    /// What is wrong and what to do, naming the encoder.
    pub words: String,
    /// Whether it may heal.
    pub heals: Heals,
    /// The encoder's own code, if it refused.
    pub refused: Option<RefuseCode>,
}

impl Failure {
    /// A failure that is no refusal.
    #[must_use]
    pub fn new(words: String, heals: Heals) -> Self {
        Self { words, heals, refused: None }
    }
}

pub(super) fn refusal(peer: &str, refused: &Refused) -> Failure {
    let heals = match refused.code {
        // An agent that was killed and restarted is a duplicate until its old connection times out.
        RefuseCode::Duplicate | RefuseCode::Limit | RefuseCode::Draining => Heals::Soon,
        RefuseCode::Version
        | RefuseCode::Space
        | RefuseCode::Camera
        | RefuseCode::Role
        | RefuseCode::Malformed => Heals::Never,
    };
    Failure { words: format!("{peer} refused: {refused}"), heals, refused: Some(refused.code) }
}

pub(super) fn diagnosed(diagnosis: Diagnosis) -> Failure {
    let heals = match diagnosis.cause {
        Cause::Version | Cause::Role => Heals::Never,
        cause if cause.is_transient() => Heals::Soon,
        _ => Heals::ByPerson,
    };
    Failure::new(diagnosis.to_string(), heals)
}

pub(super) fn soon(words: String) -> Failure {
    Failure::new(words, Heals::Soon)
}

pub(super) fn by_person(words: String) -> Failure {
    Failure::new(words, Heals::ByPerson)
}

pub(super) fn never(words: String) -> Failure {
    Failure::new(words, Heals::Never)
}

#[cfg(test)]
mod tests {
    use protocol::close;

    use super::*;

    #[test]
    fn what_refusals_mean() {
        let heals = |code| refusal("encoder:4433", &Refused::new(code, "because")).heals;
        assert_eq!(heals(RefuseCode::Duplicate), Heals::Soon, "its own older connection may still be there");
        assert_eq!(heals(RefuseCode::Draining), Heals::Soon);
        for code in [RefuseCode::Version, RefuseCode::Space, RefuseCode::Camera, RefuseCode::Role] {
            assert_eq!(heals(code), Heals::Never);
        }
        let words =
            refusal("encoder:4433", &Refused::new(RefuseCode::Space, "heads read ab, this is cd")).words;
        assert!(words.starts_with("encoder:4433 refused: no head is in") && words.ends_with("this is cd"));
    }

    #[test]
    fn what_failed_connections_mean() {
        let heals = |cause| diagnosed(Diagnosis { cause, message: "m".into(), remedy: String::new() }).heals;
        assert_eq!(heals(Cause::Timeout), Heals::Soon);
        assert_eq!(heals(Cause::Version), Heals::Never);
        for cause in [
            Cause::Time,
            Cause::Authority,
            Cause::Name,
            Cause::Closed(close::REVOKED.into()),
            Cause::Closed(close::EXPIRED.into()),
        ] {
            assert_eq!(heals(cause), Heals::ByPerson, "{cause:?}");
        }
    }
}
