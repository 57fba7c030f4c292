//! Scale, played: every request is held against the published API reference.

use serde_json::{Map, Value, json};

use super::fake::{self, Answer, Fault, Request};

pub const KEY: &str = "live_0123456789abcdef";
/// `live_0123456789abcdef:` in base64, as RFC 7617 has it.
pub const BASIC: &str = "Basic bGl2ZV8wMTIzNDU2Nzg5YWJjZGVmOg==";
pub const CALLBACK: &str = "https://plaza.example/scale";
pub const CALLBACK_KEY: &str = "live_auth_fedcba9876543210";

/// What the reference documents of batches, files and tasks.
#[derive(Default)]
pub struct Service {
    /// Name, project, status.
    pub batches: Vec<(String, String, &'static str)>,
    pub files: Vec<Vec<u8>>,
    /// What each was said to be.
    about: Vec<Map<String, Value>>,
    pub tasks: Vec<Value>,
    pub faults: Vec<Fault>,
    /// What no client that keeps to the reference does.
    pub violations: Vec<String>,
    pub seen: usize,
}

impl fake::Service for Service {
    fn faults(&mut self) -> &mut Vec<Fault> {
        &mut self.faults
    }

    fn done(&mut self, request: &Request) -> Answer {
        self.seen += 1;
        if request.headers.get("authorization").map(String::as_str) != Some(BASIC) {
            return Answer::Json(401, json!({ "status_code": 401, "error": "No valid API key provided." }));
        }
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("POST", ["v1", "batches"]) => self.batch(&request.json()),
            ("GET", ["v1", "batches", name]) => match self.batches.iter().find(|it| it.0 == *name) {
                Some((name, project, status)) => {
                    Answer::Json(200, json!({ "name": name, "project": project, "status": status }))
                }
                None => Answer::Json(404, json!({ "error": "no such batch" })),
            },
            ("POST", ["v1", "batches", name, "finalize"]) => {
                match self.batches.iter_mut().find(|it| it.0 == *name && it.2 == "staging") {
                    Some(batch) => {
                        batch.2 = "in_progress";
                        Answer::Json(200, json!({ "name": name, "status": "in_progress" }))
                    }
                    None => Answer::Json(400, json!({ "error": "the batch is not in staging" })),
                }
            }
            ("POST", ["v1", "files", "upload"]) => self.file(request),
            ("POST", ["v1", "task", kind]) => self.task(kind, &request.json()),
            ("GET", ["v1", "tasks"]) => self.list(request),
            _ => Answer::Json(404, json!({ "error": "no such endpoint" })),
        }
    }
}

impl Service {
    fn violated(&mut self, what: impl Into<String>) -> Answer {
        let what = what.into();
        self.violations.push(what.clone());
        Answer::Json(400, json!({ "status_code": 400, "error": what }))
    }

    fn batch(&mut self, body: &Value) -> Answer {
        let documented = ["project", "name", "callback", "calibration_batch", "self_label_batch"];
        if let Some(other) = others(body, &documented) {
            return self.violated(format!("a batch has no {other}"));
        }
        let (Some(project), Some(name)) = (body["project"].as_str(), body["name"].as_str()) else {
            return self.violated("a batch needs project and name");
        };
        if body["callback"].as_str().is_some_and(|it| !it.starts_with("http")) {
            return self.violated("callback is a full URL");
        }
        if self.batches.iter().any(|it| it.0 == name) {
            return Answer::Json(409, json!({ "error": "a batch of this name exists" }));
        }
        self.batches.push((name.to_owned(), project.to_owned(), "staging"));
        Answer::Json(200, json!({ "name": name, "project": project, "status": "staging" }))
    }

    fn file(&mut self, request: &Request) -> Answer {
        let parts = request.form();
        let names: Vec<&str> = parts.iter().map(|it| it.0.as_str()).collect();
        if names != ["project_name", "metadata", "file"] {
            return self.violated(format!("a file's parts are {names:?}"));
        }
        let about = serde_json::from_slice::<Map<String, Value>>(&parts[1].2);
        let (Ok(about), true) = (about, parts[2].1.is_some()) else {
            return self.violated("metadata is an object, and a file has a name");
        };
        self.files.push(parts[2].2.clone());
        self.about.push(about);
        let url = format!("scaledata://606e2a0a/{}", self.files.len() - 1);
        Answer::Json(200, json!({ "attachment_url": url, "mime_type": "image/jpeg" }))
    }

    fn task(&mut self, kind: &str, body: &Value) -> Answer {
        let common = ["batch", "project", "unique_id", "metadata", "instruction", "callback_url"];
        let own: &[&str] = match kind {
            "imageannotation" => &["attachment", "attachment_type", "geometries"],
            "textcollection" => &["attachments", "fields"],
            _ => return self.violated(format!("no tasks of type {kind}")),
        };
        if let Some(other) = others(body, &[&common[..], own].concat()) {
            return self.violated(format!("a task has no {other}"));
        }
        let picture = match kind {
            "imageannotation" => {
                let objects = &body["geometries"]["box"]["objects_to_annotate"];
                if objects.as_array().is_none_or(|it| it.is_empty() || !it.iter().all(Value::is_string)) {
                    return self.violated("geometries.box names objects_to_annotate");
                }
                &body["attachment"]
            }
            _ => {
                if body["attachments"][0]["type"] != "image" {
                    return self.violated("an attachment has a type");
                }
                let field = &body["fields"][0];
                let choices = field["choices"].as_array();
                let fits = match field["type"].as_str() {
                    Some("category") => choices.is_some_and(|it| {
                        it.iter().all(|it| it["value"].is_string() && it["label"].is_string())
                    }),
                    Some("number") => choices.is_none(),
                    _ => false,
                };
                if !fits || !field["field_id"].is_string() || !field["title"].is_string() {
                    return self.violated(format!("a field is {field}"));
                }
                &body["attachments"][0]["content"]
            }
        };
        let file =
            picture.as_str().and_then(|it| it.strip_prefix("scaledata://606e2a0a/")?.parse::<usize>().ok());
        let Some(about) = file.and_then(|file| self.about.get(file)) else {
            return self.violated(format!("there is no picture {picture}"));
        };
        // The service does not look; who searches it for a frame does.
        if ["frame", "path"].iter().any(|key| about.get(*key) != body["metadata"].get(*key)) {
            return self.violated(format!("of {about:?} the task says {}", body["metadata"]));
        }
        if !body["metadata"].is_object() || !body["unique_id"].is_string() {
            return self.violated("metadata is an object, unique_id a string");
        }
        if !self.batches.iter().any(|it| body["batch"] == it.0 && it.2 == "staging") {
            return self.violated("the batch is not there or finalized");
        }
        if self.tasks.iter().any(|it| it["unique_id"] == body["unique_id"]) {
            return Answer::Json(409, json!({ "error": "unique_id is already in use" }));
        }
        let task = json!({
            "task_id": format!("5774cc{:02}", self.tasks.len()), "type": kind, "status": "pending", "batch": body["batch"],
            "unique_id": body["unique_id"], "metadata": body["metadata"], "params": body,
        });
        self.tasks.push(task.clone());
        Answer::Json(200, task)
    }

    /// Two a page, whatever `limit` says.
    fn list(&mut self, request: &Request) -> Answer {
        let known = ["batch", "unique_id", "limit", "next_token"];
        if let Some(other) = request.query.keys().find(|it| !known.contains(&it.as_str())) {
            return self.violated(format!("tasks are not listed by {other}"));
        }
        if request.query.get("limit").is_none_or(|it| it.parse::<usize>().is_ok_and(|it| it > 100)) {
            return self.violated("limit is 100 at most");
        }
        let fits = |task: &&Value| {
            ["batch", "unique_id"]
                .iter()
                .all(|key| request.query.get(*key).is_none_or(|it| task[*key] == it.as_str()))
        };
        let start = request.query.get("next_token").map_or(0, |it| it.parse::<usize>().unwrap());
        let all: Vec<&Value> = self.tasks.iter().filter(fits).collect();
        let next = (start + 2 < all.len()).then(|| (start + 2).to_string());
        let docs: Vec<&&Value> = all.iter().skip(start).take(2).collect();
        Answer::Json(
            200,
            json!({ "docs": docs, "total": all.len(), "has_more": next.is_some(), "next_token": next }),
        )
    }
}

/// A key that is not among these.
pub fn others(body: &Value, known: &[&str]) -> Option<String> {
    body.as_object().unwrap().keys().find(|key| !known.contains(&key.as_str())).cloned()
}
