//! Every captured frame ends exactly once: answered, or dropped for a reason.
//!
//! ```text
//! captured ─► Ticket ─► answered
//!                    └► dropped(reason)        (a ticket that is lost counts as dropped, too)
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{DropReason, RejectCode};

use crate::capture::LostReason;

/// Why a frame was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// A newer frame came before this one could be sent.
    Superseded,
    /// The source's bytes are no image; why, in words.
    Unreadable(String),
    /// Not answered within its deadline, given in words.
    Expired(String),
    /// No encoder was connected; why, in words.
    LinkDown(String),
    /// The connection broke while the frame was on its way; why, in words.
    LinkLost(String),
    /// The encoder did not encode it.
    Encoder(DropReason),
    /// The encoder refused it, with its words.
    Rejected(RejectCode, String),
    /// It could not be made ready for sending.
    Prepare(String),
    /// The reply was not what the protocol promises.
    BadReply(String),
    /// Lost while the output was not read for so long that only their count is known; in words.
    Unlisted(String),
    /// The agent was told to stop.
    Shutdown,
    /// A defect of this program: the frame's task ended without a result.
    Internal,
}

impl Dropped {
    /// What [`key`](Self::key) may be.
    pub const KEYS: [&str; 15] = [
        "superseded",
        "unreadable",
        "expired",
        "link_down",
        "link_lost",
        "encoder_superseded",
        "encoder_expired",
        "encoder_overloaded",
        "encoder_draining",
        "rejected",
        "prepare",
        "bad_reply",
        "unlisted",
        "shutdown",
        "internal",
    ];

    /// One word for the summary.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Unreadable(_) => "unreadable",
            Self::Expired(_) => "expired",
            Self::LinkDown(_) => "link_down",
            Self::LinkLost(_) => "link_lost",
            Self::Encoder(DropReason::Superseded) => "encoder_superseded",
            Self::Encoder(DropReason::Expired) => "encoder_expired",
            Self::Encoder(DropReason::Overloaded) => "encoder_overloaded",
            Self::Encoder(DropReason::Draining) => "encoder_draining",
            Self::Rejected(..) => "rejected",
            Self::Prepare(_) => "prepare",
            Self::BadReply(_) => "bad_reply",
            Self::Unlisted(_) => "unlisted",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    /// Whether the same frame may fare better at another time or encoder.
    #[must_use]
    pub const fn worth_another_try(&self) -> bool {
        use RejectCode::{Internal, PatchesMissing};
        matches!(self, Self::LinkLost(_) | Self::Encoder(_) | Self::Rejected(Internal | PatchesMissing, _))
    }
}

impl From<LostReason> for Dropped {
    fn from(reason: LostReason) -> Self {
        match reason {
            LostReason::Superseded => Self::Superseded,
            LostReason::Unreadable(words) => Self::Unreadable(words),
            LostReason::Shutdown => Self::Shutdown,
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => f.write_str("superseded: a newer frame took its place before it was sent"),
            Self::Unreadable(words) => write!(f, "unreadable: {words}"),
            Self::Expired(words) => write!(f, "expired: {words}"),
            Self::LinkDown(words) => write!(f, "link down: {words}"),
            Self::LinkLost(words) => write!(f, "link lost: {words}"),
            Self::Encoder(reason) => write!(f, "encoder: {reason}"),
            Self::Rejected(code, words) if words.is_empty() => write!(f, "rejected: {code}"),
            Self::Rejected(code, words) => write!(f, "rejected: {code}: {words}"),
            Self::Prepare(words) => write!(f, "not sent: {words}"),
            Self::BadReply(words) => write!(f, "bad reply: {words}"),
            Self::Unlisted(words) => write!(f, "unlisted: {words}"),
            Self::Shutdown => f.write_str("shutdown: the agent was told to stop"),
            Self::Internal => f.write_str("internal: the agent lost track of the frame, please report this"),
        }
    }
}

/// Counts of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Counts>>);

/// What a [`Ledger`] holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames the source gave.
    pub captured: u64,
    /// Frames whose embedding came back, or that needed none of their own.
    pub answered: u64,
    /// Those of them that showed nothing new, and were answered by the last embedding.
    pub reused: u64,
    /// Frames without one, by [`Dropped::key`].
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Frames dropped for any reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Frames neither answered nor dropped yet.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.captured - self.answered - self.dropped()
    }
}

/// `captured=600 answered=590 dropped=10 (superseded=7 link_lost=3)`; `reused=100` at the end, if there are any.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "captured={} answered={} dropped={}", self.captured, self.answered, self.dropped())?;
        let reasons: Vec<_> = self.dropped.iter().map(|(key, count)| format!("{key}={count}")).collect();
        if !reasons.is_empty() {
            write!(f, " ({})", reasons.join(" "))?;
        }
        if self.reused == 0 { Ok(()) } else { write!(f, " reused={}", self.reused) }
    }
}

impl Ledger {
    /// Counts a frame in.
    pub fn captured(&self) -> Ticket {
        self.update(|counts| counts.captured += 1);
        Ticket(Some(self.clone()))
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A frame that is counted in and not yet out.
#[derive(Debug)]
#[must_use = "a frame must end as answered or dropped"]
pub struct Ticket(Option<Ledger>);

impl Ticket {
    /// The embedding came back.
    pub fn answered(mut self) {
        if let Some(ledger) = self.0.take() {
            ledger.update(|counts| counts.answered += 1);
        }
    }

    /// The last embedding is as good as its own.
    pub fn reused(self) {
        if let Some(ledger) = &self.0 {
            ledger.update(|counts| counts.reused += 1);
        }
        self.answered();
    }

    /// It never will.
    pub fn dropped(mut self, reason: &Dropped) {
        if let Some(ledger) = self.0.take() {
            ledger.update(|counts| *counts.dropped.entry(reason.key()).or_default() += 1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.is_some() {
            Self(self.0.take()).dropped(&Dropped::Internal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_ends_once() {
        let ledger = Ledger::default();
        ledger.captured().answered();
        ledger.captured().dropped(&Dropped::Superseded);
        ledger.captured().dropped(&Dropped::LinkLost("gone".into()));
        drop(ledger.captured());
        let open = ledger.captured();
        assert_eq!(ledger.counts().open(), 1);
        open.answered();
        let counts = ledger.counts();
        assert_eq!(counts.open(), 0);
        assert_eq!(
            counts.to_string(),
            "captured=5 answered=2 dropped=3 (internal=1 link_lost=1 superseded=1)"
        );
    }

    #[test]
    fn a_reused_embedding_is_an_answer_of_its_own_kind() {
        let ledger = Ledger::default();
        ledger.captured().answered();
        ledger.captured().reused();
        assert_eq!(ledger.counts().open(), 0);
        assert_eq!(ledger.counts().to_string(), "captured=2 answered=2 dropped=0 reused=1");
    }

    #[test]
    fn every_key_is_listed() {
        let words = String::new;
        let here = [
            Dropped::Superseded,
            Dropped::Unreadable(words()),
            Dropped::Expired(words()),
            Dropped::LinkDown(words()),
            Dropped::LinkLost(words()),
        ];
        let encoder = DropReason::ALL.map(Dropped::Encoder);
        let last = [
            Dropped::Rejected(RejectCode::Internal, words()),
            Dropped::Prepare(words()),
            Dropped::BadReply(words()),
            Dropped::Unlisted(words()),
            Dropped::Shutdown,
            Dropped::Internal,
        ];
        let keys: Vec<_> = here.iter().chain(&encoder).chain(&last).map(Dropped::key).collect();
        assert_eq!(keys, Dropped::KEYS);
    }

    #[test]
    fn summary_without_drops_is_short() {
        let ledger = Ledger::default();
        ledger.captured().answered();
        assert_eq!(ledger.counts().to_string(), "captured=1 answered=1 dropped=0");
    }
}
