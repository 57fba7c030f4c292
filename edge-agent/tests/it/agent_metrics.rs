//! What a running agent tells Prometheus.

use std::net::SocketAddr;

use fixtures::prometheus::Page;
use protocol::RejectCode;
use serde_json::Value;

use crate::agent_encoder::{Behaviour, Encoder, LIMIT, OnFrame, SPACE};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, frames, head, is_answer, manifest, run};

/// Starts an agent that serves metrics on a port of its own, and waits until it says which.
async fn measured(pki: &Pki, encoder: &Encoder, count: usize) -> (Agent, SocketAddr) {
    let second = head(pki, &manifest("again"));
    let mut command = run(pki, &[encoder], &frames(pki, count));
    let mut agent = Agent::spawn(command.args(["--metrics", "0"]).arg("--head").arg(second));
    let said = agent.says_after("metrics on http://").await;
    let address = said.split('/').next().unwrap().parse().unwrap();
    (agent, address)
}

/// Scrapes until the page says so.
async fn until(address: SocketAddr, says: impl Fn(&Page) -> bool) -> Page {
    let search = async {
        loop {
            let page = tokio::task::spawn_blocking(move || Page::scrape(address)).await.unwrap();
            if says(&page) {
                return page;
            }
        }
    };
    tokio::time::timeout(LIMIT, search).await.expect("never on the page")
}

/// What a page says of frames: captured, answered, dropped, in progress.
fn frames_of(page: &Page) -> [f64; 4] {
    ["captured_total", "answered_total", "dropped_total", "in_progress"]
        .map(|name| page.sum(&format!("fth_agent_frames_{name}")))
}

#[tokio::test]
async fn the_page_says_what_the_lines_say() {
    let pki = Pki::new();
    let held = Behaviour { on_frame: OnFrame::Hold, max_in_flight: 1, ..Behaviour::default() };
    let mut encoder = Encoder::start(&pki, held);
    let (mut agent, address) = measured(&pki, &encoder, 2000).await;
    assert!(address.ip().is_loopback());
    encoder.sees_frame().await;
    let page = until(address, |_| true).await;
    assert_eq!(frames_of(&page), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!((page.get("fth_agent_connected", &[]), page.get("fth_agent_sessions_total", &[])), (1.0, 1.0));
    let (labels, _) = page.samples("fth_agent_encoder_info").next().unwrap();
    assert_eq!(
        (&*labels["server"], &*labels["model"], &*labels["space"]),
        (&*encoder.server(), "tiny", &*SPACE.to_string())
    );

    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    let release = agent.answer().await["release"].as_str().unwrap().to_owned();
    agent.until(|line| line["seq"] == 5).await;
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Reject(RejectCode::NotJpeg, "no"));
    agent.dropped("rejected").await;
    encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Hold);

    // Now one frame is held at the encoder, and nothing else happens.
    let picture = std::fs::metadata(pki.path().join("picture")).unwrap().len() as f64;
    let times = "fth_agent_frame_duration_seconds_count";
    let page = until(address, |page| {
        let [captured, answered, dropped, _] = frames_of(page);
        let sent = page.get("fth_agent_frame_bytes_total", &[]) == captured * picture;
        captured == answered + dropped + 1.0 && page.sum(times) == answered && sent
    })
    .await;
    let [_, answered, dropped, in_progress] = frames_of(&page);
    assert_eq!(in_progress, 1.0);
    assert_eq!(page.get("fth_agent_frames_dropped_total", &[("reason", "rejected")]), dropped);
    let lines = |agent: &Agent, wanted: fn(&Value) -> bool| {
        agent.seen.iter().filter(|line| wanted(line)).count() as f64
    };
    while lines(&agent, is_answer) < 2.0 * answered
        || lines(&agent, |line| line["dropped"].is_string()) < dropped
    {
        agent.next().await.expect("an end while a frame is held");
    }
    assert_eq!(
        agent.seen.len() as f64,
        2.0 * answered + dropped,
        "a line for each head, and for each frame without"
    );
    for stage in ["wait", "capture", "network", "encode", "sink"] {
        assert_eq!(
            page.get("fth_agent_stage_duration_seconds_count", &[("stage", stage)]),
            answered,
            "{stage}"
        );
    }
    let flops = |work| page.get("fth_agent_flops_total", &[("work", work)]);
    assert!(flops("heads") > 0.0 && flops("heads") % answered == 0.0, "the same for every frame");
    assert_eq!(flops("pictures"), 0.0, "a small JPEG goes as it is");
    let encode = page.get("fth_agent_stage_duration_seconds_sum", &[("stage", "encode")]);
    assert!((encode - 0.004 * answered).abs() < 1e-9, "the encoder says 4 ms each: {encode}");
    let head = |name| {
        page.samples(name)
            .filter(|(labels, _)| labels["release"] == release)
            .map(|(_, value)| value)
            .sum::<f64>()
    };
    assert_eq!([head("fth_agent_head_info"), head("fth_agent_head_answers_total")], [1.0, answered]);
    assert_eq!(head("fth_agent_head_failures_total"), 0.0);
    assert!(head("fth_agent_head_busy_seconds_total") > 0.0);
}

#[tokio::test]
async fn a_lost_encoder_is_seen_and_so_is_its_return() {
    let pki = Pki::new();
    let behaviour = Behaviour { on_frame: OnFrame::Hold, ..Behaviour::default() };
    let encoder = Encoder::start(&pki, behaviour.clone());
    let (_agent, address) = measured(&pki, &encoder, 50).await;
    until(address, |page| page.get("fth_agent_connected", &[]) == 1.0).await;
    let socket = encoder.stop().await;
    until(address, |page| page.get("fth_agent_connected", &[]) == 0.0).await;
    let _encoder = Encoder::start_on(socket, &pki, behaviour, protocol::ALPN);
    let page = until(address, |page| page.get("fth_agent_connected", &[]) == 1.0).await;
    assert_eq!(page.get("fth_agent_sessions_total", &[]), 2.0);
}

#[tokio::test]
async fn an_address_that_is_taken_ends_the_agent_with_words() {
    let pki = Pki::new();
    let encoder = Encoder::start(&pki, Behaviour::default());
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished =
        Agent::spawn(run(&pki, &[&encoder], &frames(&pki, 2)).args(["--metrics", &address])).finish().await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains(&format!("metrics = {address}: cannot listen there")),
        "{}",
        finished.stderr
    );
}
