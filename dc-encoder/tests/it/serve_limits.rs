//! What one device, and all together, may take, and what those are told who take more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use dc_encoder::batch::Counts;
use dc_encoder::serve::Config;
use fixtures::prometheus::Page;
use protocol::{DropReason, FrameReplyMsg, RefuseCode, close};

use crate::serve_support::{Agent, Fake, World, connect, hello, until};

fn world(change: impl FnOnce(&mut Config)) -> (World, SocketAddr) {
    let world = World::start(Fake::new(), |config| {
        config.metrics = "0".parse().ok();
        change(config);
    });
    let metrics = world.server.metrics().unwrap();
    (world, metrics)
}

async fn scrape(address: SocketAddr) -> Page {
    tokio::task::spawn_blocking(move || Page::scrape(address)).await.unwrap()
}

/// Frames that were dropped because of the limit with this key.
async fn over(metrics: SocketAddr, key: &str) -> f64 {
    scrape(metrics).await.get("fth_encoder_frames_over_limit_total", &[("limit", key)])
}

async fn answered(agent: &mut Agent) {
    let reply = agent.grey(9).await.reply().await;
    assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
}

async fn overloaded(agent: &mut Agent) {
    let jpeg = crate::serve_support::grey(9);
    let header = agent.header(&jpeg);
    // Not a byte of the body: the header alone is enough to say no.
    let reply = agent.open(&header, b"").await.reply().await;
    let is = matches!(reply, FrameReplyMsg::Dropped { reason: DropReason::Overloaded, .. });
    assert!(is, "{reply:?}");
}

/// A bucket for one frame, which takes an hour to fill again.
fn one_frame(config: &mut Config) -> &mut Config {
    config.limits.max_frame_bytes = ByteSize::b(crate::serve_support::grey(9).len() as u64);
    config
}

#[tokio::test]
async fn a_camera_that_sends_more_than_its_share_is_told_and_others_are_not() {
    let (world, metrics) =
        world(|config| one_frame(config).limits.per_camera.bytes_per_second = ByteSize::b(1));
    let (mut greedy, mut other) = (world.agent("greedy", 10).await, world.agent("other", 11).await);
    answered(&mut greedy).await;
    overloaded(&mut greedy).await;
    overloaded(&mut greedy).await;
    answered(&mut other).await;
    assert_eq!(over(metrics, "per_camera.bytes_per_second").await, 2.0);
    assert_eq!(scrape(metrics).await.sum("fth_encoder_frames_over_limit_total"), 2.0);
}

#[tokio::test]
async fn all_cameras_together_share_what_there_is() {
    let (world, metrics) =
        world(|config| one_frame(config).limits.together.bytes_per_second = ByteSize::b(1));
    let (mut one, mut two) = (world.agent("one", 10).await, world.agent("two", 11).await);
    answered(&mut one).await;
    overloaded(&mut two).await;
    assert_eq!(over(metrics, "together.bytes_per_second").await, 1.0);
}

#[tokio::test]
async fn frames_a_second_are_counted_whatever_their_size() {
    let (world, metrics) = world(|config| config.limits.per_camera.frames_per_second = 5);
    let mut agent = world.agent("gate", 10).await;
    let (start, mut passed) = (Instant::now(), 0.0);
    while over(metrics, "per_camera.frames_per_second").await == 0.0 {
        passed += f64::from(matches!(agent.grey(9).await.reply().await, FrameReplyMsg::Answer(_)));
        let most = 5.0 * (1.0 + start.elapsed().as_secs_f64());
        assert!(passed <= most, "{passed} frames where {most} may pass");
    }
    assert!(passed >= 5.0, "a second's worth may come at once: {passed}");
}

#[tokio::test]
async fn frames_in_flight_of_all_together_are_bounded() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |config| {
        config.metrics = "0".parse().ok();
        config.limits.max_in_flight_together = 1;
    });
    let metrics = world.server.metrics().unwrap();
    let (mut one, mut two) = (world.agent("one", 10).await, world.agent("two", 11).await);
    let mut first = one.grey(10).await;
    gate.entered().await;
    assert_eq!(scrape(metrics).await.get("fth_encoder_frames_in_flight", &[]), 1.0);
    overloaded(&mut two).await;
    assert_eq!(over(metrics, "max_in_flight_together").await, 1.0);
    gate.open();
    assert!(matches!(first.reply().await, FrameReplyMsg::Answer(_)));
    answered(&mut two).await;
}

#[tokio::test]
async fn memory_for_frames_is_bounded_and_who_waits_too_long_for_it_is_told() {
    let frame = crate::serve_support::grey(9);
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |config| {
        config.metrics = "0".parse().ok();
        one_frame(config).limits.frame_memory = ByteSize::b(frame.len() as u64);
        config.timeouts.receive = Duration::from_millis(500);
        (config.queue.max_batch, config.queue.decode_threads) = (1, 1);
    });
    let metrics = world.server.metrics().unwrap();
    let (mut busy, mut other) = (world.agent("busy", 10).await, world.agent("other", 11).await);
    // One on the device, two that are decoded; the fourth keeps its bytes, and with them all the memory
    // there is.
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.push(busy.grey(9).await);
    }
    gate.entered().await;
    until(|| world.server.counts() == Counts { waiting: 1, decoding: 0, ready: 2 }).await;
    assert!(scrape(metrics).await.get("fth_encoder_frame_memory_bytes", &[]) > 0.0);
    overloaded(&mut other).await;
    gate.open();
    for mut frame in frames {
        assert!(matches!(frame.reply().await, FrameReplyMsg::Answer(_)));
    }
    answered(&mut other).await;
    assert_eq!(scrape(metrics).await.get("fth_encoder_frame_memory_bytes", &[]), 0.0);
}

#[tokio::test]
async fn a_device_has_so_many_connections_and_no_more() {
    let (world, metrics) = world(|config| config.limits.max_connections_per_device = 2);
    let identity = world.pki.camera("gate", 10);
    let mut agent = Agent::admitted(&identity, world.address, hello("gate")).await;
    let _silent = connect(&identity, world.address).await;
    // The second may still be between its handshake and its place: it is one of the two that get in, or
    // this one is.
    let (_endpoint, third) = connect(&identity, world.address).await;
    let closed = tokio::select! {
        closed = third.closed() => closed,
        closed = _silent.1.closed() => closed,
    };
    let quinn::ConnectionError::ApplicationClosed(closed) = closed else { panic!("{closed}") };
    assert_eq!(closed.error_code.into_inner(), u64::from(close::REFUSED));
    let reason = String::from_utf8(closed.reason.to_vec()).unwrap();
    assert!(
        reason.contains("camera gate has 2") && reason.contains("max_connections_per_device"),
        "{reason}"
    );
    let refused = [("reason", RefuseCode::Limit.key())];
    assert_eq!(scrape(metrics).await.get("fth_encoder_agents_refused_total", &refused), 1.0);
    answered(&mut agent).await;
    answered(&mut world.agent("roof", 11).await).await;
}
