//! TLS identity: certificates, roles, revocation, and errors in plain words.
//!
//! ```text
//! agent: ca.pem cert.pem key.pem ─► Identity ─► client_config ═╗ TLS 1.3, ALPN fth/4
//!                                                              ║ CA, host name, role server ──►
//! encoder: server/{ca,cert,key}.pem, crl.pem ─► ServerTls ═════╝ CA, revocation, role camera|operator
//!                                     └─► Revocations (live) ─► sessions
//! ```
//! A box without a certificate enrols under another ALPN (`enroll`); [`Floor`] is the clock of boxes without a battery.
//!
//! A device is its certificate: role and camera are SAN URIs (`fth://role/camera`, `fth://camera/plaza-1`), and
//! [`PeerIdentity`] reads them. Sessions are never resumed and 0-RTT is off, so every connection passes every
//! check; [`expired`] ends it when the peer's certificate does. Agents consult no revocation list: a stolen *server* key is answered with a new CA or a short-lived
//! server certificate. [`explain`] turns a failed handshake into what is wrong and what to do.

mod authority;
mod client;
mod clock;
mod enroll;
mod expiry;
mod explain;
mod files;
mod peer;
mod rejected;
mod revocation;
mod server;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

pub use client::{client_config, client_tcp, client_tls, quic_client};
pub use clock::Floor;
pub use enroll::{Pinned, fingerprint, renew_config};
pub use expiry::{expired, look_again};
pub use explain::{Cause, Context, Diagnosis, Failure, diagnose, diagnose_expired, explain, tls_error};
pub use files::{Identity, IdentityError, PkiPaths};
pub use peer::{
    MAX_CAMERA_NAME, PeerError, PeerIdentity, Presented, Role, camera_uri, check_camera_name, serial_hex,
};
pub use revocation::{CrlError, Revocations, RevokedSet, WatchGuard};
pub use server::ServerTls;
pub use transport::{Congestion, IDLE_TIMEOUT, KEEP_ALIVE, client_transport};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Our own files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The revocation list.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// A camera's or operator's certificate where the encoder's belongs.
    #[error(
        "the certificate {} has role {role}: an encoder needs one from `dc-encoder pki issue --server HOST`",
        path.display()
    )]
    NotAServer {
        /// Certificate file.
        path: PathBuf,
        /// Its role.
        role: Role,
    },
    /// The TLS library refused the settings.
    #[error("TLS settings refused: {0}")]
    Rustls(#[from] rustls::Error),
    /// The TLS library refused the CA or the cipher suites.
    #[error("TLS settings refused: {0}")]
    Verifier(String),
}

/// This machine's clock, for certificates.
pub fn system_time() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

/// What a clock says now; the epoch when it cannot be read.
pub fn now(time: &dyn TimeProvider) -> Timestamp {
    time.current_time()
        .and_then(|t| Timestamp::from_second(i64::try_from(t.as_secs()).ok()?).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
