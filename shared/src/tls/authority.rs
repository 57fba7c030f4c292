//! The CA's public keys: what it signed, beyond the handshake.

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::provider;

/// The CA certificates' names and public keys.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    known: Vec<Authority>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

#[derive(Debug, Clone)]
struct Authority {
    /// DER of the subject.
    subject: Vec<u8>,
    /// Contents of the public key's bit string.
    public_key: Vec<u8>,
}

impl Authorities {
    pub(super) fn new(certs: &[CertificateDer<'_>]) -> Result<Self, String> {
        let known = certs
            .iter()
            .map(|der| {
                let (_, cert) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
                Ok(Authority {
                    subject: cert.subject().as_raw().to_vec(),
                    public_key: cert.public_key().subject_public_key.data.to_vec(),
                })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { known, algorithms: provider().signature_verification_algorithms.all })
    }

    /// Whether this one of the CAs signed the certificate; time and purpose are the handshake's concern.
    pub(super) fn signed_by(der: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
        let Ok(alone) = Self::new(std::slice::from_ref(ca)) else { return false };
        X509Certificate::from_der(der).is_ok_and(|(_, cert)| {
            let signature = &cert.signature_value.data;
            alone.verify(cert.issuer().as_raw(), cert.tbs_certificate.as_ref(), signature)
        })
    }

    /// Whether a CA of this name (DER) made the signature over `message`. Every algorithm is tried: each of
    /// them needs the CA's private key, and a key of another kind does not parse.
    pub(super) fn verify(&self, issuer: &[u8], message: &[u8], signature: &[u8]) -> bool {
        self.known.iter().filter(|a| a.subject == issuer).any(|authority| {
            self.algorithms
                .iter()
                .any(|alg| alg.verify_signature(&authority.public_key, message, signature).is_ok())
        })
    }
}
