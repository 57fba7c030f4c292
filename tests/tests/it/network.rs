//! What networks do: a box that changes its own while frames are under way, and one that lets TCP alone through.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use edge_agent::config::ServerAddr;
use edge_agent::ledger::Dropped;
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::failure::{Failure, Heals};
use edge_agent::uplink::frame::{Incoming, Outgoing, exchange};
use edge_agent::uplink::session::{Control, OnWire, Session};
use fixtures::prometheus::Page;
use fixtures::{ALWAYS, Authority, Leaf};
use protocol::Encoding;
use shared::tls::Identity;
use tests::netns::{ELSEWHERE, FAR, NEAR, Network, Shape, isolated};
use tests::process;

#[path = "../../benches/network/site.rs"]
mod site;

use site::{CAMERA, Site, frame};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

async fn dial(identity: &Path, server: &str) -> Result<(Session, Control), Failure> {
    let greeting = Greeting { instance: 1, camera: CAMERA.into() };
    let mut dialer = Dialer::new(identity, Identity::load(identity).unwrap(), greeting)?;
    let server: ServerAddr = server.parse().unwrap();
    tokio::time::timeout(PATIENCE, dialer.dial(&server, Vec::new(), OnWire { in_flight: 4, patches: false }))
        .await
        .unwrap()
}

async fn ask(session: &Session, seq: u64) -> Result<Incoming, Dropped> {
    let outgoing = Outgoing {
        seq,
        captured_at: jiff::Timestamp::now(),
        jpeg: Bytes::from(frame(20_000)),
        pixels: 64 * 32,
        patches: None,
        deadline: Instant::now() + PATIENCE,
        embedding: Encoding::F16,
        tokens: false,
    };
    exchange(session, &outgoing).await
}

#[test]
fn a_box_that_changes_networks_keeps_its_session_and_its_frames() {
    isolated("network::a_box_that_changes_networks_keeps_its_session_and_its_frames", || {
        let shape = Shape { delay: Duration::from_millis(10), ..Shape::default() };
        let network = Network::start(shape.clone(), shape, 1).unwrap();
        let (near, far) = (network.near.runtime().unwrap(), network.far.runtime().unwrap());
        let main = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let site = Site::new();
        let identity = site.camera();
        let server = main.block_on(far.spawn(async move {
            let server = site.serve((FAR, 4433).into()).unwrap();
            (server, site)
        }));
        let (server, _site) = server.unwrap();
        let metrics = server.metrics().unwrap();

        let (session, _control) = main
            .block_on(near.spawn(async move { dial(&identity, &format!("{FAR}:4433")).await }))
            .unwrap()
            .unwrap();
        let (ready, moving) = tokio::sync::oneshot::channel();
        let (moved, go_on) = tokio::sync::oneshot::channel();
        let asking = near.spawn(async move {
            for seq in 0..5 {
                ask(&session, seq).await.unwrap();
            }
            // Four under way while the address goes: their replies are sent to where nobody is any more.
            let mut under_way = tokio::task::JoinSet::new();
            for seq in 5..9 {
                let session = session.clone();
                under_way.spawn(async move { ask(&session, seq).await.map(drop) });
            }
            tokio::task::yield_now().await;
            ready.send(()).unwrap();
            go_on.await.unwrap();
            while let Some(asked) = under_way.join_next().await {
                asked.unwrap().unwrap();
            }
            for seq in 9..14 {
                ask(&session, seq).await.unwrap();
            }
            session
        });
        main.block_on(moving).unwrap();
        network.near.readdress(ELSEWHERE).unwrap();
        moved.send(()).unwrap();
        let _session = main.block_on(asking).expect("a frame was lost, or the session");

        // The server looks every half a second.
        let start = Instant::now();
        let page = loop {
            let page = network.far.within(|| Ok(Page::scrape(metrics))).unwrap();
            if page.get("fth_encoder_sessions_migrated_total", &[]) > 0.0 {
                break page;
            }
            assert!(start.elapsed() < PATIENCE, "the server did not notice");
        };
        assert_eq!(page.get("fth_encoder_sessions_admitted_total", &[]), 1.0, "one welcome");
        assert_eq!(page.get("fth_encoder_sessions_migrated_total", &[]), 1.0, "from {NEAR} to {ELSEWHERE}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_answered_over_tcp_and_a_stranger_is_told_why_not() {
    let site = Site::new();
    let server = site.serve(([127, 0, 0, 1], 0).into()).unwrap();
    let address = format!("tcp://{}", server.tcp_addr().unwrap());
    let (session, control) = dial(&site.camera(), &address).await.unwrap();
    assert!(session.round_trip() > Duration::ZERO);
    let asked: Vec<_> = (0..4).map(|seq| (seq, session.clone())).collect();
    let mut under_way = tokio::task::JoinSet::new();
    for (seq, session) in asked {
        under_way.spawn(async move { ask(&session, seq).await });
    }
    while let Some(answer) = under_way.join_next().await {
        assert_eq!(answer.unwrap().unwrap().embedding.embedding.len(), 512);
    }
    // What is given up before its reply came is nobody's; the next one is answered.
    tokio::select! {
        biased;
        answer = ask(&session, 4) => panic!("answered at once: {answer:?}"),
        () = std::future::ready(()) => {}
    }
    ask(&session, 5).await.unwrap();
    server.shutdown().await.unwrap();
    let error = ask(&session, 6).await.unwrap_err();
    assert!(matches!(&error, Dropped::LinkLost(_)), "{error:?}");
    drop(control);

    let server = site.serve(([127, 0, 0, 1], 0).into()).unwrap();
    let address = format!("tcp://{}", server.tcp_addr().unwrap());
    let stranger = Authority::new("another", ALWAYS);
    let stranger = stranger.issue_trusting(&Leaf::camera(CAMERA, 2, ALWAYS), &[&site.authority]);
    let failure = dial(&stranger, &address).await.unwrap_err();
    assert_eq!(failure.heals, Heals::ByPerson, "{failure}");
    assert!(failure.words.contains("does not trust the CA"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measurement_sets_quic_and_tcp_against_each_other_and_splits_the_network() {
    let site = Site::new();
    let server = site.serve(([127, 0, 0, 1], 0).into()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("frame.jpg"), frame(20_000)).unwrap();
    let json = dir.path().join("latency.json");
    let shown = |path: &Path| path.display().to_string();
    let args = [
        "latency".to_owned(),
        format!("--server={}", server.local_addr()),
        format!("--compare-tcp={}", server.tcp_addr().unwrap()),
        format!("--identity={}", shown(&site.camera())),
        format!("--source={}", shown(dir.path())),
        format!("--json={}", shown(&json)),
        "--frames=20".to_owned(),
        "--warm-up=5".to_owned(),
        "--log=error".to_owned(),
    ];
    let text = tokio::task::spawn_blocking(|| process::run("edge-agent", args)).await.unwrap().unwrap();
    for part in
        ["Over QUIC: 20 frames", "Over TCP: 20 frames", "to tcp://127.0.0.1", "\nQUIC/TCP ", "\n  down "]
    {
        assert!(text.contains(part), "{part:?}:\n{text}");
    }
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    for run in [&value, &value["tcp"]] {
        let ms = |key: &str| run[key]["p50"].as_f64().unwrap();
        assert_eq!(run["answered"], 20, "{text}");
        let network = &run["stages"][4];
        assert_eq!(network["stage"], "network");
        let most = network["max"].as_f64().unwrap();
        assert!(ms("network_up") <= most && ms("network_down") <= most, "{run}");
        // On loopback the first round trip is far below this, however busy the machine is.
        assert!(run["one_way_within_ms"].as_f64().unwrap() < 1000.0, "{run}");
    }
}
