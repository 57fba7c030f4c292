//! Certificates that run out, and clocks that are set, while an agent runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use edge_agent::ledger::Dropped;
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::frame::{Incoming, Outgoing, exchange};
use edge_agent::uplink::link::{Link, Options, State};
use edge_agent::uplink::session::{OnWire, Session};
use fixtures::{ALWAYS, Clock};
use protocol::Encoding;
use shared::tls::Identity;
use tokio::sync::watch;

use crate::agent_encoder::{Behaviour, Encoder, LIMIT, SPACE};
use crate::agent_pki::{LONG_OVER, Pki};

/// The last second of a certificate: 2030-03-17 17:46:40 UTC.
const LAST: i64 = 1_900_000_000;

fn link(encoder: &Encoder, folder: &Path, identity: Identity, clock: Arc<Clock>) -> Link {
    let greeting = Greeting { instance: 1, camera: "plaza-1".into() };
    let dialer = Dialer::new(folder, identity, greeting).unwrap().with_clock(clock);
    let options = Options {
        servers: vec![encoder.server().parse().unwrap()],
        on_wire: OnWire { in_flight: 1, patches: false },
        spaces: Box::new(|| vec![SPACE]),
        give_up: false,
        work: Arc::default(),
        releases: None,
    };
    Link::start(dialer, options)
}

async fn until(state: &mut watch::Receiver<State>, wanted: impl FnMut(&State) -> bool) -> State {
    tokio::time::timeout(LIMIT, state.wait_for(wanted)).await.expect("it never came").unwrap().clone()
}

#[tokio::test]
async fn a_link_ends_with_the_encoders_certificate() {
    let pki = Pki::new();
    let certificate = [ALWAYS[0], LAST];
    let encoder = Encoder::start(&pki, Behaviour { certificate, ..Behaviour::default() });
    let folder = pki.camera("plaza-1");
    let clock = Clock::at(LAST);
    let link = link(&encoder, &folder, Identity::load(&folder).unwrap(), clock.clone());
    let mut state = link.state();
    until(&mut state, |state| matches!(state, State::Up(_))).await;

    clock.set(LAST + 1);
    let State::Down(why) = until(&mut state, |state| matches!(state, State::Down(_))).await else {
        unreachable!("waited for it")
    };
    let expired = format!(
        "the certificate of the encoder at {} (server \"localhost\", serial 51) has expired: it was valid until \
         2030-03-17 17:46:40 UTC",
        encoder.server()
    );
    assert!(why.starts_with(&expired) && why.contains("`dc-encoder pki issue --server localhost`"), "{why}");
}

#[tokio::test]
async fn a_certificate_renewed_in_its_folder_is_taken_when_the_old_one_is_over() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let folder = pki.camera_valid("plaza-1", LONG_OVER);
    let old = Identity::load(&folder).unwrap();
    pki.camera("plaza-1");
    let link = link(&encoder, &folder, old, Clock::at(LAST));
    let mut state = link.state();
    let connecting = |state: &State| matches!(state, State::Down(words) if words.starts_with("connecting"));
    let first = until(&mut state, |state| !connecting(state)).await;
    assert!(matches!(first, State::Up(_)), "{first:?}");
}

async fn ask(session: &Session, seq: u64) -> Result<Incoming, Dropped> {
    let outgoing = Outgoing {
        seq,
        captured_at: jiff::Timestamp::now(),
        jpeg: vec![0xff, 0xd8].into(),
        pixels: 64 * 32,
        patches: None,
        deadline: Instant::now() + LIMIT,
        embedding: Encoding::F32,
        tokens: false,
    };
    exchange(session, &outgoing).await
}

fn up(state: &State) -> Session {
    let State::Up(session) = state else { panic!("{state:?}") };
    session.clone()
}

#[tokio::test]
async fn a_clock_that_is_set_within_the_certificates_time_keeps_the_session_and_lets_new_ones_begin() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let folder = pki.camera("plaza-1");
    let identity = Identity::load(&folder).unwrap();
    let clock = Clock::at(LAST);
    let first = link(&encoder, &folder, identity.clone(), clock.clone());
    let session = up(&until(&mut first.state(), |state| matches!(state, State::Up(_))).await);
    let jumps = [3600, -3600, 86_400 * 365, ALWAYS[0] - LAST, ALWAYS[1] - LAST];
    for (seq, jump) in (0..).zip(jumps) {
        clock.set(LAST + jump);
        ask(&session, seq).await.unwrap_or_else(|why| panic!("{jump} s: {why:?}"));
        let another = link(&encoder, &folder, identity.clone(), clock.clone());
        let session = up(&until(&mut another.state(), |state| matches!(state, State::Up(_))).await);
        ask(&session, seq).await.unwrap_or_else(|why| panic!("{jump} s, a new session: {why:?}"));
        another.close().await;
    }
    assert_eq!(first.sessions().load(Ordering::Relaxed), 1, "the first session is still the same");
}

#[tokio::test]
async fn a_clock_that_is_set_before_the_certificates_time_is_named_when_a_session_begins() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let folder = pki.camera("plaza-1");
    let clock = Clock::at(ALWAYS[0] - 1);
    let link = link(&encoder, &folder, Identity::load(&folder).unwrap(), clock.clone());
    let connecting = |state: &State| matches!(state, State::Down(words) if words.starts_with("connecting"));
    let State::Down(why) = until(&mut link.state(), |state| !connecting(state)).await else {
        panic!("connected before the certificate's time")
    };
    assert!(why.contains("clock"), "{why}");
    // Set right, as by NTP after a start: the link comes up by itself.
    clock.set(LAST);
    until(&mut link.state(), |state| matches!(state, State::Up(_))).await;
}
