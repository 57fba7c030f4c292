//! Scale's callbacks: it reports each task that is done, and sends what it cannot deliver again, up to twenty times a day.
//!
//! ```text
//! POST ─► the key that only Scale and we know (`scale-callback-auth`), else 401
//!      ─► a task that was sent from this archive, else 404
//!      ─► the label, held against its frame as in a pull; the same twice counts once ─► 200
//! ```
//! Only on loopback: the proxy that speaks TLS to the world is the machine's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use shared::secret::Secret;
use tokio::net::TcpListener;

use super::task;
use crate::annotate::http::{self, Request, Response, refusal};
use crate::annotate::secret::{self, Place};
use crate::annotate::{AnnotateError, Batch, ConfigFault, ScaleConfig, send};
use crate::archive::Archive;

/// The header that carries the key ("Live Callback Auth Key" of the dashboard).
const HEADER: &str = "scale-callback-auth";

/// Takes callbacks into an archive.
#[derive(Debug)]
pub struct Callback {
    archive: Arc<Archive>,
    key: Secret,
}

/// A callback's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status; the service sends again what is not answered with 2xx.
    pub status: u16,
    /// In words, or the counts of what was taken.
    pub said: Value,
}

/// Callbacks that are being listened for.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    callback: Callback,
    /// Where, on this machine.
    pub address: SocketAddr,
}

impl Callback {
    /// # Errors
    /// No key: without one anybody could send labels.
    pub fn new(archive: Arc<Archive>, config: &ScaleConfig) -> Result<Self, AnnotateError> {
        let (what, key) = ("callback key of Scale", "callback_key_file");
        let file = config.callback_key_file.as_deref();
        let key = secret::find(Place { what, key, file, variable: "SCALE_CALLBACK_KEY" });
        Ok(Self { archive, key: key.map_err(ConfigFault::from)? })
    }

    /// Listens on loopback; nothing is answered before [`Listening::run`]. Port 0 takes a free one.
    ///
    /// # Errors
    /// A port that is taken.
    pub async fn listen(self, port: u16) -> Result<Listening, AnnotateError> {
        let failed = |error: std::io::Error| {
            AnnotateError::Platform(format!(
                "cannot listen on 127.0.0.1:{port}: {error}; choose another --port"
            ))
        };
        let listener =
            TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listening { listener, callback: self, address })
    }

    /// What a callback with this key and body gets, and what it does.
    pub fn take(&self, key: Option<&str>, body: &[u8]) -> Reply {
        if !key.is_some_and(|key| self.key.is(key)) {
            return Reply::no(401, "the callback's key is missing or another");
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Reply::no(400, "a callback is JSON");
        };
        match self.known(&body) {
            Ok(reply) => reply,
            Err(error) => Reply::no(500, &error.to_string()),
        }
    }

    fn known(&self, body: &Value) -> Result<Reply, AnnotateError> {
        let (task, number) = (&body["task"], body["task_id"].as_str().unwrap_or_default());
        let sent = |batch: &Batch| {
            let sent = batch.sent.as_ref().filter(|it| it.to == "scale")?;
            sent.tasks.iter().find(|(_, task)| *task == number).map(|(id, _)| *id)
        };
        let found = Batch::all(&self.archive)?
            .into_iter()
            .find_map(|(name, batch)| Some((sent(&batch)?, name, batch)));
        let Some((id, name, batch)) = found else {
            return Ok(Reply::no(404, "no task of that id was sent from here"));
        };
        if task["task_id"].as_str() != Some(number) || task::frame(task) != Some(id) {
            return Ok(Reply::no(
                422,
                &format!("task {number} was sent with frame {id}, and comes back with another"),
            ));
        }
        let asked = batch.asked(&name);
        let (answers, refused) = match task::answer(task, &asked) {
            Ok(answered) => (answered.into_iter().collect(), Vec::new()),
            Err(why) => (Vec::new(), vec![why]),
        };
        let taking = send::take(&self.archive, &asked, (answers, refused), false)?;
        if let Some(why) = taking.refused.first() {
            return Ok(Reply::no(422, why));
        }
        let taken = taking.taken;
        let said = json!({ "new": taken.new, "changed": taken.changed, "same": taken.same });
        Ok(Reply { status: 200, said })
    }

    fn answer(&self, request: &Request) -> Response {
        let reply = match request.method.as_str() {
            "POST" => self.take(request.header(HEADER), &request.body),
            _ => Reply::no(405, "callbacks are posted"),
        };
        match reply.status {
            200 => tracing::info!(taken = %reply.said, "callback"),
            status => tracing::warn!(status, said = %reply.said, "callback refused"),
        }
        match reply.status {
            200 => {
                Response { status: 200, kind: "application/json", body: reply.said.to_string().into_bytes() }
            }
            status => refusal(status, reply.said.as_str().unwrap_or_default()),
        }
    }
}

impl Reply {
    fn no(status: u16, why: &str) -> Self {
        Self { status, said: why.into() }
    }
}

impl Listening {
    /// Answers until `stop` is over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, callback, .. } = self;
        http::serve(listener, Arc::new(move |request: Request| callback.answer(&request)), stop).await;
    }
}
