//! Where operations and joules went, as an operator reads it after a run.

use serde_json::Value;
use tests::process;
use tests::setup::CAMERA;

use crate::agent::{Agent, live_list, small_setup};

const FRAMES: u32 = 12;

#[test]
fn an_operator_reads_what_a_run_took_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), FRAMES);
    let pki = prepared.pki.display().to_string();
    process::run("dc-encoder", ["pki", "issue", "--dir", &pki, "--operator", "ann"]).unwrap();
    let uplink = ["--passthrough", "false"];
    let source = live_list(&prepared);
    let mut agent =
        Agent::start(&prepared, dir.path(), &server.address, &[&["--source", &source], &uplink[..]].concat());
    assert_eq!(agent.finish(), [u64::from(FRAMES), u64::from(FRAMES), 0]);

    let operator = prepared.pki.join("operators/ann").display().to_string();
    let ask = |more: &[&str]| {
        let args = ["ledger", "--server", &server.address, "--cert", &operator];
        process::run("dc-encoder", [&args, more].concat()).unwrap()
    };
    let page: Value = serde_json::from_str(&ask(&["--json"])).unwrap();
    let camera = &page["cameras"][0];
    let number = |key: &str| camera[key].as_u64().unwrap_or_else(|| panic!("no {key} in {camera}"));
    assert_eq!((camera["camera"].as_str(), number("frames")), (Some(CAMERA), u64::from(FRAMES)));
    assert_eq!(number("encoder_flops"), u64::from(FRAMES) * page["frame_flops"].as_u64().unwrap());
    // The agent's farewell brings what it computed since its last ping.
    assert!(number("head_flops") > 0 && number("picture_flops") > 1_000_000 * u64::from(FRAMES), "{camera}");
    assert!(number("received_bytes") > 0 && camera["encoder_joules"].as_f64().unwrap() > 0.0, "{camera}");
    let shares =
        ["datacenter_share", "datacenter_share_without_pictures"].map(|key| page[key].as_f64().unwrap());
    assert!(shares[0] > 0.9 && shares[1] > 0.999, "{shares:?}");

    let text = ask(&["--cameras", CAMERA]);
    assert!(text.contains("share of the operations in the datacenter: 9"), "{text}");
    assert!(text.contains("the same encoder on the box:"), "{text}");
}
