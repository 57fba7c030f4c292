//! The encoder's side of TLS.

use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use ring::hmac;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::files::{Identity, PkiPaths, provider};
use super::peer::{PeerIdentity, Presented, Role};
use super::rejected::Rejected;
use super::revocation::Revocations;
use super::{TlsError, system_time, transport};

/// The encoder's side of TLS: its identity and the live revocation list.
#[derive(Debug, Clone)]
pub struct ServerTls {
    identity: Identity,
    revocations: Revocations,
    time: Arc<dyn TimeProvider>,
}

impl ServerTls {
    /// Loads and checks the files; the certificate must have role server and the revocation list must be
    /// signed by the CA.
    pub fn load(paths: &PkiPaths) -> Result<Self, TlsError> {
        Self::load_at(paths, system_time())
    }

    /// [`load`](Self::load) with another clock.
    pub fn load_at(paths: &PkiPaths, time: Arc<dyn TimeProvider>) -> Result<Self, TlsError> {
        let identity = Identity::load_files(paths)?;
        let role = identity.me().role;
        if role != Role::Server {
            return Err(TlsError::NotAServer { path: paths.cert.clone(), role });
        }
        let revocations = Revocations::load(&paths.crl, identity.authorities().clone())?;
        Ok(Self { identity, revocations, time })
    }

    /// Our own identity, for [`super::explain`].
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The live revocation list: call [`Revocations::watch`] once and keep its guard while serving.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The clock certificates are checked against.
    pub fn time(&self) -> &Arc<dyn TimeProvider> {
        &self.time
    }

    /// QUIC with client certificates required; a connection may have `max_streams` bidirectional streams open.
    pub fn server_config(&self, max_streams: u32) -> Result<quinn::ServerConfig, TlsError> {
        let crypto = QuicServerConfig::try_from(self.rustls_config()?)
            .map_err(|e| TlsError::Verifier(e.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport::server(max_streams));
        Ok(config)
    }

    /// TLS over TCP, with the same checks.
    pub fn tcp_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let mut config = self.rustls_config()?;
        config.alpn_protocols = vec![protocol::ALPN_TCP.to_vec()];
        Ok(config)
    }

    /// For the endpoint: connection IDs and stateless resets (RFC 9000 §10.3) that agents also understand
    /// from a server that was started again. The packet of a connection that the server does not know is
    /// then answered, and the agent connects anew at once; otherwise it would notice only by the silence.
    /// The key comes from the server's own.
    pub fn endpoint_config(&self) -> quinn::EndpointConfig {
        let own = hmac::Key::new(hmac::HMAC_SHA256, self.identity.key().secret_der());
        let reset = hmac::sign(&own, b"fth stateless reset");
        let reset = hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref());
        let mut config = quinn::EndpointConfig::new(Arc::new(reset));
        config.cid_generator(|| Box::new(transport::RandomIds)).min_reset_interval(transport::RESET_INTERVAL);
        config
    }

    /// The TLS half of [`server_config`](Self::server_config).
    pub fn rustls_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        self.rustls_config_for(self.identity.chain(), true)
    }

    /// With these certificates; `mandatory`: clients must have one, too.
    pub(super) fn rustls_config_for(
        &self,
        chain: Vec<CertificateDer<'static>>,
        mandatory: bool,
    ) -> Result<rustls::ServerConfig, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.identity.roots(), provider())
            .build()
            .map_err(|e| TlsError::Verifier(e.to_string()))?;
        let verifier = ClientVerifier {
            inner: verifier,
            mandatory,
            revocations: self.revocations.clone(),
            rejected: self.identity.rejected().clone(),
        };
        let mut config = rustls::ServerConfig::builder_with_details(provider(), self.time.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, self.identity.key())?;
        config.alpn_protocols = vec![protocol::ALPN.to_vec()];
        // A resumed session would skip the certificate checks, so nothing is kept to resume from.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// The usual checks, then the live revocation list, then the role.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    mandatory: bool,
    revocations: Revocations,
    rejected: Rejected,
}

impl ClientVerifier {
    fn admit(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), CertificateError> {
        for between in intermediates {
            let enroller =
                Presented::parse(between).map_err(|_| CertificateError::ApplicationVerificationFailure)?;
            if self.revocations.is_revoked(&enroller.serial) {
                return Err(CertificateError::Revoked);
            }
        }
        let peer = PeerIdentity::from_der(end_entity)
            .map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        if self.revocations.is_revoked(&peer.serial) {
            return Err(CertificateError::Revoked);
        }
        match peer.role {
            Role::Camera => Ok(()),
            // What stands on an encoder server makes certificates for cameras alone.
            Role::Operator if intermediates.is_empty() => Ok(()),
            Role::Operator | Role::Server | Role::Enroller => {
                Err(CertificateError::ApplicationVerificationFailure)
            }
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let checked = self.inner.verify_client_cert(end_entity, intermediates, now).and_then(|verified| {
            self.admit(end_entity, intermediates).map(|()| verified).map_err(Error::from)
        });
        checked.inspect_err(|_| self.rejected.note(end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
