//! A broker that is told the answers: a real mosquitto, with TLS, a password, and an access list that lets the box do what
//! `docs/camera-box.md` says it must, and nothing else.

use std::path::Path;

use fixtures::mosquitto::{ACL, Heard, Mosquitto};
use fixtures::prometheus::Page;
use fixtures::{ALWAYS, Authority, Leaf};
use serde_json::Value;
use tokio::process::Command;

use crate::agent_encoder::{Behaviour, Encoder, OnFrame};
use crate::agent_pki::Pki;
use crate::agent_process::{Agent, bare, frames, head, manifest, run};

const USER: &str = "plaza-1";
const PASSWORD: &str = "correct horse";
const DOCUMENTED: &str = include_str!("../../../docs/camera-box.md");

const STATUS: &str = "fine-tuned-heads/plaza-1/status";
const STATE: &str = "fine-tuned-heads/plaza-1/frame-number/state";
const AVAILABILITY: &str = "fine-tuned-heads/plaza-1/frame-number/availability";
const CONFIG: &str = "homeassistant/sensor/fth_plaza-1/frame-number/config";

struct World {
    pki: Pki,
    broker: Mosquitto,
    encoder: Encoder,
}

impl World {
    fn start(on_frame: OnFrame) -> Self {
        let pki = Pki::new();
        let broker = Mosquitto::start(USER, PASSWORD, ACL);
        let encoder = Encoder::start(&pki, Behaviour { on_frame, ..Behaviour::default() });
        Self { pki, broker, encoder }
    }

    /// An agent that tells the broker about these many frames.
    fn agent(&self, count: usize) -> Command {
        let mut command = run(&self.pki, &[&self.encoder], &frames(&self.pki, count));
        self.introduce(&mut command, PASSWORD, &self.broker.ca());
        command
    }

    fn introduce(&self, command: &mut Command, password: &str, ca: &Path) {
        command.env("FTH_MQTT_BROKER", self.broker.url()).env("FTH_MQTT_CA", ca);
        command
            .env("FTH_MQTT_USERNAME", USER)
            .env("FTH_MQTT_PASSWORD", password)
            .env("FTH_MQTT_EVERY", "50ms");
    }

    /// `edge-agent check`'s lines about the broker.
    async fn check(&self, password: &str, ca: &Path) -> String {
        let mut command = bare(["check", "--server", &self.encoder.server()]);
        command.arg("--source").arg(self.pki.path().join("frames-1"));
        command.arg("--identity").arg(self.pki.camera(USER));
        command.arg("--allow-unsigned").arg("--head").arg(head(&self.pki, &manifest("frame-number")));
        self.introduce(&mut command, password, ca);
        let said = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
        assert!(!said.contains(password), "{said}");
        said.lines().filter(|line| line.contains("broker")).map(|line| line.to_owned() + "\n").collect()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn value(heard: &Heard) -> bool {
    heard.topic == STATE && !heard.retained && !heard.payload.is_empty()
}

async fn metric(address: std::net::SocketAddr, name: &'static str, wanted: fn(f64) -> bool) {
    let search = async {
        while !wanted(
            tokio::task::spawn_blocking(move || Page::scrape(address)).await.unwrap().get(name, &[]),
        ) {}
    };
    tokio::time::timeout(crate::agent_encoder::LIMIT, search)
        .await
        .unwrap_or_else(|_| panic!("{name} never"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_is_told_again_when_it_is_back() {
    let mut world = World::start(OnFrame::Answer);
    let mut command = world.agent(3000);
    let mut agent = Agent::spawn(command.args(["--fps", "20", "--metrics", "0"]));
    let said = agent.says_after("metrics on http://").await;
    let metrics = said.split('/').next().unwrap().parse().unwrap();
    let mut listener = world.broker.listen();
    listener.until_said(STATUS, "online");
    listener.until("a value", value);
    assert_eq!(json(&listener.of(CONFIG))["unit_of_measurement"], "frames");
    listener.until_said(AVAILABILITY, "online");
    metric(metrics, "fth_agent_mqtt_connected", |is| is == 1.0).await;
    metric(metrics, "fth_agent_mqtt_published_total", |count| count > 0.0).await;

    world.broker.signal("KILL");
    agent.says("mqtt: ").await;
    metric(metrics, "fth_agent_mqtt_connected", |is| is == 0.0).await;
    metric(metrics, "fth_agent_mqtt_dropped_total", |count| count > 0.0).await;
    let before = agent.seen.len();
    agent.until(|line| line["seq"].as_u64().unwrap() as usize > before + 20).await;

    // It has forgotten everything, and learns it anew.
    world.broker.start_again();
    let mut listener = world.broker.listen();
    listener.until_said(STATUS, "online");
    listener.until("a value", value);
    assert_eq!(json(&listener.of(CONFIG))["state_topic"], STATE);
    listener.until_said(AVAILABILITY, "online");
    metric(metrics, "fth_agent_mqtt_connections_total", |count| count == 2.0).await;

    // The box loses its power: the broker says so.
    agent.signal("KILL");
    listener.until_said(STATUS, "offline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stalls_holds_up_no_frame() {
    let mut world = World::start(OnFrame::Hold);
    let mut listener = world.broker.listen();
    let agent = Agent::spawn(&mut world.agent(500));
    listener.until_said(STATUS, "online");
    world.broker.signal("STOP");
    world.encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    let finished = agent.finish().await;
    world.broker.signal("CONT");
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.assert_accounted(), [500, 500, 0]);
    assert!(finished.stderr.contains("did not take the last messages"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_tells_the_newest_value_and_goes_offline() {
    let world = World::start(OnFrame::Hold);
    let mut listener = world.broker.listen();
    // A sensor of an earlier run, of a head that is no more.
    let old = "homeassistant/sensor/fth_plaza-1/old/config";
    let old_state = "fine-tuned-heads/plaza-1/old/state";
    world.broker.say(old_state, "{}", true);
    world.broker.say(old, &format!("{{\"state_topic\":\"{old_state}\"}}"), true);
    let strange = "homeassistant/sensor/fth_plaza-10/old/config";
    world.broker.say(strange, "{}", true);
    let mut command = world.agent(30);
    command.args(["--mqtt-every", "1h"]);
    let agent = Agent::spawn(&mut command);
    listener.until_said(STATUS, "online");
    listener.until_said(old, "");
    listener.until_said(old_state, "");
    assert_eq!(listener.of(strange), "{}", "another box's");
    world.encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    let finished = agent.finish().await;
    assert_eq!(finished.assert_accounted(), [30, 30, 0], "{}", finished.stderr);
    listener.until_said(STATUS, "offline");
    let newest = json(&listener.of(STATE));
    assert_eq!((&newest["seq"], &newest["value"]), (&29.into(), &29.0.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_assistant_that_starts_is_told_again() {
    let world = World::start(OnFrame::Hold);
    let mut listener = world.broker.listen();
    let agent = Agent::spawn(&mut world.agent(3));
    let first = listener.next(CONFIG);
    listener.until_said(AVAILABILITY, "offline");
    // The agent listens as soon as the broker has told it what it remembers.
    listener.until_said(STATUS, "online");
    let config = loop {
        world.broker.say("homeassistant/status", "online", false);
        let heard = listener.until("the birth, or a sensor", |heard| {
            heard.topic == CONFIG || heard.topic == "homeassistant/status"
        });
        if heard.topic == CONFIG {
            break heard.payload;
        }
    };
    assert_eq!(config, first);
    world.encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    agent.finish().await.assert_accounted();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_once_and_costs_nothing() {
    let world = World::start(OnFrame::Hold);
    let mut command = world.agent(20);
    command.env("FTH_MQTT_PASSWORD", "hunter2").args(["--log", "info,edge_agent=debug"]);
    let mut agent = Agent::spawn(&mut command);
    let wanted = "refuses user \"plaza-1\"; put the right password into FTH_MQTT_PASSWORD";
    agent.says(wanted).await;
    // The second attempt, which is not worth a warning.
    agent.says("DEBUG edge_agent::sinks::mqtt::client: mqtt: the broker mqtts://localhost").await;
    world.encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    let finished = agent.finish().await;
    assert_eq!(finished.assert_accounted(), [20, 20, 0]);
    let warnings = finished.stderr.lines().filter(|line| line.contains("WARN") && line.contains("mqtt:"));
    assert_eq!(warnings.count(), 1, "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_authority_is_said_and_costs_nothing() {
    let world = World::start(OnFrame::Hold);
    let authority = Authority::new("another authority", ALWAYS);
    let other = authority.issue(&Leaf::server(ALWAYS)).join("ca.pem");
    let mut command = world.agent(20);
    world.introduce(&mut command, PASSWORD, &other);
    let mut agent = Agent::spawn(&mut command);
    agent.says("is signed by an authority that this box does not know; put that authority's").await;
    world.encoder.behave(|behaviour| behaviour.on_frame = OnFrame::Answer);
    assert_eq!(agent.finish().await.assert_accounted(), [20, 20, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_how_the_broker_is() {
    let mut world = World::start(OnFrame::Answer);
    frames(&world.pki, 1);
    let (ca, url) = (world.broker.ca(), world.broker.url());
    let good = world.check(PASSWORD, &ca).await;
    assert!(good.starts_with(&format!("ok   broker {url}: TLS, takes user \"plaza-1\"")), "{good}");
    let refused = world.check("hunter2", &ca).await;
    assert!(refused.starts_with("FAIL") && refused.contains("refuses user \"plaza-1\""), "{refused}");
    let authority = Authority::new("another authority", ALWAYS);
    let other = authority.issue(&Leaf::server(ALWAYS)).join("ca.pem");
    let unknown = world.check(PASSWORD, &other).await;
    assert!(unknown.starts_with("FAIL") && unknown.contains("does not know"), "{unknown}");
    world.broker.signal("KILL");
    let gone = world.check(PASSWORD, &ca).await;
    assert!(gone.starts_with("FAIL") && gone.contains("nothing listens"), "{gone}");
}

#[test]
fn the_access_list_is_the_documented_one() {
    for line in ACL.lines() {
        assert!(DOCUMENTED.contains(line), "docs/camera-box.md does not have: {line}");
    }
}
