//! TLS of enrolment: a box without a certificate, and a server that it knows by its authority's hash alone.
//!
//! ```text
//! box: token's hash ─► Pinned ═╗ TLS 1.3, ALPN fth-enroll/1, no client certificate
//!                              ║ server's chain, its authority's certificate last ─► hash, then the usual checks
//! ServerTls::enroll_config ════╝ a client certificate is not asked for twice: who has one renews it
//! ```
//! The hash is checked within the handshake, so a token is never sent to anyone but the server that made it.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use super::client::{client_tls, quic_client};
use super::files::{Identity, provider};
use super::peer::{PeerIdentity, Presented, Role};
use super::{ServerTls, TlsError, transport};

/// One request, on one stream.
const STREAMS: u32 = 1;

/// SHA-256 of a certificate (DER): what a token pins an authority by.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The TLS settings with which a box renews the certificate that it has.
///
/// # Errors
/// As [`client_tls`].
pub fn renew_config(
    identity: &Identity,
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<quinn::ClientConfig, TlsError> {
    let mut config = client_tls(identity, time)?;
    config.alpn_protocols = vec![protocol::ALPN_ENROLL.to_vec()];
    quic_client(config)
}

impl ServerTls {
    /// QUIC for enrolment: clients may come without a certificate, and one that they have must be good. The
    /// authority's certificate is sent along, for those who know only its hash.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn enroll_config(&self) -> Result<quinn::ServerConfig, TlsError> {
        let mut chain = self.identity().chain();
        chain.push(self.identity().authority().clone());
        let mut config = self.rustls_config_for(chain, false)?;
        config.alpn_protocols = vec![protocol::ALPN_ENROLL.to_vec()];
        let crypto = QuicServerConfig::try_from(config).map_err(|e| TlsError::Verifier(e.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport::server(STREAMS));
        Ok(config)
    }
}

/// An authority that is known by its hash, and what became of the last handshake.
#[derive(Debug, Clone)]
pub struct Pinned {
    pin: [u8; 32],
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    authority: Option<CertificateDer<'static>>,
    why: Option<String>,
}

impl Pinned {
    /// Trusts the authority whose certificate has this [`fingerprint`].
    #[must_use]
    pub fn new(pin: [u8; 32]) -> Self {
        Self { pin, outcome: Arc::default() }
    }

    /// QUIC without a certificate of our own.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn config(&self, time: Arc<dyn TimeProvider>) -> Result<quinn::ClientConfig, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // the verifier is the usual one, with roots that the hash chose
            .with_custom_certificate_verifier(Arc::new(self.clone()))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol::ALPN_ENROLL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        quic_client(config)
    }

    /// The authority's certificate, once a handshake was good.
    #[must_use]
    pub fn authority(&self) -> Option<CertificateDer<'static>> {
        self.lock().authority.clone()
    }

    /// Why the last handshake refused the server, in words.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.lock().why.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, words: String, error: Error) -> Error {
        self.lock().why = Some(words);
        error
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|der| fingerprint(der) == self.pin).ok_or_else(|| {
            self.refuse(
                "it is not the server that made the token: its authority is another one. Someone may be in \
                 between, or the address leads to another machine; the token was not sent"
                    .to_owned(),
                CertificateError::UnknownIssuer.into(),
            )
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| self.refuse(in_words(&error, end_entity), error))?;
        match PeerIdentity::from_der(end_entity) {
            Ok(PeerIdentity { role: Role::Server, .. }) => {
                self.lock().authority = Some(authority.clone().into_owned());
                Ok(verified)
            }
            _ => Err(self.refuse(
                "its certificate is not an encoder's".to_owned(),
                CertificateError::ApplicationVerificationFailure.into(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What the usual checks refused. A wrong clock is the usual reason on a new box, so it is named.
fn in_words(error: &Error, certificate: &CertificateDer<'_>) -> String {
    let day = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let unix = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        day(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
    };
    let Ok(presented) = Presented::parse(certificate) else { return error.to_string() };
    let (from, until) = (day(presented.not_before), day(presented.not_after));
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, .. }) => format!(
            "its certificate is valid from {from}, and this machine's clock says {}: the clock is wrong, set it \
             with `timedatectl set-ntp true`",
            unix(time)
        ),
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, .. }) => format!(
            "its certificate was valid until {until}, and this machine's clock says {}: set the clock with \
             `timedatectl set-ntp true` if it is wrong, else the server needs a new certificate: `dc-encoder pki \
             issue --server`",
            unix(time)
        ),
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => format!(
            "its certificate is for {}: make the token for one of these names (`dc-encoder enroll create --server`)",
            presented.hosts.join(", ")
        ),
        _ => error.to_string(),
    }
}
