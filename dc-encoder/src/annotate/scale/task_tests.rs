use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::head::Task;

use super::*;
use crate::annotate::Sent;

const ID: FrameId = FrameId([7; 16]);

fn done(response: Value) -> Value {
    json!({
        "task_id": "5774cc78", "status": "completed", "completed_at": "2026-06-01T12:00:00.904Z",
        "metadata": { "frame": ID, "path": "frames/a.jpg", "width": 200, "height": 100 },
        "response": { "annotations": response },
    })
}

fn read_back(task: Task, value: &Value) -> Result<Option<Answered>, String> {
    let tasks = BTreeMap::from([(ID, "5774cc78".to_owned())]);
    let sent = Sent { to: "scale".into(), tasks, ..Sent::default() };
    answer(
        value,
        &Asked { name: "monday", made_at: Timestamp::UNIX_EPOCH, task, frames: &[ID], sent: Some(&sent) },
    )
}

#[test]
fn boxes_in_pixels_become_shares_and_a_count() {
    let boxes = json!([
        { "label": "person", "left": 20, "top": 10, "width": 40, "height": 50, "uuid": "a", "type": "box" },
        { "label": "person", "left": -0.4, "top": 60, "width": 20.4, "height": 40.5 },
    ]);
    let answered = read_back(Task::Count, &done(boxes)).unwrap().unwrap();
    let label = answered.returned.label;
    let boxes = vec![[0.1, 0.1, 0.2, 0.5], [0.0, 0.6, 0.1, 0.4]];
    assert_eq!(label.answer, Answer::Count { value: 2.0, boxes });
    assert_eq!((label.who.as_str(), label.from.as_str()), ("scale", "scale monday"));
    assert_eq!((label.at, answered.size), ("2026-06-01T12:00:00.904Z".parse().unwrap(), Some([200, 100])));
    let none = read_back(Task::Count, &done(json!([]))).unwrap().unwrap();
    assert_eq!(none.returned.label.answer.value(), json!(0.0));
}

#[test]
fn fields_come_back_by_name_as_text_or_in_a_list() {
    let value =
        |task, response| read_back(task, &done(response)).unwrap().unwrap().returned.label.answer.value();
    assert_eq!(value(Task::Count, json!({ "count": "11" })), json!(11.0), "numbers are documented as text");
    assert_eq!(value(Task::Count, json!({ "count": [3] })), json!(3.0));
    assert_eq!(value(Task::Class, json!({ "class": "fog" })), json!("fog"));
}

#[test]
fn what_is_not_done_is_no_label_and_what_is_wrong_is_named() {
    let pending = |status: &str| {
        let mut task = done(json!({ "count": 1 }));
        task["status"] = status.into();
        read_back(Task::Count, &task)
    };
    assert_eq!((pending("pending"), pending("canceled")), (Ok(None), Ok(None)));
    assert!(pending("error").unwrap_err().starts_with("task 5774cc78: failed at Scale: "));
    let wrong = |task, response| read_back(task, &done(response)).unwrap_err();
    assert_eq!(
        wrong(Task::Count, json!({ "count": "many" })),
        "task 5774cc78: `count` is \"many\", want a number from 0 up"
    );
    assert_eq!(
        wrong(Task::Class, json!({ "class": ["fog", "clear"] })),
        "task 5774cc78: `class` is [\"fog\",\"clear\"], want one"
    );
    assert!(
        wrong(Task::Class, json!([])).contains("`response.annotations` is [], which is not what was asked")
    );
    assert!(
        wrong(Task::Count, json!([{ "left": 1 }])).contains("want left, top, width and height in pixels")
    );
    assert!(
        wrong(Task::Count, json!([{ "left": 190, "top": 0, "width": 20, "height": 5 }])).contains("box 0 is")
    );
    let change = |change: fn(&mut Value)| {
        let mut task = done(json!({ "count": 1 }));
        change(&mut task);
        read_back(Task::Count, &task).unwrap_err()
    };
    assert!(
        change(|it| it["metadata"]["frame"] = "x".into())
            .contains("`metadata.frame` is \"x\", and no frame id")
    );
    assert!(change(|it| it["metadata"]["path"] = Value::Null).contains("`metadata.path` is missing"));
    assert!(
        change(|it| it["completed_at"] = "soon".into()).contains("`completed_at` is \"soon\", and no time")
    );
    assert_eq!(
        change(|it| it["task_id"] = "other".into()),
        format!("task other: frame {ID} was sent as task 5774cc78")
    );
}
