//! Clients that begin and do not go on, and clocks that jump: others are served as before.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use fixtures::prometheus::Page;
use fixtures::{ALWAYS, Clock};
use protocol::FrameReplyMsg;
use quinn::Endpoint;
use shared::tls::{Identity, client_config};

use crate::serve_support::{Agent, Fake, PATIENCE, Pki, World, hello, soon, start};

/// The first packets of this many clients: what they would send to any server.
async fn first_packets(pki: &Pki, count: usize) -> Vec<Vec<u8>> {
    let ears = UdpSocket::bind("127.0.0.1:0").unwrap();
    ears.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let identity = Identity::load(&pki.camera("nobody", 99)).unwrap();
    endpoint.set_default_client_config(client_config(&identity, None).unwrap());
    let address = ears.local_addr().unwrap();
    let _calling: Vec<_> = (0..count).map(|_| endpoint.connect(address, "localhost").unwrap()).collect();
    // Some are sent again meanwhile: the connection ID tells clients apart (RFC 9000 §17.2).
    let listen = move || {
        let (mut seen, mut packets, mut buffer) = (HashSet::new(), Vec::new(), [0; 2048]);
        while packets.len() < count {
            let len = ears.recv(&mut buffer).unwrap();
            let id = usize::from(buffer[5]);
            if seen.insert(buffer[6..6 + id].to_vec()) {
                packets.push(buffer[..len].to_vec());
            }
        }
        packets
    };
    tokio::task::spawn_blocking(listen).await.unwrap()
}

async fn scrape(address: SocketAddr) -> Page {
    tokio::task::spawn_blocking(move || Page::scrape(address)).await.unwrap()
}

async fn answered(agent: &mut Agent) {
    let reply = agent.grey(9).await.reply().await;
    assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_few_and_keep_nobody_out() {
    let world = World::start(Fake::new(), |config| {
        config.metrics = "0".parse().ok();
        config.timeouts.handshake = Duration::from_secs(3);
    });
    let metrics = world.server.metrics().unwrap();
    let packets = first_packets(&world.pki, 64).await;
    let mouth = UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in &packets {
        mouth.send_to(packet, world.address).unwrap();
    }
    // The first 32 are believed; the others are asked to prove their address, and nothing is kept of them.
    let asked = async {
        loop {
            let page = scrape(metrics).await;
            assert!(page.get("fth_encoder_handshakes", &[]) <= 32.0);
            if page.get("fth_encoder_address_proofs_total", &[]) >= 32.0 {
                return;
            }
        }
    };
    soon(asked).await;
    let mut agent = world.agent("gate", 10).await;
    answered(&mut agent).await;
    let over = async { while scrape(metrics).await.get("fth_encoder_connections", &[]) > 1.0 {} };
    soon(over).await;
    let page = scrape(metrics).await;
    assert_eq!(page.get("fth_encoder_connections_refused_total", &[("reason", "timeout")]), 32.0);
    answered(&mut agent).await;
}

#[tokio::test]
async fn handshakes_a_second_are_bounded_and_who_comes_later_gets_in() {
    let world = World::start(Fake::new(), |config| {
        config.metrics = "0".parse().ok();
        config.limits.handshakes_per_second = 1;
    });
    let identity = world.pki.camera("gate", 10);
    let config = client_config(&Identity::load(&identity).unwrap(), None).unwrap();
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let call = || endpoint.connect_with(config.clone(), world.address, "localhost").unwrap();
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(call().into_future())).collect();
    let mut refused = 0;
    for call in calls {
        refused += u32::from(soon(call).await.unwrap().is_err());
    }
    assert!(refused > 0, "forty at once are more than one a second");
    let page = scrape(world.server.metrics().unwrap()).await;
    let counted = page.get("fth_encoder_connections_refused_total", &[("reason", "rate")]);
    assert_eq!(counted, f64::from(refused));
    soon(async { while call().await.is_err() {} }).await;
}

/// All the streams that an agent may have, each with a first byte and no more.
#[tokio::test]
async fn streams_that_trickle_cost_their_own_agent_and_nobody_else() {
    let world = World::start(Fake::new(), |config| {
        config.metrics = "0".parse().ok();
        config.timeouts.receive = Duration::from_secs(1);
    });
    let (slow, mut other) = (world.agent("slow", 10).await, world.agent("other", 11).await);
    let mut trickling = Vec::new();
    // One of the thirteen is the control stream.
    for _ in 0..12 {
        let (mut send, recv) = soon(slow.connection.open_bi()).await.unwrap();
        send.write_all(&[1]).await.unwrap();
        trickling.push((send, recv));
    }
    let beyond = tokio::time::timeout(Duration::from_millis(50), slow.connection.open_bi());
    assert!(beyond.await.is_err(), "there is a limit on streams");
    for _ in 0..20 {
        answered(&mut other).await;
    }
    for (_, mut recv) in trickling {
        assert!(soon(recv.read_to_end(1)).await.is_err(), "given up, without a reply to nobody knows what");
    }
    let page = scrape(world.server.metrics().unwrap()).await;
    assert_eq!(page.get("fth_encoder_frames_total", &[("outcome", "withdrawn")]), 12.0);
}

#[tokio::test]
async fn a_clock_that_jumps_within_the_certificates_time_breaks_nothing() {
    let noon = 1_900_000_000;
    let clock = Clock::at(noon);
    let world = World::start_at(Fake::new(), clock.clone(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let jumps = [3600, -3600, 86_400 * 365, ALWAYS[0] - noon, ALWAYS[1] - noon];
    for (serial, jump) in (11..).zip(jumps) {
        clock.set(noon + jump);
        answered(&mut agent).await;
        // The client's clock is another one: both certificates are valid by either.
        answered(&mut world.agent(&format!("camera-{serial}"), serial).await).await;
    }
}

/// The first server's runtime ends with all in it, as when a process is killed: nobody says goodbye.
#[test]
fn agents_of_a_server_that_was_killed_are_told_by_its_next_life() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let world = first.block_on(async { World::start(Fake::new(), |_| {}) });
    let World { pki, server, address } = world;
    let identity = pki.camera("gate", 10);
    let mut agent = second.block_on(Agent::admitted(&identity, address, hello("gate")));
    second.block_on(answered(&mut agent));
    drop(server);
    first.shutdown_timeout(PATIENCE);
    second.block_on(async {
        let _again = start(&pki, Fake::new(), |config| config.listen = address).unwrap();
        // Anything sent is answered with a reset, which may come before this is written to its end.
        if let Ok((mut send, _recv)) = agent.connection.open_bi().await {
            let _ = send.write_all(&[1]).await;
        }
        let error = soon(agent.connection.closed()).await;
        assert_eq!(error, quinn::ConnectionError::Reset, "and not the silence, which takes ten seconds");
        answered(&mut Agent::admitted(&identity, address, hello("gate")).await).await;
    });
}
