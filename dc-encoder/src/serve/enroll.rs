//! The endpoint of enrolment: an address of its own, one request a connection.
//!
//! ```text
//! first packet ─► Retry (the address is proven) ─► room? ─► handshake, with or without a certificate
//!                                                          └─► one stream ─► attempts left? ─► Desk ─► reply
//! ```
//! On a port of its own, because TLS asks for a client's certificate before it knows what the client wants: on the
//! frames' port that stays a demand, which nothing in this program can forget to check. And this one can be closed
//! where nobody is installing boxes.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::limits::MAX_ENROLL_REQUEST_BYTES;
use protocol::{EnrollCode, EnrollReplyMsg, EnrollRequestMsg, Message, close};
use quinn::{Connection, Endpoint, Incoming, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use rustls::time_provider::TimeProvider;
use shared::release::{PublicKey, ReleaseError, Trust};
use shared::tls::{self, Identity, PeerIdentity, ServerTls};
use shared::wire::{WireError, expect_end, expect_msg, write_msg};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::listen::bind_error;
use super::{Config, ServeError};
use crate::enroll::{Attempts, Desk, Peer, Told};
use crate::registry::Registrar;

/// Boxes at one time: they queue for the desk, which makes some hundreds of certificates a second.
const VISITORS: usize = 16;

/// From the first packet to the farewell: four round trips on a bad link, and the disk.
const WITHIN: Duration = Duration::from_secs(10);

/// First packets that nobody has looked at yet.
const MAX_INCOMING: usize = 64;

/// The running endpoint; it ends when dropped.
pub(super) struct Enrolment {
    endpoint: Endpoint,
    task: AbortHandle,
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        self.task.abort();
        self.endpoint.close(VarInt::from_u32(close::DRAINING), b"the encoder is shutting down");
    }
}

struct Office {
    desk: Desk,
    attempts: Mutex<Attempts>,
    identity: Identity,
    clock: Arc<dyn TimeProvider>,
    registrar: Option<Arc<Registrar>>,
    /// The root's public key as configured; a key ring may lie beside it.
    release_root: Option<PathBuf>,
}

impl Enrolment {
    /// Listens, if the configuration says so. Within a tokio runtime.
    pub(super) fn start(
        config: &Config,
        tls: &ServerTls,
        registrar: Option<Arc<Registrar>>,
    ) -> Result<Option<Self>, ServeError> {
        let Some(dir) = &config.enroll.dir else { return Ok(None) };
        let desk = Desk::open(dir, tls.identity().authority())?;
        let address = config.enroll.listen;
        let failed = |why| match bind_error(address, why) {
            ServeError::Bind { address, why, .. } => ServeError::Bind { address, protocol: "enrolment", why },
            other => other,
        };
        let mut server = tls.enroll_config()?;
        server.max_incoming(MAX_INCOMING);
        let socket = UdpSocket::bind(address).map_err(failed)?;
        let endpoint = Endpoint::new(tls.endpoint_config(), Some(server), socket, Arc::new(TokioRuntime))
            .map_err(failed)?;
        let office = Office {
            desk,
            attempts: Mutex::new(Attempts::new(Instant::now())),
            identity: tls.identity().clone(),
            clock: Arc::clone(tls.time()),
            registrar,
            release_root: config.release_root.clone(),
        };
        let task = tokio::spawn(accept(endpoint.clone(), Arc::new(office))).abort_handle();
        Ok(Some(Self { endpoint, task }))
    }

    /// The bound address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.endpoint.local_addr().ok()
    }
}

async fn accept(endpoint: Endpoint, office: Arc<Office>) {
    let places = Arc::new(Semaphore::new(VISITORS));
    while let Some(incoming) = endpoint.accept().await {
        if !incoming.remote_address_validated() {
            // Fails only for an address that is proven already.
            let _ = incoming.retry();
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let office = Arc::clone(&office);
        tokio::spawn(async move {
            let peer = incoming.remote_address();
            if timeout(WITHIN, visit(incoming, office)).await.is_err() {
                tracing::warn!(%peer, "enrolment: the box took longer than {} s", WITHIN.as_secs());
            }
            drop(place);
        });
    }
}

async fn visit(incoming: Incoming, office: Arc<Office>) {
    let peer = incoming.remote_address();
    let from = peer.to_string();
    let about = tls::Context { identity: &office.identity, peer: &from, now: tls::now(&*office.clock) };
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return tracing::warn!("no enrolment: {}", tls::explain(&error, &about)),
    };
    match connecting.await {
        Ok(connection) => match serve(&connection, peer, Arc::clone(&office)).await {
            // The box closes the connection once it has the reply.
            Ok(()) => drop(connection.closed().await),
            Err(error) => {
                tracing::warn!(%peer, "enrolment broken off: {error}");
                connection.close(VarInt::from_u32(close::MALFORMED), error.to_string().as_bytes());
            }
        },
        Err(error) => tracing::warn!("no enrolment: {}", tls::explain(&error, &about)),
    }
}

async fn serve(connection: &Connection, peer: SocketAddr, office: Arc<Office>) -> Result<(), WireError> {
    let (mut send, mut recv) = connection.accept_bi().await?;
    let request: EnrollRequestMsg = expect_msg(&mut recv, MAX_ENROLL_REQUEST_BYTES).await?;
    expect_end(&mut recv).await?;
    let admitted =
        office.attempts.lock().unwrap_or_else(PoisonError::into_inner).admit(peer.ip(), Instant::now());
    let reply = if admitted {
        let asking = Peer { from: peer.to_string(), certificate: certificate(connection) };
        let answer = move || office.answer(&request, &asking);
        tokio::task::spawn_blocking(answer).await.unwrap_or_else(|error| {
            tracing::error!("enrolment failed: {error}");
            EnrollReplyMsg::refused(EnrollCode::Internal, "its log says why")
        })
    } else {
        tracing::warn!(%peer, "enrolment: too many attempts");
        EnrollReplyMsg::refused(EnrollCode::Busy, "try again in a minute")
    };
    write_msg(&mut send, &reply, EnrollReplyMsg::MAX_BYTES).await?;
    // Fails only for a stream that is closed already.
    let _ = send.finish();
    Ok(())
}

impl Office {
    fn answer(&self, request: &EnrollRequestMsg, peer: &Peer) -> EnrollReplyMsg {
        self.desk.answer(request, peer, self.told(), tls::now(&*self.clock))
    }

    /// The newest ring: the registry's, or the one beside `release_root`. A registry has none before its first head, and
    /// boxes may well be installed before that.
    fn told(&self) -> Told {
        let Some(registrar) = &self.registrar else { return Told::default() };
        let root = registrar.root();
        let known = registrar.watch().borrow().ring.clone();
        let beside = self.release_root.as_deref().and_then(|path| match beside(path, root) {
            Ok(ring) => Some(ring),
            // Only the first heads need it, and a server may be told its root by the registry alone.
            Err(ReleaseError::Read { .. }) if known.is_some() => None,
            Err(error) => {
                let name = ring_beside(path);
                tracing::warn!(
                    "enrolment: no key ring from {}: {error}; copy the one that `dc-encoder keys init` made",
                    name.display()
                );
                None
            }
        });
        let newest = beside.into_iter().chain(known).max_by_key(|(version, _)| *version);
        Told { root: root.to_string(), ring: newest.map(|(_, ring)| ring).unwrap_or_default() }
    }
}

fn ring_beside(release_root: &Path) -> PathBuf {
    release_root.with_file_name("key-ring")
}

/// Version and text of the ring beside a root's public key, which must be this root's.
fn beside(release_root: &Path, root: PublicKey) -> Result<(u64, Vec<u8>), ReleaseError> {
    let trust = Trust::load(release_root, &ring_beside(release_root))?;
    if trust.root() != root {
        return Err(ReleaseError::OtherRoot { got: trust.root().short(), want: root.short() });
    }
    Ok((trust.ring().version, trust.document().to_vec()))
}

/// The client's certificate, which the handshake has verified, and the public key in it.
fn certificate(connection: &Connection) -> Option<(PeerIdentity, Vec<u8>)> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let der = chain.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let key = certificate.public_key().subject_public_key.data.to_vec();
    Some((PeerIdentity::from_der(der).ok()?, key))
}
