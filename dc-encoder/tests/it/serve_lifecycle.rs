//! Start, drain and end of a server.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use dc_encoder::batch::driver::MAX_FAILURES_IN_A_ROW;
use dc_encoder::serve::ServeError;
use protocol::{DropReason, EncoderToAgentMsg, FrameReplyMsg, Goodbye, GoodbyeReason, RejectCode, close};

use crate::serve_support::{Do, Fake, Pki, World, soon, start, until};

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_sends_agents_elsewhere() {
    let (fake, mut gate) = Fake::gated();
    // Without the linger it is the frames in flight alone that keep the session.
    let world = World::start(fake, |config| config.timeouts.linger = Duration::ZERO);
    let mut agent = world.agent("gate", 10).await;
    let mut on_device = agent.grey(10).await;
    gate.entered().await;
    let mut queued = agent.grey(20).await;
    until(|| world.server.counts().ready == 1).await;

    let server = tokio::spawn(world.server.shutdown());
    let goodbye = agent.heard().await;
    let EncoderToAgentMsg::Goodbye(Goodbye { reason: GoodbyeReason::Draining, .. }) = goodbye else {
        panic!("{goodbye:?}")
    };
    // The session outlives its goodbye by as long as the device takes.
    let goodbye = Instant::now();
    while goodbye.elapsed() < Duration::from_millis(50) {
        let late = agent.grey(30).await.reply().await;
        assert!(matches!(late, FrameReplyMsg::Dropped { reason: DropReason::Draining, .. }), "{late:?}");
    }

    gate.open();
    for pending in [&mut on_device, &mut queued] {
        let reply = pending.reply().await;
        assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
    }
    assert_eq!(agent.closed().await.0, close::DRAINING);
    soon(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |config| config.timeouts.drain = Duration::from_millis(50));
    let mut agent = world.agent("gate", 10).await;
    let _stuck = agent.grey(10).await;
    gate.entered().await;
    soon(world.server.shutdown()).await.unwrap();
    let _ = soon(agent.connection.closed()).await;
}

#[tokio::test]
async fn a_lost_device_ends_the_server_with_its_reason() {
    let (fake, mut gate) = Fake::gated();
    let mut world = World::start(fake, |_| {});
    let mut agent = world.agent("gate", 10).await;
    for _ in 0..MAX_FAILURES_IN_A_ROW {
        let mut pending = agent.grey(10).await;
        gate.entered().await;
        gate.order(Do::Panic);
        let reply = pending.reply().await;
        assert!(matches!(reply, FrameReplyMsg::Rejected { code: RejectCode::Internal, .. }), "{reply:?}");
    }
    let ServeError::Device(why) = soon(world.server.ended()).await.unwrap_err() else {
        panic!("another error")
    };
    assert!(why.contains("in a row") && why.contains("told to panic"), "{why}");
}

#[tokio::test]
async fn the_ready_file_holds_the_bound_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ready");
    let world = World::start(Fake::new(), |config| config.ready_file = Some(path.clone()));
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.trim().parse(), Ok(world.address));
    assert_ne!(world.address.port(), 0);
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_says_what_to_do() {
    let pki = Pki::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap();
    let error = start(&pki, Fake::new(), |config| config.listen = taken).unwrap_err().to_string();
    assert!(error.contains(&taken.port().to_string()) && error.contains("--listen"), "{error}");

    let error =
        start(&pki, Fake::new(), |config| config.listen = "192.0.2.1:9".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("no address 192.0.2.1"), "{error}");

    let error = start(&pki, Fake::new(), |config| config.pki = None).unwrap_err().to_string();
    assert!(error.contains("dc-encoder pki init"), "{error}");

    let nowhere = pki.dir().join("nowhere");
    let error = start(&pki, Fake::new(), |config| config.pki = Some(nowhere)).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("dc-encoder pki"), "{error}");

    let error = start(&pki, Fake::new(), |config| config.queue.max_batch = 0).unwrap_err().to_string();
    assert!(error.contains("queue.max_batch"), "{error}");
}
