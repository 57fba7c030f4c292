//! Label Studio (HumanSignal's open-source server) through its API, version 1.23.
//!
//! ```text
//! push: project (by number, or by title, made if there is none) ─► what tasks of the batch are there ─► the rest, ten at a time:
//!       pictures uploaded ─► tasks with id, path and guesses ─► their numbers into the archive
//! pull: tasks of the project, all pages ─► those of the batch ─► everyone's last annotation
//! ```
//! Pictures are uploaded: no port of this machine is opened, and the server asks for no address. A request that may or may not
//! have arrived is not repeated; what is there is asked for instead.

mod config;
mod markup;
mod task;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::secret::Secret;

use super::secret::{self, Place};
use super::web::{Ask, Body, By, Part, Server, Web};
use super::{AnnotateError, Asked, ConfigFault, Item, Keep, Outgoing, Patience, Platform, Pulled, WebError};
use crate::archive::{FrameId, Record};
pub use config::StudioConfig;
use markup::Question;
use task::Incoming;

/// Tasks of one request, and of one page.
const PAGE: usize = 100;
/// Most pages of a project: a hundred times what Label Studio advises.
const MOST_PAGES: usize = 100_000;
/// Pictures of one request; the server takes a hundred, of 250 MB together.
const PICTURES: usize = 10;

const PLATFORM: &str = "Label Studio";
const REMEDY: &str = "make a personal access token under Account & Settings; legacy tokens (40 digits) work only where the \
                      organization allows them";

/// A Label Studio server as a platform.
#[derive(Debug)]
pub struct Studio {
    config: StudioConfig,
    classes: Vec<String>,
    web: Web,
    token: Token,
}

/// The two kinds of tokens it knows.
#[derive(Debug)]
enum Token {
    /// 40 digits, sent as they are.
    Legacy(Secret),
    /// A signed one that gives access for five minutes at a time.
    Personal { token: Secret, access: Option<Secret> },
}

impl Studio {
    /// A client; nothing is asked yet. `classes` are the names to choose from.
    ///
    /// # Errors
    /// No token, or an address that is none.
    pub fn new(
        config: StudioConfig,
        classes: Vec<String>,
        patience: Patience,
    ) -> Result<Self, AnnotateError> {
        let file = config.token_file.as_deref();
        let what = "token of Label Studio";
        let place = Place { what, key: "token_file", file, variable: "LABEL_STUDIO_TOKEN" };
        let token = secret::find(place).map_err(ConfigFault::from)?;
        // A personal access token is a JSON Web Token: three parts.
        let token = match token.reveal().split('.').count() {
            3 => Token::Personal { token, access: None },
            _ => Token::Legacy(token),
        };
        let server =
            Server { platform: PLATFORM, url: &config.url, remedy: REMEDY, plain: config.plain_http };
        let web = Web::new(server, patience)?;
        Ok(Self { config, classes, web, token })
    }

    fn ask(&mut self, ask: &Ask) -> Result<Value, WebError> {
        self.refresh()?;
        match (self.web.ask(ask, self.by()), &mut self.token) {
            // Five minutes are over: with a fresh one, once.
            (Err(error), Token::Personal { access, .. }) if error.status() == Some(401) => {
                *access = None;
                self.refresh()?;
                self.web.ask(ask, self.by())
            }
            (answer, _) => answer,
        }
    }

    fn by(&self) -> By<'_> {
        match &self.token {
            Token::Legacy(token) => By::Token("Token", token),
            Token::Personal { token, access } => By::Token("Bearer", access.as_ref().unwrap_or(token)),
        }
    }

    /// Gets access by a personal token, if there is none.
    fn refresh(&mut self) -> Result<(), WebError> {
        const PATH: &str = "api/token/refresh";
        let Token::Personal { token, access: access @ None } = &mut self.token else { return Ok(()) };
        let body = Body::Json(json!({ "refresh": token.reveal() }));
        let answer = self.web.ask(&Ask { again: true, ..Ask::post(PATH, body) }, By::Nobody)?;
        let fresh = secret::parse("token", PLATFORM, answer["access"].as_str().unwrap_or_default());
        *access = Some(fresh.map_err(|_| self.web.strange(PATH, "no token in `access`"))?);
        Ok(())
    }

    /// The project's number, if it is there, and whether it asks the question.
    fn find(&mut self, question: Option<Question<'_>>) -> Result<Option<u64>, AnnotateError> {
        let number = match (self.config.project, self.config.title.clone()) {
            (Some(number), _) => Some(number),
            (None, title) => self.titled(&title.unwrap_or_default())?,
        };
        let Some(number) = number else { return Ok(None) };
        let path = format!("api/projects/{number}/");
        let project = match self.ask(&Ask::get(&path, Vec::new())) {
            Err(error) if error.status() == Some(404) => {
                let at = self.web.address();
                return Err(AnnotateError::Platform(format!(
                    "there is no project {number} in {PLATFORM} at {at}: its number stands in the address of its page"
                )));
            }
            answer => answer?,
        };
        let markup = project["label_config"].as_str().unwrap_or_default();
        if let Some((question, lacking)) = question.and_then(|it| Some((it, it.lacks(markup)?))) {
            return Err(AnnotateError::Platform(format!(
                "project {number} in {PLATFORM} asks something else ({lacking} is not in its labeling interface): name another \
                 `title`, or set it to\n{}",
                question.markup()
            )));
        }
        Ok(Some(number))
    }

    /// The oldest project of exactly this title.
    fn titled(&mut self, title: &str) -> Result<Option<u64>, WebError> {
        const PATH: &str = "api/projects/";
        let mut found = None;
        for page in 1..=MOST_PAGES {
            let query = vec![
                ("title", title.to_owned()),
                ("include", "id,title".to_owned()),
                ("page", page.to_string()),
                ("page_size", PAGE.to_string()),
            ];
            let answer = self.ask(&Ask::get(PATH, query))?;
            let results = answer["results"].as_array();
            let results = results.ok_or_else(|| self.web.strange(PATH, "no `results`"))?;
            let numbers = results.iter().filter(|it| it["title"] == title).filter_map(|it| it["id"].as_u64());
            found = found.into_iter().chain(numbers).min();
            if answer["next"].is_null() {
                break;
            }
        }
        Ok(found)
    }

    fn make(&mut self, question: Question<'_>) -> Result<u64, WebError> {
        const PATH: &str = "api/projects/";
        let body = json!({
            "title": self.config.title,
            "label_config": question.markup(),
            "maximum_annotations": self.config.annotators,
        });
        let project = self.ask(&Ask::post(PATH, Body::Json(body)))?;
        project["id"].as_u64().ok_or_else(|| self.web.strange(PATH, "a project without `id`"))
    }

    /// Every task of the project, a page at a time.
    fn tasks(
        &mut self,
        project: u64,
        mut with: impl FnMut(Incoming) -> Result<(), AnnotateError>,
    ) -> Result<(), AnnotateError> {
        const PATH: &str = "api/tasks/";
        let mut seen = 0;
        for page in 1..=MOST_PAGES {
            let query = vec![
                ("project", project.to_string()),
                ("page", page.to_string()),
                ("page_size", PAGE.to_string()),
                ("fields", "all".to_owned()),
            ];
            let mut answer = match self.ask(&Ask::get(PATH, query)) {
                // Tasks were deleted meanwhile, and this page with them.
                Err(error) if page > 1 && error.status() == Some(404) => return Ok(()),
                answer => answer?,
            };
            let total = answer["total"].as_u64().ok_or_else(|| self.web.strange(PATH, "no `total`"))?;
            let Value::Array(tasks) = answer["tasks"].take() else {
                return Err(self.web.strange(PATH, "no `tasks`").into());
            };
            let last = tasks.is_empty();
            for task in tasks {
                seen += 1;
                let task = serde_json::from_value(task);
                with(task.map_err(|error| self.web.strange(PATH, format!("a task: {error}")))?)?;
            }
            if last || seen >= total {
                break;
            }
        }
        Ok(())
    }

    /// The rest of a batch, a few frames at a time.
    fn send(
        &mut self,
        project: u64,
        (out, missing): (&Outgoing<'_>, &[&Item]),
        keep: &mut Keep<'_>,
    ) -> Result<(), AnnotateError> {
        let path = format!("api/projects/{project}/import");
        let mut uploaded = self.uploaded(project, vec![("all", "true".to_owned())])?;
        for items in missing.chunks(PICTURES) {
            self.upload(project, (out, items), &mut uploaded)?;
            let mut tasks = Vec::with_capacity(items.len());
            for Item { record, .. } in items {
                let file = picture(&uploaded, record);
                let file =
                    file.ok_or_else(|| self.web.strange(&path, "a picture that is not among its files"))?;
                let image = self.web.path_of(&format!("data/{file}"));
                tasks.push(task::outgoing(record, (out.name, out.task), &image, out.guesses.get(record.id)));
            }
            let ask = Ask::post(&path, Body::Json(tasks.into())).query("return_task_ids", "true");
            let answer = self.ask(&ask)?;
            let numbers = answer["task_ids"].as_array().filter(|it| it.len() == items.len());
            let numbers = numbers.ok_or_else(|| {
                self.web.strange(
                    &path,
                    "not one number a task in `task_ids`; run the command again, what arrived is found",
                )
            })?;
            let ids = items.iter().map(|it| it.record.id).zip(numbers.iter().map(Value::to_string));
            keep(&ids.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Pictures that are not there yet.
    fn upload(
        &mut self,
        project: u64,
        (out, items): (&Outgoing<'_>, &[&Item]),
        uploaded: &mut Vec<String>,
    ) -> Result<(), AnnotateError> {
        let path = format!("api/projects/{project}/import");
        let mut parts = Vec::new();
        for item in items.iter().filter(|it| picture(uploaded, &it.record).is_none()) {
            // Of fields of one name the server takes the last.
            let name = format!("file{}", parts.len());
            parts.push(Part { name, file: Some(format!("{}.jpg", item.record.id)), bytes: out.jpeg(item)? });
        }
        if parts.is_empty() {
            return Ok(());
        }
        let answer = self.ask(&Ask::post(&path, Body::Form(parts)).query("commit_to_project", "false"))?;
        let ids = &answer["file_upload_ids"];
        if !ids.is_array() {
            return Err(self.web.strange(&path, "no `file_upload_ids`").into());
        }
        uploaded.extend(self.uploaded(project, vec![("ids", ids.to_string())])?);
        Ok(())
    }

    /// Files of the project, as the server names them.
    fn uploaded(
        &mut self,
        project: u64,
        query: Vec<(&'static str, String)>,
    ) -> Result<Vec<String>, WebError> {
        let path = format!("api/projects/{project}/file-uploads");
        let answer = self.ask(&Ask::get(&path, query))?;
        let files = answer.as_array().ok_or_else(|| self.web.strange(&path, "no list"))?;
        Ok(files.iter().filter_map(|it| it["file"].as_str().map(str::to_owned)).collect())
    }

    /// Addresses of the people, by number; none where the token may not see them.
    fn people(&mut self) -> Result<BTreeMap<u64, String>, WebError> {
        let answer = match self.ask(&Ask::get("api/users/", Vec::new())) {
            Err(WebError::Denied { status: 403, .. }) => return Ok(BTreeMap::new()),
            answer => answer?,
        };
        let named = |it: &Value| Some((it["id"].as_u64()?, it["email"].as_str()?.to_owned()));
        Ok(answer.as_array().map(|all| all.iter().filter_map(named).collect()).unwrap_or_default())
    }

    fn once(&mut self, out: &Outgoing<'_>, keep: &mut Keep<'_>) -> Result<(), AnnotateError> {
        let (classes, boxes) = (self.classes.clone(), self.config.boxes.clone());
        let question = Question { task: out.task, classes: &classes, boxes: boxes.as_deref() };
        let project = match self.find(Some(question))? {
            Some(project) => project,
            None => self.make(question)?,
        };
        let mut there: BTreeMap<FrameId, String> = BTreeMap::new();
        self.tasks(project, |task| {
            if let Some(id) = task.frame().filter(|_| task.batch() == Some(out.name)) {
                there.insert(id, task.id.to_string());
            }
            Ok(())
        })?;
        let missing = out.without(|id| there.contains_key(&id));
        let known: Vec<_> = there.iter().map(|(id, task)| (*id, task.clone())).collect();
        keep(&known)?;
        self.send(project, (out, &missing), keep)
    }
}

/// The file of a frame among these; the server puts something before the name it was given.
fn picture<'a>(files: &'a [String], record: &Record) -> Option<&'a String> {
    let name = format!("{}.jpg", record.id);
    files.iter().find(|file| file.ends_with(&name))
}

impl Platform for Studio {
    fn name(&self) -> &'static str {
        "label-studio"
    }

    fn place(&self) -> String {
        match (&self.config.project, &self.config.title) {
            (Some(number), _) => format!("{} project {number}", self.web.address()),
            (None, title) => format!("{} {:?}", self.web.address(), title.as_deref().unwrap_or_default()),
        }
    }

    fn labels_each(&self) -> u64 {
        self.config.annotators
    }

    fn push(&mut self, out: &Outgoing<'_>, keep: &mut Keep<'_>) -> Result<(), AnnotateError> {
        if out.task == shared::head::Task::Class && self.classes.len() < 2 {
            let why = "a batch of classes needs their names: `classes = [\"clear\", \"fog\"]` in [label]";
            return Err(AnnotateError::Platform(why.to_owned()));
        }
        let (mut tried, mut doubt) = (0, None);
        loop {
            tried += 1;
            let error = match self.once(out, keep) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let wait = self.web.patience().wait(tried, None).filter(|_| error.may_pass());
            // What an earlier try sent may have arrived, and that is what matters.
            let Some(wait) = wait else { return Err(doubt.unwrap_or(error)) };
            tracing::info!(wait = %humantime::format_duration(wait), "{error}");
            std::thread::sleep(wait);
            doubt = Some(error).filter(AnnotateError::in_doubt).or(doubt);
        }
    }

    fn pull(&mut self, asked: &Asked<'_>) -> Result<Pulled, AnnotateError> {
        let Some(project) = self.find(None)? else {
            let place = self.place();
            return Err(AnnotateError::Platform(format!(
                "there is no project {place}: was batch {} pushed?",
                asked.name
            )));
        };
        let people = self.people()?;
        let marked = self.config.boxes.is_some();
        let mut pulled = Pulled::default();
        self.tasks(project, |task| {
            if task.batch() == Some(asked.name) {
                for answer in task.answers(asked, marked, &people) {
                    match answer {
                        Ok(answered) => pulled.answers.push(answered),
                        Err(why) => pulled.refused.push(why),
                    }
                }
            }
            Ok(())
        })?;
        Ok(pulled)
    }
}
