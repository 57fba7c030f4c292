//! The agent's side of TLS.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::files::{Identity, provider};
use super::peer::{PeerIdentity, Role};
use super::rejected::Rejected;
use super::{TlsError, system_time, transport};

/// The agent's side of QUIC: TLS 1.3, the server checked by CA, host name or IP, and role; no resumption and no
/// 0-RTT. `time` is the machine's clock when `None`.
pub fn client_config(
    identity: &Identity,
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<quinn::ClientConfig, TlsError> {
    quic_client(client_tls(identity, time)?)
}

/// The TLS half of [`client_config`], for a program that needs another ALPN.
pub fn client_tls(
    identity: &Identity,
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<rustls::ClientConfig, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(identity.roots(), provider())
        .build()
        .map_err(|e| TlsError::Verifier(e.to_string()))?;
    let verifier = ServerVerifier { inner: verifier, rejected: identity.rejected().clone() };
    let mut config = rustls::ClientConfig::builder_with_details(provider(), time.unwrap_or_else(system_time))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // the verifier is the usual one plus the role
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain(), identity.key())?;
    config.alpn_protocols = vec![protocol::ALPN.to_vec()];
    // A resumed session would skip the certificate checks, revocation among them.
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// TLS over TCP, with the same checks as [`client_config`].
pub fn client_tcp(
    identity: &Identity,
    time: Option<Arc<dyn TimeProvider>>,
) -> Result<rustls::ClientConfig, TlsError> {
    let mut config = client_tls(identity, time)?;
    config.alpn_protocols = vec![protocol::ALPN_TCP.to_vec()];
    Ok(config)
}

/// QUIC with our transport settings over the given TLS settings.
pub fn quic_client(tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, TlsError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| TlsError::Verifier(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport::client_transport(transport::Congestion::default()));
    Ok(config)
}

/// The usual checks, and the role: another device's certificate from the same CA must not pass for an encoder.
#[derive(Debug)]
struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    rejected: Rejected,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let checked = usual.and_then(|verified| match PeerIdentity::from_der(end_entity) {
            Ok(PeerIdentity { role: Role::Server, .. }) => Ok(verified),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
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
