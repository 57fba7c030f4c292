//! The built-in page: count, class or boxes, by keyboard, in a browser on this machine.
//!
//! Only on loopback, only with the token in the address that is printed: other users and other pages in the same browser
//! have neither. A label needs the token in a header, which no other page can send here; the `Host` must be this machine,
//! so no name that was bent to it works.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::http::{self, Request, Response, refusal};
use super::{AnnotateError, Batch, BatchError};
use crate::archive::{Answer, Archive, ArchiveError, FrameId, Label, LabelFault, Returned, task_name};
use crate::heads::labels::column;

const HTML: &str = include_str!("label.html");
const SCRIPT: &str = include_str!("label.js");
const ICON: &str = include_str!("icon.svg");

/// What is labelled, and by whom.
#[derive(Debug, Clone)]
pub struct Page {
    /// The batch.
    pub batch: String,
    /// Who sits before it.
    pub who: String,
    /// The names to choose from, for classes.
    pub classes: Vec<String>,
    /// TCP port on loopback; 0 takes a free one.
    pub port: u16,
}

/// Why the page is not served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum PageError {
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another --port, or 0 for a free one")]
    Listen { port: u16, source: std::io::Error },
    #[error("a batch of classes needs their names: --classes clear,fog")]
    NoClasses,
}

/// A page that is being served.
#[derive(Debug)]
pub struct Served {
    listener: TcpListener,
    desk: Desk,
    /// What to open in the browser.
    pub url: String,
}

#[derive(Debug)]
struct Desk {
    archive: Arc<Archive>,
    page: Page,
    batch: Batch,
    token: String,
    /// What `Host` may say.
    hosts: [String; 2],
}

impl Page {
    /// Listens; nothing is answered before [`Served::run`].
    ///
    /// # Errors
    /// A batch that is not there, a port that is taken.
    pub async fn serve(self, archive: Arc<Archive>) -> Result<Served, PageError> {
        let batch = Batch::get(&archive, &self.batch)?;
        if batch.task == shared::head::Task::Class && self.classes.is_empty() {
            return Err(PageError::NoClasses);
        }
        let failed = |source| PageError::Listen { port: self.port, source };
        let listener =
            TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let token: String = rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let url = format!("http://127.0.0.1:{port}/?token={token}");
        let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let desk = Desk { archive, page: self, batch, token, hosts };
        Ok(Served { listener, desk, url })
    }
}

impl Served {
    /// Answers until `stop` is over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, desk, .. } = self;
        http::serve(listener, Arc::new(move |request| desk.answer(&request)), stop).await;
    }
}

impl Desk {
    /// Turns away whoever is not on this machine's own page.
    fn answer(&self, request: &Request) -> Response {
        let host = request.header("host").unwrap_or_default();
        if !self.hosts.iter().any(|it| it == host) {
            return refusal(403, "this page is only for the browser of this machine");
        }
        let (method, path) = (request.method.as_str(), request.path.as_str());
        // Script and icon hold nothing, and are asked for without a token.
        match (method, path) {
            ("GET", "/label.js") => return text("text/javascript; charset=utf-8", SCRIPT),
            ("GET", "/favicon.ico") => return text("image/svg+xml", ICON),
            _ => {}
        }
        let token = match method {
            "GET" => request.query("token"),
            // A header that other pages cannot set without asking first, and nobody answers them.
            _ => request.header("x-token"),
        };
        if !token.is_some_and(|token| same(token, &self.token)) {
            return refusal(403, "the address lacks its token: open the one that the command printed");
        }
        match (method, path) {
            ("GET", "/") => text("text/html; charset=utf-8", HTML),
            ("GET", "/api/batch") => said(self.overview()),
            ("POST", "/api/label") => self.label(request),
            ("GET", path) => match path.strip_prefix("/frames/") {
                Some(id) => self.frame(id),
                None => refusal(404, "there is nothing of that name"),
            },
            _ => refusal(405, "frames are got, labels are posted"),
        }
    }

    /// The batch: what is asked, and each frame with what this person said before.
    fn overview(&self) -> Result<Value, AnnotateError> {
        let (task, mut frames) = (self.batch.task, Vec::new());
        for item in self.batch.items(&self.archive)? {
            let found = self.archive.get(item.record.id)?;
            let mine = found.labels_of(task).into_iter().find(|it| it.who == self.page.who);
            let boxes = match mine.as_ref().map(|it| &it.answer) {
                Some(Answer::Count { boxes, .. }) => boxes.clone(),
                _ => Vec::new(),
            };
            let record = &found.record;
            frames.push(json!({
                "id": record.id, "path": record.path, "camera": record.camera, "captured_at": record.captured_at,
                "width": record.width, "height": record.height, "value": mine.map(|it| it.answer.value()),
                "boxes": boxes,
            }));
        }
        let Page { batch, who, classes, .. } = &self.page;
        Ok(
            json!({ "batch": batch, "task": task_name(task), "column": column(task), "who": who, "classes": classes,
            "frames": frames }),
        )
    }

    fn frame(&self, id: &str) -> Response {
        let Ok(id) = id.parse::<FrameId>() else { return refusal(404, "that is no frame id") };
        if !self.batch.frames.contains(&id) {
            return refusal(404, "that frame is not of this batch");
        }
        match self.archive.get(id).and_then(|found| self.archive.jpeg(&found.record)) {
            Ok(body) => Response { status: 200, kind: "image/jpeg", body },
            Err(error) => refusal(404, &error.to_string()),
        }
    }

    fn label(&self, request: &Request) -> Response {
        if request.header("content-type") != Some("application/json") {
            return refusal(415, "a label is sent as application/json");
        }
        match serde_json::from_slice(&request.body) {
            Ok(label) => said(self.take(label)),
            Err(error) => refusal(400, &format!("not a label: {error}")),
        }
    }

    fn take(&self, Said { id, path, value, boxes }: Said) -> Result<Value, AnnotateError> {
        let place = "the page".to_owned();
        let refuse = |fault| AnnotateError::Label { place: place.clone(), fault };
        let id: FrameId = id.parse().map_err(|_| refuse(LabelFault::Id(id.clone())))?;
        if !self.batch.frames.contains(&id) {
            return Err(BatchError::Stranger { place, id, name: self.page.batch.clone() }.into());
        }
        let answer = Answer::read(self.batch.task, &value, boxes).map_err(refuse)?;
        let (who, from) = (self.page.who.clone(), format!("page {}", self.page.batch));
        let label = Label { answer, who, at: Timestamp::now(), from, earlier: Vec::new() };
        self.archive.put_labels(&[Returned { place, id, path: Some(path), label }])?;
        let progress = self.batch.progress(&self.archive)?;
        Ok(json!({ "labelled": progress.labelled, "frames": progress.frames }))
    }
}

/// What the page sends for each frame.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    id: String,
    path: String,
    value: Value,
    #[serde(default)]
    boxes: Vec<[f64; 4]>,
}

/// In a time that does not depend on where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn text(kind: &'static str, text: &str) -> Response {
    Response { status: 200, kind, body: text.as_bytes().to_vec() }
}

/// What a person did wrong is said to them.
fn said(answer: Result<Value, AnnotateError>) -> Response {
    match answer {
        Ok(value) => Response { status: 200, kind: "application/json", body: value.to_string().into_bytes() },
        Err(error) => {
            let theirs = matches!(
                &error,
                AnnotateError::Label { .. }
                    | AnnotateError::Batch(_)
                    | AnnotateError::Archive(ArchiveError::Label { .. })
            );
            refusal(if theirs { 422 } else { 500 }, &error.to_string())
        }
    }
}
