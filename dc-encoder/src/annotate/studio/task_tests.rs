use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::head::Task;

use super::*;

const ID: FrameId = FrameId([7; 16]);

fn record() -> Record {
    Record {
        id: ID,
        camera: "plaza-1".into(),
        captured_at: Timestamp::UNIX_EPOCH,
        zone: "UTC".into(),
        uncertainty_ms: 0,
        source: "test".into(),
        width: 320,
        height: 240,
        bytes: 1,
        sha256: "ab".repeat(32),
        path: "frames/plaza-1/x.jpg".into(),
        added_at: Timestamp::UNIX_EPOCH,
    }
}

fn asked(task: Task) -> Asked<'static> {
    Asked { name: "monday", made_at: Timestamp::UNIX_EPOCH, task, frames: &[ID], sent: None }
}

/// A task that went out as `outgoing` made it, with these annotations.
fn back(task: Task, annotations: &Value) -> Vec<Result<Answered, String>> {
    back_of(task, false, annotations, |_| {})
}

fn back_of(
    task: Task,
    marked: bool,
    annotations: &Value,
    change: impl FnOnce(&mut Value),
) -> Vec<Result<Answered, String>> {
    let mut value = outgoing(&record(), ("monday", task), "/data/upload/1/a.jpg", None);
    value["id"] = 9.into();
    value["annotations"] = annotations.clone();
    change(&mut value);
    let people = BTreeMap::from([(1, "ann@example.com".to_owned())]);
    serde_json::from_value::<Incoming>(value).unwrap().answers(&asked(task), marked, &people)
}

fn annotation(id: u64, by: Value, second: u32, result: Value) -> Value {
    json!({ "id": id, "completed_by": by, "updated_at": format!("2026-06-01T12:00:{second:02}Z"), "result": result })
}

fn number(value: Value) -> Value {
    json!([{ "from_name": "count", "to_name": "image", "type": "number", "value": { "number": value } }])
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Value {
    json!({ "from_name": "boxes", "to_name": "image", "type": "rectanglelabels", "original_width": 320,
        "original_height": 240, "value": { "x": x, "y": y, "width": width, "height": height, "rotation": 0 } })
}

#[test]
fn a_task_carries_its_link_twice_and_what_a_head_says() {
    let guess = Guess { head: "abc".into(), value: 3.0, class: None };
    let task = outgoing(&record(), ("monday", Task::Count), "/data/a.jpg", Some(&guess));
    for part in ["data", "meta"] {
        assert_eq!(task[part]["frame"], ID.to_string(), "{part}");
        assert_eq!(task[part]["path"], "frames/plaza-1/x.jpg", "{part}");
    }
    assert_eq!(task["data"]["image"], "/data/a.jpg");
    let said = json!([{ "model_version": "abc", "result": number(json!(3.0)) }]);
    assert_eq!(task["predictions"], said);
    let class = Guess { head: "abc".into(), value: 0.9, class: Some("fog".into()) };
    let task = outgoing(&record(), ("monday", Task::Class), "/data/a.jpg", Some(&class));
    assert_eq!(task["predictions"][0]["result"][0]["value"], json!({ "choices": ["fog"] }));
}

#[test]
fn everyone_counts_once_with_what_they_said_last() {
    let all = json!([
        annotation(1, json!(1), 5, number(json!(4))),
        annotation(2, json!(1), 3, number(json!(9))),
        annotation(3, json!({ "id": 2, "email": "ben@example.com" }), 4, number(json!(5))),
        annotation(4, json!(77), 4, number(json!(6))),
        json!({ "id": 5, "completed_by": 3, "was_cancelled": true, "updated_at": "2026-06-01T12:00:00Z", "result": [] }),
    ]);
    let answers: Vec<Answered> = back(Task::Count, &all).into_iter().map(Result::unwrap).collect();
    let said: Vec<(&str, Value)> =
        answers.iter().map(|it| (it.returned.label.who.as_str(), it.returned.label.answer.value())).collect();
    assert_eq!(
        said,
        [
            ("ann@example.com", json!(4.0)),
            ("ben@example.com", json!(5.0)),
            ("label-studio user 77", json!(6.0))
        ]
    );
    let first = &answers[0];
    assert_eq!((first.returned.id, first.returned.path.as_deref()), (ID, Some("frames/plaza-1/x.jpg")));
    assert_eq!((first.size, first.returned.label.from.as_str()), (Some([320, 240]), "label-studio monday"));
}

#[test]
fn boxes_are_shares_of_the_picture_and_count() {
    let two = json!([rectangle(50.0, 50.0, 10.0, 20.0), rectangle(-0.00001, 90.0, 10.0, 10.00001)]);
    let answers = back(Task::Count, &json!([annotation(1, json!(1), 0, two)]));
    let Ok(Answered { returned, size }) = &answers[0] else { panic!("{answers:?}") };
    let Answer::Count { value, boxes } = &returned.label.answer else { panic!("{returned:?}") };
    assert_eq!((*value, boxes[0], *size), (2.0, [0.5, 0.5, 0.1, 0.2], Some([320, 240])));
    assert_eq!(boxes[1][0], 0.0, "what sticks out by its rounding is at the edge");
    let none = back_of(Task::Count, true, &json!([annotation(1, json!(1), 0, json!([]))]), |_| {});
    assert_eq!(
        none[0].as_ref().unwrap().returned.label.answer.value(),
        json!(0.0),
        "no boxes drawn: nobody there"
    );
}

#[test]
fn what_is_no_label_is_named_with_its_task_and_annotation() {
    let one = |result: Value| json!([annotation(1, json!(1), 0, result)]);
    let place = "task 9, annotation 1 of ann@example.com: ";
    let choice = |choices: Value| json!([{ "from_name": "class", "to_name": "image", "type": "choices", "value": { "choices": choices } }]);
    let turned = json!([{ "from_name": "boxes", "type": "rectanglelabels",
        "value": { "x": 1.0, "y": 1.0, "width": 5.0, "height": 5.0, "rotation": 30 } }]);
    let text = json!([{ "from_name": "count", "type": "textarea", "value": { "text": ["many"] } }]);
    for (task, result, want) in [
        (Task::Count, number(json!("many")), "`count` is \"many\", want a number from 0 up"),
        (Task::Count, number(json!(-1)), "`count` is -1, want a number from 0 up"),
        (Task::Count, json!([]), "`count` is null, want a number from 0 up"),
        (Task::Count, text, "`count` is answered with textarea, which is not what was asked"),
        (Task::Count, turned, "want x, y, width and height in percent, not turned"),
        (Task::Count, json!([rectangle(95.0, 0.0, 10.0, 10.0)]), "box 0 is"),
        (Task::Class, choice(json!(["fog", "clear"])), "`class` is [\"fog\",\"clear\"], want one"),
        (Task::Class, number(json!(3)), "`class` is null, want a name"),
    ] {
        let error = back(task, &one(result)).remove(0).unwrap_err();
        assert!(error.starts_with(place) && error.contains(want), "{error}\nwant {want}");
    }
}

#[test]
fn a_link_that_was_changed_there_is_named() {
    let one = json!([annotation(1, json!(1), 0, number(json!(3)))]);
    let changed = |change: fn(&mut Value)| back_of(Task::Count, false, &one, change).remove(0).unwrap_err();
    assert_eq!(
        changed(|it| it["data"]["frame"] = "row-7".into()),
        "task 9: `data.frame` is \"row-7\", and no frame id"
    );
    assert_eq!(changed(|it| it["data"]["path"] = Value::Null), "task 9: `data.path` is null, and no path");
    let error = changed(|it| it["data"]["frame"] = FrameId([8; 16]).to_string().into());
    assert!(error.contains("it was changed there"), "{error}");
    let error = changed(|it| it["meta"]["path"] = "other.jpg".into());
    assert!(error.contains("`meta.path` \"other.jpg\": it was changed there"), "{error}");
}
