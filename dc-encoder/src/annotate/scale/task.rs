//! Scale's tasks, out and back. Fields as in its API reference: `imageannotation` and `textcollection`, and the responses of
//! both (docs.scale.com/reference: "Image Annotation", "Text Collection", "Callback Format").

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::head::Task;

use crate::annotate::{Answered, Asked};
use crate::archive::{Answer, FrameId, Label, Record, Returned};
use crate::heads::labels::column;

/// Who labels: Scale names nobody.
const WHO: &str = "scale";

/// What is asked about every frame of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) task: Task,
    /// Names to choose from, for classes.
    pub(super) classes: &'a [String],
    /// What boxes are drawn around, for counts that are marked.
    pub(super) boxes: Option<&'a str>,
    pub(super) instruction: Option<&'a str>,
    pub(super) callback_url: Option<&'a str>,
}

impl Question<'_> {
    /// Below `/v1/task/`.
    pub(super) fn kind(&self) -> &'static str {
        if self.marked() { "imageannotation" } else { "textcollection" }
    }

    fn marked(&self) -> bool {
        self.task == Task::Count && self.boxes.is_some()
    }

    /// A frame as a task. `attachment` is its picture's address there.
    pub(super) fn outgoing(&self, record: &Record, (batch, remote): (&str, &str), attachment: &str) -> Value {
        let Record { id, camera, captured_at, path, width, height, sha256, .. } = record;
        let mut value = json!({
            "batch": remote,
            "unique_id": unique_id(remote, *id),
            "metadata": {
                "frame": id, "path": path, "batch": batch, "camera": camera, "captured_at": captured_at,
                "width": width, "height": height, "sha256": sha256,
            },
        });
        if self.marked() {
            value["attachment_type"] = "image".into();
            value["attachment"] = attachment.into();
            value["geometries"] = json!({ "box": { "objects_to_annotate": self.boxes.as_slice() } });
        } else {
            value["attachments"] = json!([{ "type": "image", "content": attachment }]);
            value["fields"] = json!([self.field()]);
        }
        for (key, text) in [("instruction", self.instruction), ("callback_url", self.callback_url)] {
            if let Some(text) = text {
                value[key] = text.into();
            }
        }
        value
    }

    fn field(&self) -> Value {
        let name = column(self.task);
        let mut field = json!({ "type": "number", "field_id": name, "title": name, "required": true });
        match self.task {
            Task::Class => {
                let choices = self.classes.iter().map(|it| json!({ "label": it, "value": it }));
                field["type"] = "category".into();
                field["choices"] = choices.collect();
            }
            Task::Count => field["min"] = 0.into(),
            Task::TimeOfDay => (field["min"], field["max"]) = (0.into(), 1439.into()),
            Task::Scalar => {}
        }
        field
    }
}

/// What makes a task one: the service takes none twice.
pub(super) fn unique_id(remote: &str, id: FrameId) -> String {
    format!("{remote}.{id}")
}

/// The frame that a task says it shows.
pub(super) fn frame(task: &Value) -> Option<FrameId> {
    task["metadata"]["frame"].as_str()?.parse().ok()
}

/// The label of a task that is done; nothing while it is not.
pub(super) fn answer(task: &Value, asked: &Asked<'_>) -> Result<Option<Answered>, String> {
    let number = task["task_id"].as_str().ok_or("a task without `task_id`")?;
    let place = format!("task {}", number.chars().take(80).collect::<String>());
    let wrong = |why: String| format!("{place}: {why}");
    match task["status"].as_str() {
        Some("completed") => {}
        Some("error") => return Err(wrong(format!("failed at Scale: {}", shown(&task["response"])))),
        _ => return Ok(None),
    }
    let id = frame(task).ok_or_else(|| {
        wrong(format!("`metadata.frame` is {}, and no frame id", shown(&task["metadata"]["frame"])))
    })?;
    if let Some(sent) = asked.sent.and_then(|it| it.tasks.get(&id)).filter(|sent| *sent != number) {
        return Err(wrong(format!("frame {id} was sent as task {sent}")));
    }
    let path = task["metadata"]["path"].as_str().map(str::to_owned);
    let path = path.ok_or_else(|| wrong("`metadata.path` is missing".to_owned()))?;
    let side = |key: &str| u32::try_from(task["metadata"][key].as_u64()?).ok();
    let size = side("width").zip(side("height")).map(|(width, height)| [width, height]);
    let answer = read(asked.task, &task["response"]["annotations"], size).map_err(wrong)?;
    let at = task["completed_at"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let at =
        at.ok_or_else(|| wrong(format!("`completed_at` is {}, and no time", shown(&task["completed_at"]))))?;
    let label =
        Label { answer, who: WHO.to_owned(), at, from: format!("scale {}", asked.name), earlier: Vec::new() };
    Ok(Some(Answered { returned: Returned { place, id, path: Some(path), label }, size }))
}

/// `annotations`: a list of boxes, or an object with an entry a field.
fn read(task: Task, annotations: &Value, size: Option<[u32; 2]>) -> Result<Answer, String> {
    let fault = |fault: crate::archive::LabelFault| fault.to_string();
    match annotations {
        Value::Array(all) if task == Task::Count => {
            let [width, height] = size.ok_or("`metadata` names no width and height")?;
            let boxes = all.iter().map(|it| share(it, [width, height])).collect::<Result<Vec<_>, _>>()?;
            Answer::read(task, &boxes.len().into(), boxes).map_err(fault)
        }
        Value::Object(fields) => {
            let value = fields.get(column(task)).unwrap_or(&Value::Null);
            // A field with several answers comes as a list.
            let value = match value.as_array().map(Vec::as_slice) {
                Some([one]) => one,
                Some(_) => return Err(format!("`{}` is {}, want one", column(task), shown(value))),
                None => value,
            };
            Answer::read(task, value, Vec::new()).map_err(fault)
        }
        other => Err(format!("`response.annotations` is {}, which is not what was asked", shown(other))),
    }
}

/// `[x, y, width, height]` in shares; Scale counts in pixels from the upper left corner.
fn share(value: &Value, [width, height]: [u32; 2]) -> Result<[f64; 4], String> {
    let number = |key: &str| value[key].as_f64();
    let read = || Some([number("left")?, number("top")?, number("width")?, number("height")?]);
    let wrong = || format!("a box is {}, want left, top, width and height in pixels", shown(value));
    let [left, top, w, h] = read().ok_or_else(wrong)?;
    let along = |start: f64, length: f64, side: u32| {
        let side = f64::from(side);
        // A box at the edge may stick out by less than a pixel.
        let (from, to) = (start, start + length);
        let from = if from > -1.0 { from.max(0.0) } else { from };
        let to = if to < side + 1.0 { to.min(side) } else { to };
        (from / side, (to - from) / side)
    };
    let ((x, w), (y, h)) = (along(left, w, width), along(top, h, height));
    Ok([x, y, w, h])
}

/// The start of what a platform said.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
