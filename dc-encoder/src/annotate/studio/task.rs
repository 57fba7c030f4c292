//! Label Studio's tasks, out and back. Fields as in its documentation ("Label Studio JSON format").

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::head::Task;

use super::markup::{BOXES, IMAGE};
use crate::annotate::{Answered, Asked, Guess};
use crate::archive::{Answer, FrameId, Label, Record, Returned};
use crate::heads::labels::column;

/// A frame as a task: its picture's address, and twice (`data` is shown, `meta` is not) what it is held against later.
pub(super) fn outgoing(
    record: &Record,
    (batch, task): (&str, Task),
    image: &str,
    guess: Option<&Guess>,
) -> Value {
    let Record { id, camera, captured_at, path, width, height, sha256, .. } = record;
    let mut value = json!({
        "data": { IMAGE: image, "frame": id, "path": path, "batch": batch, "camera": camera, "captured_at": captured_at },
        "meta": { "frame": id, "path": path, "batch": batch, "width": width, "height": height, "sha256": sha256 },
    });
    if let Some(guess) = guess {
        value["predictions"] = json!([{ "model_version": guess.head, "result": [result(task, guess)] }]);
    }
    value
}

fn result(task: Task, guess: &Guess) -> Value {
    let (kind, value) = match &guess.class {
        Some(class) => ("choices", json!({ "choices": [class] })),
        None => ("number", json!({ "number": guess.value })),
    };
    json!({ "from_name": column(task), "to_name": IMAGE, "type": kind, "value": value })
}

/// A task as it comes back. What is not named here is left alone.
#[derive(Debug, Deserialize)]
pub(super) struct Incoming {
    pub(super) id: u64,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    meta: Value,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    id: u64,
    /// A number, or an object with an address.
    #[serde(default)]
    completed_by: Value,
    #[serde(default)]
    was_cancelled: bool,
    updated_at: Timestamp,
    #[serde(default)]
    result: Vec<Region>,
}

#[derive(Debug, Deserialize)]
struct Region {
    from_name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    value: Value,
    original_width: Option<u32>,
    original_height: Option<u32>,
}

impl Incoming {
    /// The batch it says it is of.
    pub(super) fn batch(&self) -> Option<&str> {
        self.data["batch"].as_str()
    }

    /// The frame it says it shows.
    pub(super) fn frame(&self) -> Option<FrameId> {
        self.data["frame"].as_str()?.parse().ok()
    }

    /// What each person said about it last, and what is no label.
    pub(super) fn answers(
        &self,
        asked: &Asked<'_>,
        marked: bool,
        people: &BTreeMap<u64, String>,
    ) -> Vec<Result<Answered, String>> {
        let place = format!("task {}", self.id);
        let id = match self.link() {
            Ok(id) => id,
            Err(why) => return vec![Err(format!("{place}: {why}"))],
        };
        let mut last: BTreeMap<String, &Annotation> = BTreeMap::new();
        for annotation in self.annotations.iter().filter(|it| !it.was_cancelled) {
            let who = annotation.who(people);
            match last.get(&who) {
                Some(it) if (it.updated_at, it.id) > (annotation.updated_at, annotation.id) => {}
                _ => drop(last.insert(who, annotation)),
            }
        }
        let answered = |(who, annotation): (String, &Annotation)| {
            let place = format!("{place}, annotation {} of {who}", annotation.id);
            let answer = annotation.answer(asked.task, marked).map_err(|why| format!("{place}: {why}"))?;
            let from = format!("label-studio {}", asked.name);
            let label = Label { answer, who, at: annotation.updated_at, from, earlier: Vec::new() };
            let path = self.data["path"].as_str().map(str::to_owned);
            let size = annotation.size().or_else(|| self.size());
            Ok(Answered { returned: Returned { place, id, path, label }, size })
        };
        last.into_iter().map(answered).collect()
    }

    /// The frame; `data` and `meta` must name the same one, by id and by path.
    fn link(&self) -> Result<FrameId, String> {
        let id =
            self.frame().ok_or_else(|| format!("`data.frame` is {}, and no frame id", self.data["frame"]))?;
        if !self.data["path"].is_string() {
            return Err(format!("`data.path` is {}, and no path", self.data["path"]));
        }
        for key in ["frame", "path"] {
            let (data, meta) = (&self.data[key], &self.meta[key]);
            if !meta.is_null() && data != meta {
                return Err(format!("`data.{key}` is {data} and `meta.{key}` {meta}: it was changed there"));
            }
        }
        Ok(id)
    }

    fn size(&self) -> Option<[u32; 2]> {
        let side = |key: &str| u32::try_from(self.meta[key].as_u64()?).ok();
        Some([side("width")?, side("height")?])
    }
}

impl Annotation {
    fn who(&self, people: &BTreeMap<u64, String>) -> String {
        let by = &self.completed_by;
        let number = by.as_u64().or_else(|| by["id"].as_u64());
        let email = by["email"].as_str().map(str::to_owned);
        let known = || people.get(&number?).cloned();
        email.or_else(known).unwrap_or_else(|| match number {
            Some(number) => format!("label-studio user {number}"),
            None => "label-studio user".to_owned(),
        })
    }

    /// What it answers. `marked`: boxes alone are an answer, and none of them are none there.
    fn answer(&self, task: Task, marked: bool) -> Result<Answer, String> {
        let (mut value, mut boxes) = (Value::Null, Vec::new());
        for region in &self.result {
            match (region.from_name.as_deref(), region.kind.as_str()) {
                (Some(name), "number") if name == column(task) && task != Task::Class => {
                    value = region.value["number"].clone();
                }
                (Some(name), "choices") if name == column(task) && task == Task::Class => {
                    value = match region.value["choices"].as_array().map(Vec::as_slice) {
                        Some([one]) => one.clone(),
                        _ => return Err(format!("`class` is {}, want one", region.value["choices"])),
                    };
                }
                (Some(name), kind) if name == column(task) => {
                    return Err(format!("`{name}` is answered with {kind}, which is not what was asked"));
                }
                (Some(BOXES), "rectanglelabels") if task == Task::Count => boxes.push(region.rectangle()?),
                _ => {}
            }
        }
        if task == Task::Count && marked && value.is_null() && boxes.is_empty() {
            value = 0.into();
        }
        Answer::read(task, &value, boxes).map_err(|fault| fault.to_string())
    }

    fn size(&self) -> Option<[u32; 2]> {
        self.result.iter().find_map(|it| Some([it.original_width?, it.original_height?]))
    }
}

impl Region {
    /// `[x, y, width, height]` in shares; Label Studio counts in percent of the picture's sides.
    fn rectangle(&self) -> Result<[f64; 4], String> {
        /// A box at the edge may stick out by its rounding, in shares.
        const ROUNDING: f64 = 1e-3;
        let wrong = || format!("a box is {}, want x, y, width and height in percent, not turned", self.value);
        let number = |key: &str| self.value[key].as_f64().map(|it| it / 100.0);
        if self.value["rotation"].as_f64().is_some_and(|it| it != 0.0) {
            return Err(wrong());
        }
        let read = || Some([number("x")?, number("y")?, number("width")?, number("height")?]);
        let [mut x, mut y, mut width, mut height] = read().ok_or_else(wrong)?;
        for (start, length) in [(&mut x, &mut width), (&mut y, &mut height)] {
            if (-ROUNDING..0.0).contains(start) {
                (*length, *start) = (*length + *start, 0.0);
            }
            if (1.0..1.0 + ROUNDING).contains(&(*start + *length)) {
                *length = 1.0 - *start;
            }
        }
        Ok([x, y, width, height])
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
