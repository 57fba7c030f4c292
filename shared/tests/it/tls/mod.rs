//! TLS over real QUIC endpoints on loopback: who gets in, who does not, and what they are told.

mod files;
mod refusals;
mod resumption;
mod revocation;
mod world;

use fixtures::{Authority, Clock, Leaf};
use shared::tls::{PeerIdentity, Role};

use world::{Agent, Encoder, LONG, NOON, VALID, attempt};

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    for name in ["localhost", "127.0.0.1"] {
        let (ours, theirs) = attempt(&agent, agent.config(), &encoder, name).await.both();
        let camera = PeerIdentity::of(&theirs).unwrap();
        assert_eq!((camera.role, camera.camera.as_deref()), (Role::Camera, Some("plaza-1")));
        assert_eq!((camera.serial.as_str(), camera.not_after.as_second()), ("07", VALID[1]));
        let server = PeerIdentity::of(&ours).unwrap();
        assert_eq!((server.role, server.camera, server.name.as_str()), (Role::Server, None, "localhost"));
    }
}

#[tokio::test]
async fn an_operator_gets_in_too() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let operator = Leaf::operator("ada", 8, VALID);
    let agent = Agent::new(&ca.issue(&operator), Clock::at(NOON));
    let (_ours, theirs) = attempt(&agent, agent.config(), &encoder, "localhost").await.both();
    assert_eq!(PeerIdentity::of(&theirs).unwrap().role, Role::Operator);
}

#[tokio::test]
async fn the_encoder_opens_no_streams_and_the_agent_only_as_many_as_it_may() {
    let ca = Authority::new("CA", LONG);
    let encoder = Encoder::start(&ca.server_paths(&Leaf::server(VALID)), Clock::at(NOON));
    let agent = Agent::new(&ca.issue(&Leaf::camera("plaza-1", 7, VALID)), Clock::at(NOON));
    let (ours, theirs) = attempt(&agent, agent.config(), &encoder, "localhost").await.both();
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(ours.open_bi().await.unwrap());
    }
    // Credit that is not there cannot arrive: polled once, both stay pending.
    tokio::select! {
        biased;
        _ = ours.open_bi() => panic!("a ninth stream"),
        _ = theirs.open_bi() => panic!("a stream opened by the encoder"),
        _ = theirs.open_uni() => panic!("a one-way stream opened by the encoder"),
        () = std::future::ready(()) => {}
    }
}
