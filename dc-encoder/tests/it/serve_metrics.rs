//! What the server tells Prometheus, after things happened to it that are known.

use std::net::SocketAddr;

use fixtures::prometheus::Page;
use protocol::{FrameReplyMsg, RejectCode};

use crate::serve_support::{Agent, Fake, World, hello, soon, until};

async fn scrape(address: SocketAddr) -> Page {
    tokio::task::spawn_blocking(move || Page::scrape(address)).await.unwrap()
}

fn world(fake: Fake) -> (World, SocketAddr) {
    let world = World::start(fake, |config| config.metrics = "0".parse().ok());
    let metrics = world.server.metrics().unwrap();
    assert!(metrics.ip().is_loopback());
    (world, metrics)
}

/// Scrapes until a counter has this value: what ends after a reply was delivered is counted after it.
async fn settled(metrics: SocketAddr, sample: &str, labels: &[(&str, &str)], value: f64) -> Page {
    soon(async {
        loop {
            let page = scrape(metrics).await;
            if page.get(sample, labels) == value {
                return page;
            }
        }
    })
    .await
}

#[tokio::test]
async fn every_frame_stream_is_counted_once_by_how_it_ended() {
    let (world, metrics) = world(Fake::new());
    let mut agent = world.agent("gate", 10).await;
    let mut bytes = 0;
    for level in [10, 20, 30] {
        bytes += crate::serve_support::grey(level).len();
        let reply = agent.grey(level).await.reply().await;
        assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
    }
    let header = agent.header(b"no picture");
    let reply = agent.send(&header, b"no picture").await.reply().await;
    assert!(matches!(reply, FrameReplyMsg::Rejected { code: RejectCode::NotJpeg, .. }), "{reply:?}");
    let header = agent.header(b"never sent to its end");
    agent.open(&header, b"never").await.cancel();

    let frames = "fth_encoder_frames_total";
    let page = settled(metrics, frames, &[("outcome", "withdrawn")], 1.0).await;
    for (outcome, count) in [("answered", 3.0), ("not_jpeg", 1.0), ("superseded", 0.0)] {
        assert_eq!(page.get(frames, &[("outcome", outcome)]), count, "{outcome}");
    }
    assert_eq!(page.sum(frames), 5.0);
    assert_eq!(page.get("fth_encoder_frame_bytes_total", &[]), (bytes + b"no picture".len()) as f64);
    for stage in ["receive", "queue", "decode", "encode"] {
        assert_eq!(page.get("fth_encoder_stage_duration_seconds_count", &[("stage", stage)]), 3.0, "{stage}");
    }
    let stage = "fth_encoder_stage_duration_seconds_count";
    settled(metrics, stage, &[("stage", "reply")], 3.0).await;
    assert_eq!(page.get("fth_encoder_batch_frames_sum", &[]), 3.0, "one after another, each alone");
    assert_eq!(page.get("fth_encoder_batch_frames_bucket", &[("le", "1")]), 3.0);
    assert_eq!(page.samples("fth_encoder_info").count(), 1);
    assert_eq!(
        page.sum("fth_encoder_flops_total"),
        3.0 * 1000.0,
        "as the device says, for frames that were encoded"
    );
}

#[tokio::test]
async fn what_waits_and_who_is_there_is_seen_while_it_lasts() {
    let (fake, mut gate) = Fake::gated();
    let (world, metrics) = world(fake);
    let page = scrape(metrics).await;
    assert_eq!((page.get("fth_encoder_sessions", &[]), page.sum("fth_encoder_frames_total")), (0.0, 0.0));

    let mut agent = world.agent("gate", 10).await;
    let _on_device = agent.grey(10).await;
    gate.entered().await;
    let _waiting = agent.grey(20).await;
    until(|| world.server.counts().ready == 1).await;
    let page = scrape(metrics).await;
    assert_eq!(page.get("fth_encoder_frames_queued", &[("place", "ready")]), 1.0);
    assert_eq!(
        page.get("fth_encoder_frame_memory_bytes", &[]),
        0.0,
        "decoded frames gave their JPEG's memory back"
    );
    assert_eq!((page.get("fth_encoder_sessions", &[]), page.get("fth_encoder_draining", &[])), (1.0, 0.0));
    gate.open();
}

#[tokio::test]
async fn who_was_refused_is_counted_by_why() {
    let (world, metrics) = world(Fake::new());
    let _first = world.agent("gate", 10).await;
    let other = protocol::Hello { instance: 2, ..hello("gate") };
    let mut second = Agent::greeting(&world.pki.camera("gate", 11), world.address, other).await;
    second.heard().await;
    let page = settled(metrics, "fth_encoder_agents_refused_total", &[("reason", "duplicate")], 1.0).await;
    assert_eq!(page.sum("fth_encoder_agents_refused_total"), 1.0);
    assert_eq!(page.get("fth_encoder_sessions_admitted_total", &[]), 1.0);

    // Whose authority the server does not know.
    let stranger = crate::serve_support::Pki::new();
    let identity = shared::tls::Identity::load(&stranger.camera("gate", 12)).unwrap();
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(shared::tls::client_config(&identity, None).unwrap());
    assert!(soon(endpoint.connect(world.address, "localhost").unwrap()).await.is_err());
    settled(metrics, "fth_encoder_connections_refused_total", &[("reason", "failed")], 1.0).await;
}

#[tokio::test]
async fn bytes_of_a_connection_that_ended_stay_counted() {
    let (world, metrics) = world(Fake::new());
    let mut agent = world.agent("gate", 10).await;
    let jpeg = crate::serve_support::grey(10);
    agent.grey(10).await.reply().await;
    agent.connection.close(0_u32.into(), b"");
    let page = settled(metrics, "fth_encoder_sessions", &[], 0.0).await;
    let moved = |direction| page.get("fth_encoder_network_bytes_total", &[("direction", direction)]);
    assert!(moved("received") > jpeg.len() as f64 && moved("sent") > 1000.0, "{page:?}");
}
