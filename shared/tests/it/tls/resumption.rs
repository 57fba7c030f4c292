//! No session is ever resumed: a resumed one would skip the certificate checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fixtures::{Authority, Clock, Leaf};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use shared::tls::{client_tls, quic_client};

use super::world::{Agent, Encoder, LONG, NOON, VALID, attempt};

/// An agent's session store that counts what it is given.
#[derive(Debug)]
struct Tickets {
    store: rustls::client::ClientSessionMemoryCache,
    received: AtomicUsize,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.store.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(name)
    }
}

/// An encoder's session store that counts how often a session was looked for.
#[derive(Debug)]
struct Sessions {
    store: Arc<ServerSessionMemoryCache>,
    kept: AtomicUsize,
    asked: AtomicUsize,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.store.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.store.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.store.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

struct Pair {
    encoder: Encoder,
    agent: Agent,
    tickets: Arc<Tickets>,
    sessions: Arc<Sessions>,
}

fn pair() -> Pair {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    let store = rustls::client::ClientSessionMemoryCache::new(8);
    let tickets = Arc::new(Tickets { store, received: AtomicUsize::new(0) });
    let store = ServerSessionMemoryCache::new(8);
    let sessions = Arc::new(Sessions { store, kept: AtomicUsize::new(0), asked: AtomicUsize::new(0) });
    Pair { encoder, agent, tickets, sessions }
}

impl Pair {
    /// The agent's configuration, made to resume wherever it can.
    fn eager_agent(&self) -> quinn::ClientConfig {
        let mut tls = client_tls(&self.agent.identity, Some(self.agent.clock.clone())).unwrap();
        tls.resumption = Resumption::store(self.tickets.clone());
        tls.enable_early_data = true;
        quic_client(tls).unwrap()
    }

    /// The encoder, made to hand out tickets.
    fn eager_encoder(&mut self) {
        let mut tls = self.encoder.tls.rustls_config().unwrap();
        tls.send_tls13_tickets = 2;
        tls.session_storage = self.sessions.clone();
        self.encoder.serve(tls);
    }

    /// Connects, says something so that every handshake message has arrived, and closes.
    async fn connect(&self, config: quinn::ClientConfig) {
        let (ours, theirs) = attempt(&self.agent, config, &self.encoder, "localhost").await.both();
        let (mut question, mut answer) = ours.open_bi().await.unwrap();
        question.write_all(b"?").await.unwrap();
        let (mut reply, _asked) = theirs.accept_bi().await.unwrap();
        reply.write_all(b"!").await.unwrap();
        reply.finish().unwrap();
        assert_eq!(answer.read_to_end(1).await.unwrap(), b"!");
        theirs.close(0u32.into(), b"");
        ours.closed().await;
    }
}

#[tokio::test]
async fn the_encoder_hands_out_no_tickets() {
    let pair = pair();
    let eager = pair.eager_agent();
    for _ in 0..2 {
        pair.connect(eager.clone()).await;
        assert_eq!(pair.tickets.received.load(Ordering::Relaxed), 0);
    }
    let address = pair.encoder.endpoint.local_addr().unwrap();
    let connecting = pair.agent.endpoint.connect_with(eager, address, "localhost").unwrap();
    assert!(connecting.into_0rtt().is_err(), "0-RTT");
}

#[tokio::test]
async fn the_agent_resumes_nothing_even_with_tickets() {
    let mut pair = pair();
    pair.eager_encoder();
    let ours = pair.agent.config();
    for _ in 0..2 {
        pair.connect(ours.clone()).await;
    }
    assert!(pair.sessions.kept.load(Ordering::Relaxed) > 0, "the encoder offered nothing to resume");
    assert_eq!(pair.sessions.asked.load(Ordering::Relaxed), 0);
}

/// What the two tests above would see if both sides were careless: proof that they can fail.
#[tokio::test]
async fn two_eager_sides_do_resume() {
    let mut pair = pair();
    pair.eager_encoder();
    let eager = pair.eager_agent();
    for _ in 0..2 {
        pair.connect(eager.clone()).await;
    }
    assert!(pair.tickets.received.load(Ordering::Relaxed) > 0);
    assert!(pair.sessions.asked.load(Ordering::Relaxed) > 0);
}
