//! The certificates that handshakes refused lately, so that their errors can name the names and dates in them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;

use super::peer::Presented;

/// An error reaches its reader this soon after the verifier refused, on any machine that still works.
const WINDOW: Duration = Duration::from_secs(2);

/// How many are kept: beyond that it is a crowd, and no error can be told whose it is.
const KEPT: usize = 32;

/// Written by the verifiers, read by `explain`. QUIC gives the error as text, without the certificate.
#[derive(Debug, Clone, Default)]
pub(super) struct Rejected(Arc<Mutex<VecDeque<(Instant, Presented)>>>);

impl Rejected {
    pub(super) fn note(&self, certificate: &CertificateDer<'_>) {
        let Ok(presented) = Presented::parse(certificate) else { return };
        self.note_at(presented, Instant::now());
    }

    /// The certificate refused last, unless another was refused at nearly the same time: a message that names
    /// the wrong camera is worse than one that names none.
    pub(super) fn last(&self) -> Option<Presented> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, last) = kept.back()?;
        let same = kept.iter().filter(|(then, _)| at.duration_since(*then) < WINDOW).all(|(_, p)| p == last);
        same.then(|| last.clone())
    }

    fn note_at(&self, presented: Presented, at: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((at, presented));
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn presented(name: &str) -> Presented {
        Presented {
            name: name.into(),
            hosts: vec![],
            uris: vec![],
            serial: "01".into(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn nobody_is_named_for_anothers_refusal() {
        let (rejected, start) = (Rejected::default(), Instant::now());
        assert_eq!(rejected.last(), None);
        rejected.note_at(presented("a"), start);
        rejected.note_at(presented("a"), start);
        assert_eq!(rejected.last(), Some(presented("a")));
        rejected.note_at(presented("b"), start + WINDOW / 2);
        assert_eq!(rejected.last(), None);
        rejected.note_at(presented("b"), start + WINDOW * 2);
        assert_eq!(rejected.last(), Some(presented("b")));
        for _ in 0..2 * KEPT {
            rejected.note_at(presented("c"), start + WINDOW * 4);
        }
        assert_eq!(rejected.0.lock().unwrap().len(), KEPT);
    }
}
