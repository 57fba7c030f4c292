//! From an encoder's name to a session.
//!
//! ```text
//! resolve ─► handshake of QUIC or TCP (mutual TLS) ─► Hello ─► Welcome ─► Session
//!     └───────────────┴──────────────────────────────────────────┴─► Failure: words, and how it may heal
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, Hello, SpaceId, StreamKind, Welcome, close};
use quinn::{Endpoint, VarInt};
use rustls::pki_types::ServerName;
use rustls::time_provider::TimeProvider;
use shared::tls::{self, Congestion, Floor, Identity, PeerError, PeerIdentity, TlsError};
use shared::wire::{MsgReader, WireError};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::failure::{Failure, Heals, by_person, diagnosed, never, refusal, soon};
use super::session::{Connected, Connection, Control, OnWire, Session, context};
use super::tcp;
use crate::config::{ServerAddr, Transport};

/// A name server that has not answered by then will be asked again.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);
/// Three lost first packets; then the next address or encoder deserves its turn.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Two small messages; an encoder that is that busy would not answer frames either.
const GREET_WITHIN: Duration = Duration::from_secs(5);
/// Head start of an address over the next one.
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried per encoder name.
const MOST_ADDRESSES: usize = 4;

/// How the agent introduces itself.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// Random per process.
    pub instance: u64,
    /// Name of the camera.
    pub camera: String,
}

/// Connects to encoders as one agent.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    folder: PathBuf,
    greeting: Greeting,
    /// Read again after a failure that new files could heal, and when it has expired.
    identity: Option<Identity>,
    clock: Arc<dyn TimeProvider>,
    /// The same clock, where it is to learn from encoders what time it is.
    floor: Option<Floor>,
    congestion: Option<Congestion>,
}

impl Dialer {
    /// Binds a socket; nothing is sent. `folder` holds the files of `identity`, to be read again when they were
    /// wrong.
    ///
    /// # Errors
    /// [`Failure`] if the system gives no socket.
    pub fn new(folder: &Path, identity: Identity, greeting: Greeting) -> Result<Self, Failure> {
        // Machines without IPv6 have no such socket.
        let endpoint = Endpoint::client(SocketAddr::from(([0_u16; 8], 0)))
            .or_else(|_| Endpoint::client(SocketAddr::from(([0_u8; 4], 0))))
            .map_err(|error| {
                never(format!("cannot open a UDP socket: {error}; check the system's limits"))
            })?;
        let (folder, identity, clock) = (folder.to_owned(), Some(identity), tls::system_time());
        Ok(Self { endpoint, folder, greeting, identity, clock, floor: None, congestion: None })
    }

    /// Sends by this rule; `None`: QUIC by its default, TCP by the system's.
    #[must_use]
    pub fn with_congestion(self, congestion: Option<Congestion>) -> Self {
        Self { congestion, ..self }
    }

    /// Another camera's dialer on the same socket, for programs that are many cameras.
    /// [`close`](Self::close) of one ends the connections of all.
    #[must_use]
    pub fn beside(&self, folder: &Path, identity: Identity, greeting: Greeting) -> Self {
        let (endpoint, clock) = (self.endpoint.clone(), Arc::clone(&self.clock));
        let (folder, identity, congestion) = (folder.to_owned(), Some(identity), self.congestion);
        let floor = self.floor.clone();
        Self { endpoint, folder, greeting, identity, clock, floor, congestion }
    }

    /// Holds certificates against a clock that does not go below what encoders said.
    #[must_use]
    pub fn with_floor(self, floor: Floor) -> Self {
        Self { clock: Arc::new(floor.clone()), floor: Some(floor), ..self }
    }

    /// Holds certificates against another clock than the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, floor: None, ..self }
    }

    /// Connects to `server` and greets it; `spaces` are those of the heads, `on_wire` the most frames wanted
    /// on the wire at once.
    ///
    /// # Errors
    /// [`Failure`] in plain words.
    pub async fn dial(
        &mut self,
        server: &ServerAddr,
        spaces: Vec<SpaceId>,
        on_wire: OnWire,
    ) -> Result<(Session, Control), Failure> {
        let now = tls::now(&*self.clock);
        let identity = match self.identity.take().filter(|identity| identity.is_valid_at(now)) {
            Some(identity) => identity,
            None => Identity::load(&self.folder).map_err(|e| by_person(format!("identity: {e}")))?,
        };
        let hello = self.hello(spaces);
        let peer = server.to_string();
        let result = async {
            let (connection, encoder) = self.connect(server, &identity, &peer).await?;
            let (server, clock, floor) = (peer.clone(), Arc::clone(&self.clock), self.floor.clone());
            let connected =
                Connected { server, connection, identity: identity.clone(), encoder, clock, floor };
            let (welcome, control) =
                timeout(GREET_WITHIN, greet(&connected, hello)).await.unwrap_or_else(|_| {
                    Err(soon(format!(
                        "{peer} accepted the connection but did not greet within {GREET_WITHIN:?}"
                    )))
                })?;
            Ok((Session::new(connected, welcome, on_wire), control))
        }
        .await;
        if result.as_ref().err().is_none_or(|failure: &Failure| failure.heals == Heals::Soon) {
            self.identity = Some(identity);
        }
        result
    }

    /// Ends all connections and waits a little until the farewells are sent.
    pub async fn close(&self) {
        /// One round trip on a bad link.
        const FAREWELL: Duration = Duration::from_secs(1);
        self.endpoint.close(VarInt::from_u32(close::OK), b"");
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }

    fn hello(&self, spaces: Vec<SpaceId>) -> AgentToEncoderMsg {
        AgentToEncoderMsg::Hello(Hello {
            version: protocol::VERSION,
            agent: concat!("edge-agent ", env!("CARGO_PKG_VERSION")).into(),
            instance: self.greeting.instance,
            camera: self.greeting.camera.clone(),
            spaces,
        })
    }

    /// Tries a name's addresses almost at once (RFC 8305): `localhost` is often an IPv6 address first, and an
    /// encoder that listens on IPv4 only would cost a timeout.
    async fn connect(
        &self,
        server: &ServerAddr,
        identity: &Identity,
        peer: &str,
    ) -> Result<(Connection, PeerIdentity), Failure> {
        let via = self.via(server.transport, identity).map_err(|e| by_person(format!("identity: {e}")))?;
        let mut attempts = JoinSet::new();
        for (index, address) in (0..).zip(resolve(server).await?) {
            let call = Call {
                via: via.clone(),
                address,
                host: server.host.clone(),
                peer: peer.to_owned(),
                identity: identity.clone(),
                clock: Arc::clone(&self.clock),
            };
            attempts.spawn(async move {
                tokio::time::sleep(STAGGER * index).await;
                call.connect().await
            });
        }
        let mut worst = soon(format!("{} has no address", server.host));
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(failure)) if failure.heals >= worst.heals => worst = failure,
                Ok(Err(_)) => {}
                Err(error) => worst = soon(format!("connecting failed: {error}; please report this")),
            }
        }
        Err(worst)
    }

    fn via(&self, transport: Transport, identity: &Identity) -> Result<Via, TlsError> {
        let clock = Some(Arc::clone(&self.clock));
        Ok(match transport {
            Transport::Quic => {
                let mut config = tls::client_config(identity, clock)?;
                config.transport_config(tls::client_transport(self.congestion.unwrap_or_default()));
                Via::Quic(self.endpoint.clone(), config)
            }
            Transport::Tcp => {
                let config = tls::client_tcp(identity, clock)?;
                Via::Tcp(TlsConnector::from(Arc::new(config)), self.congestion)
            }
        })
    }
}

/// What connects.
#[derive(Clone)]
enum Via {
    Quic(Endpoint, quinn::ClientConfig),
    Tcp(TlsConnector, Option<Congestion>),
}

/// One attempt at one address.
struct Call {
    via: Via,
    address: SocketAddr,
    host: String,
    peer: String,
    identity: Identity,
    clock: Arc<dyn TimeProvider>,
}

impl Call {
    async fn connect(self) -> Result<(Connection, PeerIdentity), Failure> {
        let Self { via, address, peer, .. } = &self;
        let (connecting, dropped): (Connecting<'_>, _) = match via.clone() {
            Via::Quic(endpoint, config) => (Box::pin(self.quic(endpoint, config)), "UDP"),
            Via::Tcp(connector, congestion) => (Box::pin(self.tcp(connector, congestion)), "TCP"),
        };
        timeout(CONNECT_WITHIN, connecting).await.unwrap_or_else(|_| {
            Err(soon(format!(
                "no answer from {peer} ({address}) for {} s. Check that the encoder runs, that address and port \
                 are right, and that no firewall drops {dropped}",
                CONNECT_WITHIN.as_secs()
            )))
        })
    }

    async fn quic(
        &self,
        endpoint: Endpoint,
        config: quinn::ClientConfig,
    ) -> Result<(Connection, PeerIdentity), Failure> {
        let connecting = endpoint
            .connect_with(config, self.address, &self.host)
            .map_err(|error| diagnosed(tls::diagnose(&error, &self.context())))?;
        let connection =
            connecting.await.map_err(|error| diagnosed(tls::diagnose(&error, &self.context())))?;
        let encoder = self.encoder(PeerIdentity::of(&connection))?;
        Ok((Connection::Quic(connection), encoder))
    }

    async fn tcp(
        &self,
        connector: TlsConnector,
        congestion: Option<Congestion>,
    ) -> Result<(Connection, PeerIdentity), Failure> {
        let Self { address, host, peer, .. } = self;
        let refused = |error: io::Error| {
            soon(format!(
                "cannot connect to {peer} ({address}): {error}. Check that the encoder listens on TCP (dc-encoder \
                 serve --tcp), and that address and port are right"
            ))
        };
        let (stream, round_trip) = tcp::open(*address, congestion).await.map_err(refused)?;
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            by_person(format!(
                "{host:?} is neither a host name nor an IP address. Write the encoder as HOST:PORT"
            ))
        })?;
        let stream = connector.connect(name, stream).await.map_err(|error| match tls::tls_error(&error) {
            Some(error) => diagnosed(tls::diagnose(error, &self.context())),
            None => refused(error),
        })?;
        let encoder = self.encoder(PeerIdentity::of_tls(stream.get_ref().1))?;
        Ok((Connection::Tcp(tcp::Connection::start(stream, round_trip)), encoder))
    }

    fn encoder(&self, identity: Result<PeerIdentity, PeerError>) -> Result<PeerIdentity, Failure> {
        identity.map_err(|error| by_person(format!("{}: {error}", self.peer)))
    }

    fn context(&self) -> tls::Context<'_> {
        context(&self.identity, &self.peer, &*self.clock)
    }
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<(Connection, PeerIdentity), Failure>> + Send + 'a>>;

async fn resolve(server: &ServerAddr) -> Result<Vec<SocketAddr>, Failure> {
    let host = &server.host;
    match timeout(RESOLVE_WITHIN, tokio::net::lookup_host((host.as_str(), server.port))).await {
        Ok(Ok(addresses)) => Ok(addresses.take(MOST_ADDRESSES).collect()),
        Ok(Err(error)) => Err(soon(format!(
            "cannot find the address of {host}: {error}. Check the spelling, and this machine's name server"
        ))),
        Err(_) => Err(soon(format!("the name server did not answer when asked for {host}"))),
    }
}

/// Says hello and reads the answer.
async fn greet(connected: &Connected, hello: AgentToEncoderMsg) -> Result<(Welcome, Control), Failure> {
    let peer = &connected.server;
    let failed = |error: WireError| {
        connected.failure().unwrap_or_else(|| soon(format!("{peer} broke off the greeting: {error}")))
    };
    let mut control = control(&connected.connection).await.map_err(failed)?;
    // A refusal may have arrived although the connection then closed under the writing.
    let said = control.say(&hello).await;
    match control.next().await {
        Ok(Some(EncoderToAgentMsg::Welcome(welcome))) if welcome.version != protocol::VERSION => {
            Err(never(format!(
                "{peer} speaks protocol version {}, this agent speaks {}. Update the older one",
                welcome.version,
                protocol::VERSION
            )))
        }
        Ok(Some(EncoderToAgentMsg::Welcome(welcome))) => Ok((welcome, control)),
        Ok(Some(EncoderToAgentMsg::Refused(refused))) => Err(refusal(peer, &refused)),
        Ok(Some(EncoderToAgentMsg::Goodbye(goodbye))) => Err(soon(format!("{peer} said goodbye: {goodbye}"))),
        Ok(
            Some(
                EncoderToAgentMsg::Pong(_) | EncoderToAgentMsg::KeyRing { .. } | EncoderToAgentMsg::Wanted(_),
            )
            | None,
        ) => Err(soon(format!("{peer} did not greet. Check that the port belongs to a dc-encoder"))),
        Err(error) => Err(failed(said.err().filter(|_| !error.is_connection_gone()).unwrap_or(error))),
    }
}

/// Opens the control stream, or takes what there is instead.
async fn control(connection: &Connection) -> Result<Control, WireError> {
    match connection {
        Connection::Quic(connection) => {
            let (mut send, recv) = connection.open_bi().await?;
            // The stream is new, so its priority can be set.
            let _ = send.set_priority(i32::MAX);
            send.write_all(&[StreamKind::Control as u8]).await?;
            Ok(Control::Quic { send, reader: MsgReader::new(recv, MAX_CONTROL_BYTES) })
        }
        Connection::Tcp(connection) => {
            let messages = connection.control().ok_or(WireError::AlreadyClosed)?;
            Ok(Control::Tcp { connection: connection.clone(), messages })
        }
    }
}
