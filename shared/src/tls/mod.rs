//! TLS identity: certificates, roles, and errors in plain words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::time_provider::TimeProvider;

/// What a certificate's holder may do, from its SAN URI `fth://role/ROLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A camera box: sends frames.
    Camera,
    /// A person or program that administers.
    Operator,
    /// An encoder server.
    Server,
}

/// Who a verified certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Camera name, for [`Role::Camera`] only.
    pub camera: Option<String>,
    /// Role.
    pub role: Role,
    /// Common name, for logs.
    pub name: String,
    /// Serial number, lowercase hex without leading zero bytes.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// Identity files that cannot be used; every message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(String);

impl PeerIdentity {
    /// The peer of an established connection.
    pub fn of(_connection: &quinn::Connection) -> Result<Self, IdentityError> {
        unimplemented!()
    }
}

/// Our own certificate, key and the CA we trust.
#[derive(Debug, Clone)]
pub struct Identity {}

impl Identity {
    /// Loads `ca.pem`, `cert.pem`, `key.pem` from a folder.
    pub fn load(_dir: &Path) -> Result<Self, IdentityError> {
        unimplemented!()
    }
    /// Who our own certificate says we are.
    pub fn me(&self) -> &PeerIdentity {
        unimplemented!()
    }
    /// Things that work but should be put right (a key others can read).
    pub fn warnings(&self) -> &[String] {
        &[]
    }
}

/// The agent's side of QUIC: TLS 1.3, CA and host name checked, the server's role checked, no resumption.
pub fn client_config(
    _identity: &Identity,
    _time: Option<Arc<dyn TimeProvider>>,
) -> Result<quinn::ClientConfig, IdentityError> {
    unimplemented!()
}

/// The files a server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiPaths {
    /// CA certificate.
    pub ca: PathBuf,
    /// Server certificate.
    pub cert: PathBuf,
    /// Server key.
    pub key: PathBuf,
    /// Revocation list, watched.
    pub crl: PathBuf,
}

impl PkiPaths {
    /// `DIR/server/{ca,cert,key}.pem` and `DIR/crl.pem`, or all four in `DIR` itself.
    pub fn in_dir(_dir: &Path) -> Self {
        unimplemented!()
    }
    /// An identity folder and a revocation list elsewhere.
    pub fn new(_identity: &Path, _crl: &Path) -> Self {
        unimplemented!()
    }
}

/// The encoder's side of TLS.
#[derive(Debug, Clone)]
pub struct ServerTls {}

impl ServerTls {
    /// Loads and checks the files; the revocation list must be signed by the CA.
    pub fn load(_paths: &PkiPaths) -> Result<Self, IdentityError> {
        unimplemented!()
    }
    /// [`load`](Self::load) with another clock.
    pub fn load_at(_paths: &PkiPaths, _time: Arc<dyn TimeProvider>) -> Result<Self, IdentityError> {
        unimplemented!()
    }
    /// Our own identity.
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }
    /// The QUIC configuration; `max_streams` bidirectional streams may be open per connection.
    pub fn server_config(&self, _max_streams: u32) -> Result<quinn::ServerConfig, IdentityError> {
        unimplemented!()
    }
    /// The live revocation list; call [`Revocations::watch`] once and keep the guard.
    pub fn revocations(&self) -> &Revocations {
        unimplemented!()
    }
}

/// The live revocation list. Clones share it.
#[derive(Debug, Clone)]
pub struct Revocations {}

impl Revocations {
    /// Whether the serial (lowercase hex) is revoked now.
    pub fn is_revoked(&self, _serial: &str) -> bool {
        unimplemented!()
    }
    /// Returns when the serial is revoked; at once if it already is. Cancel-safe.
    pub async fn revoked(&self, _serial: &str) {
        unimplemented!()
    }
    /// Follows the file in a tokio task until the guard is dropped.
    pub fn watch(&self) -> WatchGuard {
        unimplemented!()
    }
}

/// Stops the watcher when dropped.
#[derive(Debug)]
pub struct WatchGuard {}

/// A connection failure to explain.
#[derive(Debug, Clone, Copy)]
pub enum Failure<'a> {
    /// `Endpoint::connect` refused to start.
    Connect(&'a quinn::ConnectError),
    /// The handshake failed or the connection ended.
    Connection(&'a quinn::ConnectionError),
}

impl<'a> From<&'a quinn::ConnectError> for Failure<'a> {
    fn from(e: &'a quinn::ConnectError) -> Self {
        Self::Connect(e)
    }
}
impl<'a> From<&'a quinn::ConnectionError> for Failure<'a> {
    fn from(e: &'a quinn::ConnectionError) -> Self {
        Self::Connection(e)
    }
}

/// What [`explain`] knows besides the error.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Us: the role tells which side we are on.
    pub identity: &'a Identity,
    /// The other side as a person would name it: `encoder.example:4433`.
    pub peer: &'a str,
    /// This machine's clock.
    pub now: Timestamp,
}

/// The failure in plain words, with the remedy.
pub fn explain<'a>(_failure: impl Into<Failure<'a>>, _context: &Context<'_>) -> String {
    unimplemented!()
}
