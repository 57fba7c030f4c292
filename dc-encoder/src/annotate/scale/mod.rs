//! Scale (scale.com), from its published API reference. Tested against a fake that holds every request against that
//! reference, never against the service.
//!
//! ```text
//! push: batch (409: it is there) ─► what tasks it has ─► the rest: picture uploaded ─► task with a unique id, so that none is
//!       there twice ─► its number into the archive ─► finalize: from here on people work
//! pull: tasks of the batch, all pages.   listen: the service reports each task that is done.
//! ```

mod callback;
mod config;
mod task;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::head::Task;
use shared::secret::Secret;

use super::secret::{self, Place};
use super::web::{Ask, Body, By, Part, Server, Web};
use super::{AnnotateError, Asked, ConfigFault, Item, Keep, Outgoing, Patience, Platform, Pulled, WebError};
use crate::archive::FrameId;
pub use callback::{Callback, Listening, Reply};
pub use config::ScaleConfig;
use task::Question;

/// Tasks of one page; the service gives a hundred at most.
const PAGE: usize = 100;
/// Most pages of a batch.
const MOST_PAGES: usize = 100_000;

const PLATFORM: &str = "Scale";
const REMEDY: &str = "the key stands on Scale's dashboard; a test key and a live key see different projects";

/// Scale's service as a platform.
#[derive(Debug)]
pub struct Scale {
    config: ScaleConfig,
    classes: Vec<String>,
    web: Web,
    key: Secret,
}

impl Scale {
    /// A client; nothing is asked yet. `classes` are the names to choose from.
    ///
    /// # Errors
    /// No key, or an address that is none.
    pub fn new(config: ScaleConfig, classes: Vec<String>, patience: Patience) -> Result<Self, AnnotateError> {
        let file = config.key_file.as_deref();
        let place = Place { what: "API key of Scale", key: "key_file", file, variable: "SCALE_API_KEY" };
        let key = secret::find(place).map_err(ConfigFault::from)?;
        let server =
            Server { platform: PLATFORM, url: &config.url, remedy: REMEDY, plain: config.plain_http };
        Ok(Self { web: Web::new(server, patience)?, config, classes, key })
    }

    fn ask(&self, ask: &Ask) -> Result<Value, WebError> {
        self.web.ask(ask, By::User(&self.key))
    }

    fn question(&self, task: Task) -> Question<'_> {
        let ScaleConfig { boxes, instruction, callback_url, .. } = &self.config;
        let (boxes, instruction) = (boxes.as_deref(), instruction.as_deref());
        Question { task, classes: &self.classes, boxes, instruction, callback_url: callback_url.as_deref() }
    }

    /// Makes the batch, or finds it; whether it still takes tasks.
    fn open(&self, remote: &str) -> Result<bool, AnnotateError> {
        let mut body = json!({ "project": self.config.project, "name": remote });
        if let Some(url) = &self.config.callback_url {
            body["callback"] = url.as_str().into();
        }
        match self.ask(&Ask { again: true, ..Ask::post("v1/batches", Body::Json(body)) }) {
            Ok(_) => return Ok(true),
            Err(error) if error.status() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
        let path = format!("v1/batches/{remote}");
        let batch = self.ask(&Ask::get(&path, Vec::new()))?;
        if batch["project"].as_str() != Some(&self.config.project) {
            return Err(AnnotateError::Platform(format!(
                "batch {remote} at Scale is of project {}, and [scale] names {:?}",
                batch["project"], self.config.project
            )));
        }
        let status = batch["status"].as_str().ok_or_else(|| self.web.strange(&path, "no `status`"))?;
        Ok(status == "staging")
    }

    /// Every task that fits, a page at a time.
    fn tasks(
        &self,
        by: (&'static str, &str),
        mut with: impl FnMut(Value) -> Result<(), AnnotateError>,
    ) -> Result<(), AnnotateError> {
        const PATH: &str = "v1/tasks";
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![(by.0, by.1.to_owned()), ("limit", PAGE.to_string())];
            query.extend(token.take().map(|token| ("next_token", token)));
            let mut answer = self.ask(&Ask::get(PATH, query))?;
            let Value::Array(tasks) = answer["docs"].take() else {
                return Err(self.web.strange(PATH, "no `docs`").into());
            };
            tasks.into_iter().try_for_each(&mut with)?;
            token = answer["next_token"].as_str().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn send(&self, (out, remote): (&Outgoing<'_>, &str), item: &Item) -> Result<String, AnnotateError> {
        const UPLOAD: &str = "v1/files/upload";
        let (record, question) = (&item.record, self.question(out.task));
        let text =
            |name: &str, text: String| Part { name: name.to_owned(), file: None, bytes: text.into_bytes() };
        let parts = vec![
            text("project_name", self.config.project.clone()),
            text("metadata", json!({ "frame": record.id, "path": record.path }).to_string()),
            Part {
                name: "file".to_owned(),
                file: Some(format!("{}.jpg", record.id)),
                bytes: out.jpeg(item)?,
            },
        ];
        // A picture that is there twice costs nothing: those without a task are deleted there.
        let file = self.ask(&Ask { again: true, ..Ask::post(UPLOAD, Body::Form(parts)) })?;
        let url = file["attachment_url"].as_str();
        let url = url.ok_or_else(|| self.web.strange(UPLOAD, "no `attachment_url`"))?;
        let path = format!("v1/task/{}", question.kind());
        let body = question.outgoing(record, (out.name, remote), url);
        let task = match self.ask(&Ask { again: true, ..Ask::post(&path, Body::Json(body)) }) {
            // It arrived, and its acknowledgement did not.
            Err(error) if error.status() == Some(409) => self.task_of(remote, record.id)?,
            task => task?,
        };
        let number = task["task_id"].as_str().map(str::to_owned);
        Ok(number.ok_or_else(|| self.web.strange(&path, "a task without `task_id`"))?)
    }

    fn task_of(&self, remote: &str, id: FrameId) -> Result<Value, AnnotateError> {
        let unique = task::unique_id(remote, id);
        let mut found = None;
        self.tasks(("unique_id", &unique), |task| {
            found = Some(task);
            Ok(())
        })?;
        Ok(found.ok_or_else(|| {
            self.web.strange("v1/tasks", format!("no task of the unique id {unique}, which is taken"))
        })?)
    }
}

/// A name that no other batch of the account has: that is demanded there, and archives may call theirs the same.
fn remote_name(name: &str, made_at: Timestamp) -> String {
    format!("{name}-{}", made_at.as_second())
}

impl Platform for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn place(&self) -> String {
        format!("{} {:?}", self.web.address(), self.config.project)
    }

    fn push(&mut self, out: &Outgoing<'_>, keep: &mut Keep<'_>) -> Result<(), AnnotateError> {
        if out.task == Task::Class && self.classes.len() < 2 {
            let why = "a batch of classes needs their names: `classes = [\"clear\", \"fog\"]` in [label]";
            return Err(AnnotateError::Platform(why.to_owned()));
        }
        let remote = remote_name(out.name, out.made_at);
        let staging = self.open(&remote)?;
        let mut there: BTreeMap<FrameId, String> = BTreeMap::new();
        self.tasks(("batch", &remote), |task| {
            there.extend(task::frame(&task).zip(task["task_id"].as_str().map(str::to_owned)));
            Ok(())
        })?;
        let missing = out.without(|id| there.contains_key(&id));
        keep(&there.iter().map(|(id, task)| (*id, task.clone())).collect::<Vec<_>>())?;
        if !staging {
            return match missing.len() {
                0 => Ok(()),
                n => Err(AnnotateError::Platform(format!(
                    "batch {remote} at Scale was finalized before it was whole, and takes no more tasks: its {n} frames that are \
                     not there need another batch"
                ))),
            };
        }
        for item in missing {
            let number = self.send((out, &remote), item)?;
            keep(&[(item.record.id, number)])?;
        }
        let path = format!("v1/batches/{remote}/finalize");
        match self.ask(&Ask { again: true, ..Ask::post(&path, Body::None) }) {
            // The first of two tries did it.
            Err(error) if error.status().is_some() && !self.open(&remote)? => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    fn pull(&mut self, asked: &Asked<'_>) -> Result<Pulled, AnnotateError> {
        let remote = remote_name(asked.name, asked.made_at);
        let mut pulled = Pulled::default();
        self.tasks(("batch", &remote), |task| {
            match task::answer(&task, asked) {
                Ok(answered) => pulled.answers.extend(answered),
                Err(why) => pulled.refused.push(why),
            }
            Ok(())
        })?;
        Ok(pulled)
    }
}
