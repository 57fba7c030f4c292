//! What is said on the topics: JSON as Home Assistant documents it for MQTT sensors
//! (<https://www.home-assistant.io/integrations/sensor.mqtt/>), and values that other programs read as easily.

use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::head::Task;

use super::names::Names;
use super::sensor::Sensor;
use crate::sinks::Answer;

/// What status and availability topics say.
pub(super) const ONLINE: &str = "online";
/// See [`ONLINE`].
pub(super) const OFFLINE: &str = "offline";

const PROGRAM: &str = "Fine-Tuned Heads";

/// Minutes of a day, for heads that tell the time.
const DAY: f64 = 1440.0;

/// What makes Home Assistant a sensor of a head. A value older than `fresh_for` counts as none.
pub(super) fn config(names: &Names, sensor: &Sensor, fresh_for: Duration) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let Sensor { id, .. } = sensor;
    let mut config = json!({
        "name": id,
        "unique_id": names.unique(id),
        "state_topic": names.state(id),
        "json_attributes_topic": names.attributes(id),
        "availability": [{ "topic": names.status() }, { "topic": names.availability(id) }],
        "availability_mode": "all",
        "expire_after": fresh_for.as_secs(),
        "device": {
            "identifiers": [names.device()],
            "name": names.camera,
            "manufacturer": PROGRAM,
            "model": "camera box",
            "sw_version": version,
        },
        "origin": { "name": PROGRAM, "sw_version": version },
    });
    let kind = match sensor.task {
        // `options` go with no unit and no state class.
        Task::Class => json!({
            "device_class": "enum",
            "options": sensor.classes,
            "value_template": "{{ value_json.class }}",
            "icon": "mdi:shape-outline",
        }),
        Task::TimeOfDay => json!({ "value_template": "{{ value_json.time }}", "icon": "mdi:clock-outline" }),
        Task::Count | Task::Scalar => number(sensor),
    };
    if let (Value::Object(config), Value::Object(kind)) = (&mut config, kind) {
        config.extend(kind);
    }
    config
}

fn number(sensor: &Sensor) -> Value {
    let icon = if sensor.task == Task::Count { "mdi:counter" } else { "mdi:gauge" };
    let mut kind = Map::new();
    kind.insert("value_template".into(), "{{ value_json.value }}".into());
    kind.insert("suggested_display_precision".into(), 1.into());
    kind.insert("icon".into(), icon.into());
    if !sensor.unit.is_empty() {
        kind.insert("unit_of_measurement".into(), sensor.unit.as_str().into());
    }
    // The mean of what goes round says nothing: no statistics of it.
    if !sensor.circular {
        kind.insert("state_class".into(), "measurement".into());
    }
    Value::Object(kind)
}

/// What changes with a head's release, not with its answers: a recorder keeps each change.
pub(super) fn attributes(sensor: &Sensor) -> Value {
    let mut attributes = json!({
        "release": sensor.release,
        "version": env!("CARGO_PKG_VERSION"),
        "space": sensor.space,
    });
    if let Some((metric, value)) = &sensor.score {
        attributes["held_out"] = json!({ "metric": metric, "value": rounded(*value) });
    }
    attributes
}

/// An answer; keys as in the agent's JSON lines, `probability` and `time` where those are what the value means.
pub(super) fn state(sensor: &Sensor, answer: &Answer) -> Value {
    let mut state = json!({
        "value": rounded(answer.value),
        "unit": answer.head.unit,
        "release": answer.head.release,
        "seq": answer.frame.seq,
        "captured_at": format!("{:.3}", answer.frame.captured_at),
        "age_ms": rounded(answer.age.as_secs_f64() * 1e3),
    });
    if let Some(class) = answer.class_name() {
        state["class"] = class.into();
        state["probability"] = rounded(answer.value).into();
    }
    if sensor.task == Task::TimeOfDay {
        state["time"] = time_of_day(answer.value).into();
    }
    if let Some(interval) = answer.interval {
        state["interval"] = interval.map(rounded).to_vec().into();
    }
    state
}

/// `14:05`, of minutes since midnight.
fn time_of_day(minutes: f64) -> String {
    let minute = minutes.rem_euclid(DAY).floor();
    format!("{:02}:{:02}", (minute / 60.0).floor(), minute % 60.0)
}

/// More digits would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::samples::{answer, names, sensor};
    use super::*;

    fn of(task: Task) -> Value {
        let classes = if task == Task::Class { vec!["clear".into(), "fog".into()] } else { Vec::new() };
        let sensor = Sensor { task, classes, ..sensor("people-count", "0123456789ab") };
        config(&names(), &sensor, Duration::from_secs(30))
    }

    #[test]
    fn a_count_is_a_measurement_with_a_unit() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            of(Task::Count),
            json!({
                "name": "people-count",
                "unique_id": "fth_plaza-1_people-count",
                "state_topic": "fine-tuned-heads/plaza-1/people-count/state",
                "json_attributes_topic": "fine-tuned-heads/plaza-1/people-count/attributes",
                "availability": [
                    { "topic": "fine-tuned-heads/plaza-1/status" },
                    { "topic": "fine-tuned-heads/plaza-1/people-count/availability" },
                ],
                "availability_mode": "all",
                "expire_after": 30,
                "device": {
                    "identifiers": ["fth_plaza-1"],
                    "name": "plaza-1",
                    "manufacturer": "Fine-Tuned Heads",
                    "model": "camera box",
                    "sw_version": version,
                },
                "origin": { "name": "Fine-Tuned Heads", "sw_version": version },
                "value_template": "{{ value_json.value }}",
                "suggested_display_precision": 1,
                "icon": "mdi:counter",
                "unit_of_measurement": "people",
                "state_class": "measurement",
            })
        );
    }

    #[test]
    fn a_class_is_one_of_its_options_and_has_neither_unit_nor_statistics() {
        let class = of(Task::Class);
        assert_eq!((&class["device_class"], &class["options"]), (&json!("enum"), &json!(["clear", "fog"])));
        for key in ["unit_of_measurement", "state_class", "suggested_display_precision"] {
            assert!(class.get(key).is_none(), "Home Assistant refuses {key} beside options");
        }
        let fog = Answer { class: Some(1), value: 0.875, ..answer("0123456789ab", 7) };
        let mut head = (*fog.head).clone();
        (head.classes, head.unit) = (vec!["clear".into(), "fog".into()], "probability".into());
        let fog = Answer { head: head.into(), ..fog };
        let told = state(&Sensor { task: Task::Class, ..sensor("weather", "0123456789ab") }, &fog);
        assert_eq!((&told["class"], &told["probability"]), (&json!("fog"), &json!(0.875)));
    }

    #[test]
    fn the_time_of_day_is_a_time_and_what_goes_round_has_no_mean() {
        assert_eq!(of(Task::TimeOfDay)["value_template"], "{{ value_json.time }}");
        for (minutes, time) in
            [(0.0, "00:00"), (845.9, "14:05"), (1439.99, "23:59"), (1440.0, "00:00"), (-1.0, "23:59")]
        {
            assert_eq!(time_of_day(minutes), time);
        }
        let round = Sensor { task: Task::Scalar, circular: true, ..sensor("a", "r") };
        let config = config(&names(), &round, Duration::from_secs(30));
        assert!(config.get("state_class").is_none() && config.get("unit_of_measurement").is_some());
    }

    #[test]
    fn a_value_says_when_and_by_which_release() {
        let told = state(&sensor("people-count", "0123456789ab"), &answer("0123456789ab", 7));
        assert_eq!(
            told,
            json!({
                "value": 4.25, "unit": "people", "release": "0123456789ab", "seq": 7,
                "captured_at": "2023-06-13T03:11:46.040Z", "age_ms": 87.654, "interval": [3.0, 5.5],
            })
        );
        let told =
            attributes(&Sensor { score: Some(("mae".into(), 0.51234)), ..sensor("a", "0123456789ab") });
        assert_eq!((&told["release"], &told["held_out"]["value"]), (&json!("0123456789ab"), &json!(0.512)));
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    }
}
