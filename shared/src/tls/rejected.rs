//! The certificate a handshake refused last, so that its error can name the names and dates in it.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use super::peer::Presented;

/// Written by the verifiers, read by `explain`. One slot: an error is explained right after it happened, and
/// a time bound in the error is compared with the certificate before it is believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Rejected(Arc<Mutex<Option<Presented>>>);

impl Rejected {
    pub(super) fn note(&self, certificate: &CertificateDer<'_>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Presented::parse(certificate).ok();
    }

    pub(super) fn last(&self) -> Option<Presented> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
