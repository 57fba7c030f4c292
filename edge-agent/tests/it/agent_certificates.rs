//! Certificates that run out while an agent runs.

use std::path::Path;
use std::sync::Arc;

use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::link::{Link, Options, State};
use edge_agent::uplink::session::OnWire;
use fixtures::{ALWAYS, Clock};
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
