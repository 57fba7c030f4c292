//! What Home Assistant sees of a camera box, at a real broker: a device with a sensor for each head, that follow the heads.

use std::path::Path;

use fixtures::mosquitto::{ACL, Listener, Mosquitto};
use serde_json::{Value, json};
use tests::answers::Line;
use tests::setup::CAMERA;

use crate::agent::{Agent, live_list, small_setup};
use crate::swap::{CHANNEL, Shop};

const PASSWORD: &str = "correct horse";

const STATUS: &str = "fine-tuned-heads/plaza-1/status";
const COUNT: &str = "fine-tuned-heads/plaza-1/people-count";
const CONFIG: &str = "homeassistant/sensor/fth_plaza-1/people-count/config";

/// Writes the table that a person would write, and the file with the password.
fn configure(dir: &Path, broker: &Mosquitto) -> String {
    let at = |name: &str| dir.join(name);
    std::fs::write(at("mqtt-password"), format!("{PASSWORD}\n")).unwrap();
    let table = format!(
        "[mqtt]\nbroker = {:?}\nca = {:?}\nusername = {CAMERA:?}\npassword_file = \"mqtt-password\"\nevery = \"100ms\"\n",
        broker.url(),
        broker.ca(),
    );
    std::fs::write(at("agent.toml"), table).unwrap();
    at("agent.toml").display().to_string()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The newest of these that is as wanted.
fn until(listener: &mut Listener, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let said = |text: &str| !text.is_empty() && wanted(&parsed(text));
    if let Some(last) = listener.last.get(topic).filter(|text| said(text)) {
        return parsed(last);
    }
    parsed(&listener.until(topic, |heard| heard.topic == topic && said(&heard.payload)).payload)
}

#[test]
fn sensors_come_answer_follow_the_heads_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::open(dir.path());
    let broker = Mosquitto::start(CAMERA, PASSWORD, ACL);
    let mut listener = broker.listen();
    let ((first, one), (second, two)) = (shop.head("people"), shop.head("persons"));
    let config = configure(dir.path(), &broker);
    let mut agent = shop.agent_with(&["--fps", "1", "--config", &config]);
    listener.until_said(STATUS, "online");
    assert!(!listener.last.contains_key(CONFIG), "no heads yet, no sensors");

    shop.operate(&["publish", &first, "--channel", CHANNEL]);
    let sensor = until(&mut listener, CONFIG, |_| true);
    assert_eq!(sensor["unique_id"], "fth_plaza-1_people-count");
    assert_eq!(sensor["state_topic"], format!("{COUNT}/state"));
    assert_eq!(
        (&sensor["unit_of_measurement"], &sensor["state_class"]),
        (&json!("people"), &json!("measurement"))
    );
    assert_eq!(sensor["device"]["identifiers"], json!(["fth_plaza-1"]));
    assert_eq!(
        sensor["availability"],
        json!([{ "topic": STATUS }, { "topic": format!("{COUNT}/availability") }])
    );
    let attributes = until(&mut listener, &format!("{COUNT}/attributes"), |_| true);
    assert_eq!(attributes["release"], one);
    let line = agent.until("an answer", Line::is_answer);
    let told = until(&mut listener, &format!("{COUNT}/state"), |told| told["seq"] == line.seq);
    assert_eq!(told["release"], one);
    let value = told["value"].as_f64().unwrap();
    assert!((value - line.value.unwrap()).abs() < 1e-3, "{value} is not {line:?}");
    listener.until_said(&format!("{COUNT}/availability"), "online");

    // Another release: the same sensor, in another unit.
    shop.operate(&["publish", &second, "--channel", CHANNEL]);
    let swapped = until(&mut listener, CONFIG, |sensor| sensor["unit_of_measurement"] == "persons");
    assert_eq!(swapped["unique_id"], sensor["unique_id"]);
    until(&mut listener, &format!("{COUNT}/attributes"), |attributes| attributes["release"] == two);
    until(&mut listener, &format!("{COUNT}/state"), |told| told["release"] == two);

    // The head is for other cameras from now on: the broker forgets the sensor and all that it said.
    shop.operate(&["publish", &second, "--channel", CHANNEL, "--cameras", "gate"]);
    for topic in
        [CONFIG, &format!("{COUNT}/state"), &format!("{COUNT}/attributes"), &format!("{COUNT}/availability")]
    {
        listener.until_said(topic, "");
    }

    let [captured, answered, dropped] = agent.stop();
    assert_eq!(captured, answered + dropped);
    listener.until_said(STATUS, "offline");
    assert!(!agent.process.log().contains(PASSWORD));
}

#[test]
fn two_heads_are_two_sensors_of_one_device() {
    let dir = tempfile::tempdir().unwrap();
    let (prepared, server) = small_setup(dir.path(), 60);
    let broker = Mosquitto::start(CAMERA, PASSWORD, ACL);
    let mut listener = broker.listen();
    let config = configure(dir.path(), &broker);
    let source = live_list(&prepared);
    let extra = ["--source", &source, "--fps", "1", "--deadline", "1m", "--config", &config];
    let mut agent = Agent::start(&prepared, dir.path(), &server.address, &extra);
    let time = "homeassistant/sensor/fth_plaza-1/time-of-day/config";
    let [count, time] = [CONFIG, time].map(|topic| until(&mut listener, topic, |_| true));
    assert_eq!(count["device"], time["device"]);
    assert_eq!(time["value_template"], "{{ value_json.time }}");
    assert!(time.get("state_class").is_none(), "the time of day has no mean");
    let told = until(&mut listener, "fine-tuned-heads/plaza-1/time-of-day/state", |_| true);
    let (minutes, shown) = (told["value"].as_f64().unwrap(), told["time"].as_str().unwrap());
    let (hours, rest) = shown.split_once(':').unwrap();
    let back = 60.0 * hours.parse::<f64>().unwrap() + rest.parse::<f64>().unwrap();
    assert!((minutes - back).rem_euclid(1440.0) < 1.0, "{told}");
    agent.stop();
    listener.until_said(STATUS, "offline");
}
