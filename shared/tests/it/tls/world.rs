//! An encoder's and an agent's endpoint on loopback, each with its own clock.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use fixtures::Clock;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shared::tls::{Context, Identity, PkiPaths, ServerTls, client_config, explain, now};

/// 2030-06-01 12:00:00 UTC: the time in every test, unless a clock is set wrong.
pub const NOON: i64 = 1_906_545_600;
pub const DAY: i64 = 86_400;
pub const YEAR: i64 = 365 * DAY;
/// Valid for thirty days either side of noon.
pub const VALID: [i64; 2] = [NOON - 30 * DAY, NOON + 30 * DAY];
pub const LONG: [i64; 2] = [NOON - 10 * YEAR, NOON + 10 * YEAR];

pub struct Encoder {
    pub tls: ServerTls,
    pub endpoint: Endpoint,
}

impl Encoder {
    pub fn start(paths: &PkiPaths, clock: Arc<Clock>) -> Self {
        let tls = ServerTls::load_at(paths, clock).unwrap();
        let config = tls.server_config(8).unwrap();
        Self { tls, endpoint: Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap() }
    }

    /// An encoder that presents some other certificate, and lets anyone in.
    pub fn posing(paths: &PkiPaths, identity: &Path) -> Self {
        let mut encoder = Self::start(paths, Clock::at(NOON));
        let certs = CertificateDer::pem_file_iter(identity.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(identity.join("key.pem")).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs.map(Result::unwrap).collect(), key)
            .unwrap();
        tls.alpn_protocols = vec![protocol::ALPN.to_vec()];
        encoder.serve(tls);
        encoder
    }

    /// Serves with other TLS settings from now on.
    pub fn serve(&mut self, tls: rustls::ServerConfig) {
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        self.endpoint.set_server_config(Some(quinn::ServerConfig::with_crypto(Arc::new(crypto))));
    }

    pub fn explain(&self, error: &ConnectionError) -> String {
        let identity = self.tls.identity();
        explain(error, &Context { identity, peer: "10.0.0.7:5", now: now(&**self.tls.time()) })
    }
}

pub struct Agent {
    pub identity: Identity,
    pub clock: Arc<Clock>,
    pub endpoint: Endpoint,
}

impl Agent {
    pub fn new(dir: &Path, clock: Arc<Clock>) -> Self {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { identity: Identity::load(dir).unwrap(), clock, endpoint }
    }

    pub fn config(&self) -> ClientConfig {
        client_config(&self.identity, Some(self.clock.clone())).unwrap()
    }

    pub fn explain(&self, error: &ConnectionError) -> String {
        let now = now(&*self.clock);
        explain(error, &Context { identity: &self.identity, peer: "encoder.example:4433", now })
    }
}

/// Both ends of one attempt.
pub struct Attempt {
    pub agent: Result<Connection, ConnectionError>,
    pub encoder: Result<Connection, ConnectionError>,
}

impl Attempt {
    pub fn both(self) -> (Connection, Connection) {
        (self.agent.unwrap(), self.encoder.unwrap())
    }
}

/// One handshake. An agent whose handshake ended before the encoder refused it is answered with the refusal.
pub async fn attempt(agent: &Agent, config: ClientConfig, encoder: &Encoder, name: &str) -> Attempt {
    let address = encoder.endpoint.local_addr().unwrap();
    let connecting = agent.endpoint.connect_with(config, address, name).unwrap();
    let accept = async { encoder.endpoint.accept().await.unwrap().await };
    let (ours, theirs) = tokio::join!(connecting, accept);
    let ours = match (ours, &theirs) {
        (Ok(connection), Err(_)) => Err(connection.closed().await),
        (ours, _) => ours,
    };
    Attempt { agent: ours, encoder: theirs }
}

/// One refused handshake, explained by the agent and by the encoder.
pub async fn refused(agent: &Agent, encoder: &Encoder) -> (String, String) {
    let attempt = attempt(agent, agent.config(), encoder, "localhost").await;
    let (ours, theirs) = (attempt.agent.unwrap_err(), attempt.encoder.unwrap_err());
    (agent.explain(&ours), encoder.explain(&theirs))
}
