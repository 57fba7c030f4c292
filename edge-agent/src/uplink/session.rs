//! One connection to one encoder: connect, greet, and what was agreed.
//!
//! ```text
//! resolve ─► QUIC handshake (mutual TLS) ─► control stream: Hello ─► Welcome ─► Session
//!     └───────────────┴──────────────────────────────────────────┴─► Failure: words, and how it may heal
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, Hello, RefuseCode, Refused, SpaceId, StreamKind, Welcome, close,
};
use quinn::{ConnectionError, Endpoint, SendStream, VarInt};
use shared::tls::{self, Cause, Context, Diagnosis, Identity};
use shared::wire::{MsgReader, WireError, write_msg};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::ServerAddr;
use crate::ledger::Dropped;

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

/// Whether a failure may heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Heals {
    /// By itself: an encoder that restarts, a link that comes back.
    Soon,
    /// When a person or a clock acts: certificates, names, addresses.
    ByPerson,
    /// Not for this agent as it is: version, embedding space, camera, role.
    Never,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    /// What is wrong and what to do, naming the encoder.
    pub words: String,
    /// Whether it may heal.
    pub heals: Heals,
    /// The encoder's own code, if it refused.
    pub refused: Option<RefuseCode>,
}

impl Failure {
    /// A failure that is no refusal.
    #[must_use]
    pub fn new(words: String, heals: Heals) -> Self {
        Self { words, heals, refused: None }
    }
}

/// Connects to encoders as one agent.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    folder: PathBuf,
    greeting: Greeting,
    /// Read again after a failure that new files could heal.
    identity: Option<Identity>,
}

/// A connection with a [`Welcome`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: String,
    connection: quinn::Connection,
    identity: Identity,
    welcome: Welcome,
    slots: Arc<Semaphore>,
    most: u32,
    /// Why this side ended it.
    ended: OnceLock<String>,
}

/// Both directions of the control stream.
#[derive(Debug)]
pub struct Control {
    /// Pings and farewell.
    pub send: SendStream,
    /// Pongs and farewell.
    pub reader: MsgReader,
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
        Ok(Self { endpoint, folder: folder.to_owned(), greeting, identity: Some(identity) })
    }

    /// Connects to `server` and greets it; `spaces` are those of the heads, `in_flight` the most frames wanted
    /// on the wire at once.
    ///
    /// # Errors
    /// [`Failure`] in plain words.
    pub async fn dial(
        &mut self,
        server: &ServerAddr,
        spaces: Vec<SpaceId>,
        in_flight: u16,
    ) -> Result<(Session, Control), Failure> {
        let identity = match self.identity.take() {
            Some(identity) => identity,
            None => Identity::load(&self.folder).map_err(|e| by_person(format!("identity: {e}")))?,
        };
        let hello = self.hello(spaces);
        let peer = server.to_string();
        let result = async {
            let connection = self.connect(server, &identity, &peer).await?;
            let caller = Caller { peer: &peer, identity: &identity, connection: &connection };
            let (welcome, control) =
                timeout(GREET_WITHIN, caller.greet(hello)).await.unwrap_or_else(|_| {
                    Err(soon(format!(
                        "{peer} accepted the connection but did not greet within {GREET_WITHIN:?}"
                    )))
                })?;
            Ok((Session::new(peer.clone(), connection, identity.clone(), welcome, in_flight), control))
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
    ) -> Result<quinn::Connection, Failure> {
        let config = tls::client_config(identity, None).map_err(|e| by_person(format!("identity: {e}")))?;
        let mut attempts = JoinSet::new();
        for (index, address) in (0..).zip(resolve(server).await?) {
            let call = Call {
                endpoint: self.endpoint.clone(),
                config: config.clone(),
                address,
                host: server.host.clone(),
                peer: peer.to_owned(),
                identity: identity.clone(),
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
}

/// One attempt at one address.
struct Call {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    host: String,
    peer: String,
    identity: Identity,
}

impl Call {
    async fn connect(self) -> Result<quinn::Connection, Failure> {
        let Self { endpoint, config, address, host, peer, identity } = self;
        let context = || context(&identity, &peer);
        let connecting = endpoint
            .connect_with(config, address, &host)
            .map_err(|error| diagnosed(tls::diagnose(&error, &context())))?;
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(diagnosed(tls::diagnose(&error, &context()))),
            Err(_) => Err(soon(format!(
                "no answer from {peer} ({address}) for {} s. Check that the encoder runs, that address and port \
                 are right, and that no firewall drops UDP",
                CONNECT_WITHIN.as_secs()
            ))),
        }
    }
}

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

/// An established connection, not yet greeted.
struct Caller<'a> {
    peer: &'a str,
    identity: &'a Identity,
    connection: &'a quinn::Connection,
}

impl Caller<'_> {
    async fn greet(&self, hello: AgentToEncoderMsg) -> Result<(Welcome, Control), Failure> {
        let peer = self.peer;
        let (mut send, recv) = self.connection.open_bi().await.map_err(|error| self.failed(error.into()))?;
        // The stream is new, so its priority can be set.
        let _ = send.set_priority(i32::MAX);
        let mut reader = MsgReader::new(recv, MAX_CONTROL_BYTES);
        let said = async {
            send.write_all(&[StreamKind::Control as u8]).await?;
            write_msg(&mut send, &hello, MAX_CONTROL_BYTES).await
        };
        // A refusal may have arrived although the connection then closed under the writing.
        let said: Result<(), WireError> = said.await;
        match reader.next::<EncoderToAgentMsg>().await {
            Ok(Some(EncoderToAgentMsg::Welcome(welcome))) if welcome.version != protocol::VERSION => {
                Err(never(format!(
                    "{peer} speaks protocol version {}, this agent speaks {}. Update the older one",
                    welcome.version,
                    protocol::VERSION
                )))
            }
            Ok(Some(EncoderToAgentMsg::Welcome(welcome))) => Ok((welcome, Control { send, reader })),
            Ok(Some(EncoderToAgentMsg::Refused(refused))) => Err(refusal(peer, &refused)),
            Ok(Some(EncoderToAgentMsg::Goodbye(goodbye))) => {
                Err(soon(format!("{peer} said goodbye: {goodbye}")))
            }
            Ok(Some(EncoderToAgentMsg::Pong(_)) | None) => {
                Err(soon(format!("{peer} did not greet. Check that the port belongs to a dc-encoder")))
            }
            Err(error) => {
                Err(self.failed(said.err().filter(|_| !error.is_connection_gone()).unwrap_or(error)))
            }
        }
    }

    fn failed(&self, error: WireError) -> Failure {
        match self.connection.close_reason() {
            Some(reason) => diagnosed(tls::diagnose(&reason, &context(self.identity, self.peer))),
            None => soon(format!("{} broke off the greeting: {error}", self.peer)),
        }
    }
}

impl Session {
    fn new(
        server: String,
        connection: quinn::Connection,
        identity: Identity,
        welcome: Welcome,
        in_flight: u16,
    ) -> Self {
        let most = u32::from(in_flight.min(welcome.limits.max_in_flight).max(1));
        let slots = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Inner { server, connection, identity, welcome, slots, most, ended: OnceLock::new() }))
    }

    /// The encoder's address as configured.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// What was agreed.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.0.welcome
    }

    /// The connection itself.
    #[must_use]
    pub fn connection(&self) -> &quinn::Connection {
        &self.0.connection
    }

    /// Waits for a place among the frames in flight.
    pub async fn slot(&self) -> OwnedSemaphorePermit {
        let slots = Arc::clone(&self.0.slots);
        slots.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Waits until no frame is in flight.
    pub async fn drained(&self) {
        let all = self.0.slots.acquire_many(self.0.most).await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// Closes the connection; frames still in flight are dropped with `words`.
    pub fn end(&self, code: u32, words: &str) {
        // The first reason is the true one.
        let _ = self.0.ended.set(words.to_owned());
        self.0.connection.close(VarInt::from_u32(code), words.as_bytes());
    }

    /// Why the connection is gone, in words.
    #[must_use]
    pub fn why_lost(&self, error: &ConnectionError) -> Failure {
        match self.0.ended.get() {
            Some(words) => soon(words.clone()),
            None => diagnosed(tls::diagnose(error, &context(&self.0.identity, &self.0.server))),
        }
    }

    /// What an error on a frame's stream means for the frame.
    #[must_use]
    pub fn dropped_by(&self, error: WireError) -> Dropped {
        match self.0.connection.close_reason() {
            Some(reason) => Dropped::LinkLost(self.why_lost(&reason).words),
            None => Dropped::BadReply(error.to_string()),
        }
    }
}

fn context<'a>(identity: &'a Identity, peer: &'a str) -> Context<'a> {
    Context { identity, peer, now: Timestamp::now() }
}

fn refusal(peer: &str, refused: &Refused) -> Failure {
    let heals = match refused.code {
        // An agent that was killed and restarted is a duplicate until its old connection times out.
        RefuseCode::Duplicate | RefuseCode::Limit | RefuseCode::Draining => Heals::Soon,
        RefuseCode::Version
        | RefuseCode::Space
        | RefuseCode::Camera
        | RefuseCode::Role
        | RefuseCode::Malformed => Heals::Never,
    };
    Failure { words: format!("{peer} refused: {refused}"), heals, refused: Some(refused.code) }
}

fn diagnosed(diagnosis: Diagnosis) -> Failure {
    let heals = match diagnosis.cause {
        Cause::Version | Cause::Role => Heals::Never,
        cause if cause.is_transient() => Heals::Soon,
        _ => Heals::ByPerson,
    };
    Failure::new(diagnosis.to_string(), heals)
}

fn soon(words: String) -> Failure {
    Failure::new(words, Heals::Soon)
}

fn by_person(words: String) -> Failure {
    Failure::new(words, Heals::ByPerson)
}

fn never(words: String) -> Failure {
    Failure::new(words, Heals::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refusals_mean() {
        let heals = |code| refusal("encoder:4433", &Refused::new(code, "because")).heals;
        assert_eq!(heals(RefuseCode::Duplicate), Heals::Soon, "its own older connection may still be there");
        assert_eq!(heals(RefuseCode::Draining), Heals::Soon);
        for code in [RefuseCode::Version, RefuseCode::Space, RefuseCode::Camera, RefuseCode::Role] {
            assert_eq!(heals(code), Heals::Never);
        }
        let words =
            refusal("encoder:4433", &Refused::new(RefuseCode::Space, "heads read ab, this is cd")).words;
        assert!(words.starts_with("encoder:4433 refused: no head is in") && words.ends_with("this is cd"));
    }

    #[test]
    fn what_failed_connections_mean() {
        let heals = |cause| diagnosed(Diagnosis { cause, message: "m".into(), remedy: String::new() }).heals;
        assert_eq!(heals(Cause::Timeout), Heals::Soon);
        assert_eq!(heals(Cause::Version), Heals::Never);
        for cause in [Cause::Time, Cause::Authority, Cause::Name, Cause::Closed(close::REVOKED.into())] {
            assert_eq!(heals(cause), Heals::ByPerson, "{cause:?}");
        }
    }
}
