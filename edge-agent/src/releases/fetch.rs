//! Fetches a release on a stream of its own, behind the frames, and goes on where an earlier fetch stopped.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::limits::{MAX_FETCH_REPLY_BYTES, MAX_FETCH_REQUEST_BYTES, MAX_RELEASE_BYTES};
use protocol::{Body, BodyId, FetchCode, FetchReplyMsg, FetchRequest, Part, ReleaseId, StreamKind};
use quinn::RecvStream;
use shared::wire::{WireError, expect_msg, write_msg};
use tokio::time::timeout;

use super::gate::{Gate, Origin};
use super::state::Until;
use super::store::Store;
use super::vet::Fault;
use crate::uplink::session::{Connection, Session};

/// Frames have priorities from 0 up.
const BEHIND_FRAMES: i32 = -1;
/// A server that sends nothing for so long has forgotten the stream; the connection's own silence shows sooner.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes written to the disk at once.
const WRITE_BYTES: usize = 256 * 1024;

/// What to fetch, and where from.
#[derive(Debug)]
pub struct Fetch {
    /// The connection.
    pub session: Session,
    /// The release.
    pub release: ReleaseId,
    /// Where its bytes go.
    pub store: Arc<Store>,
    /// Whose signatures count.
    pub gate: Gate,
}

/// What was fetched, and lies in the store's [`part_path`](Store::part_path).
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its signature, which was verified.
    pub signature: Vec<u8>,
    /// What travelled: the release, or its compressed bytes.
    pub body: BodyId,
    /// Length of the release in bytes.
    pub total: u32,
    /// It went on from bytes that were there before.
    pub resumed: bool,
}

/// Which body to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The one that is there in part, or else the server's choice.
    Any,
    /// The release's own file, from its start.
    Plain,
}

/// Why nothing was fetched.
#[derive(Debug, PartialEq, Eq)]
pub enum NotFetched {
    /// The link or the stream broke: what came is kept for the next connection.
    Interrupted(String),
    /// What is on the disk is longer than the release.
    StartAgain,
    /// It will not come.
    Fault(Fault),
}

impl From<WireError> for NotFetched {
    fn from(error: WireError) -> Self {
        // A server that shuts down resets the stream before it ends the connection.
        if error.is_connection_gone() || matches!(error, WireError::Reset { .. } | WireError::Stopped { .. })
        {
            return Self::Interrupted(error.to_string());
        }
        Self::Fault(Fault::new(format!("it could not be fetched: {error}"), Until::Connection))
    }
}

impl From<io::Error> for NotFetched {
    fn from(error: io::Error) -> Self {
        let words = format!(
            "it could not be written: {error}; make room, it is tried again with the next connection"
        );
        Self::Fault(Fault::new(words, Until::Connection))
    }
}

impl Fetch {
    /// Fetches all of it, or what is missing. The signature is checked before a byte of the head.
    ///
    /// # Errors
    /// [`NotFetched`].
    pub async fn run(&self, ask: Ask) -> Result<Fetched, NotFetched> {
        let release = self.release;
        let have = match ask {
            Ask::Any => self.store.part(release),
            Ask::Plain => Some(Part { body: BodyId::plain(release), offset: 0 }),
        };
        if have.is_some_and(|part| part.offset > MAX_RELEASE_BYTES) {
            return Err(NotFetched::StartAgain);
        }
        let (reply, mut recv) = self.ask(FetchRequest { release, have }).await?;
        match reply {
            FetchReplyMsg::Refused { code: FetchCode::Offset, .. } if have.is_some() => {
                Err(NotFetched::StartAgain)
            }
            FetchReplyMsg::Refused { code, message } => {
                Err(NotFetched::Fault(Fault::new(format!("{code}: {message}"), Until::Connection)))
            }
            FetchReplyMsg::Found { total, signature, body, offset } => {
                let checked = self.gate.check(release, Some(&signature), Origin::Wire);
                checked.map_err(|words| NotFetched::Fault(Fault::new(words, Until::Ring)))?;
                self.check_body(have, body, (total, offset))?;
                if have.is_some_and(|part| part.body != body.id) {
                    self.store.forget_parts(release);
                }
                let missing = body.len - offset;
                self.receive(&mut recv, body.id, missing as usize).await?;
                tracing::info!(
                    release = release.short(),
                    travelled = missing,
                    went_on_at = offset,
                    bytes = total,
                    "a release was fetched"
                );
                Ok(Fetched { signature, body: body.id, total, resumed: offset > 0 })
            }
        }
    }

    /// Opens a stream and sends the request; the reply, and what follows it.
    async fn ask(&self, request: FetchRequest) -> Result<(FetchReplyMsg, RecvStream), NotFetched> {
        let Connection::Quic(connection) = self.session.connection() else {
            let words = "releases do not travel over TCP: name an encoder without tcp:// first".to_owned();
            return Err(NotFetched::Fault(Fault::new(words, Until::Connection)));
        };
        let (mut send, mut recv) = connection.open_bi().await.map_err(WireError::from)?;
        // The stream is new, so its priority can be set.
        let _ = send.set_priority(BEHIND_FRAMES);
        send.write_all(&[StreamKind::Fetch as u8]).await.map_err(WireError::from)?;
        write_msg(&mut send, &request, MAX_FETCH_REQUEST_BYTES).await?;
        // Already stopped is the only error, and then the reply says why.
        let _ = send.finish();
        let reply = timeout(SILENCE, expect_msg(&mut recv, MAX_FETCH_REPLY_BYTES)).await;
        Ok((reply.map_err(|_| silent())??, recv))
    }

    /// The release's own file has its length, another body is shorter; it goes on where it was asked to, or starts.
    fn check_body(
        &self,
        have: Option<Part>,
        body: Body,
        (total, offset): (u32, u32),
    ) -> Result<(), NotFetched> {
        let lie = |words: String| Err(NotFetched::Fault(Fault::new(words, Until::Connection)));
        let plain = body.id == BodyId::plain(self.release);
        if plain != (body.len == total) {
            return lie(format!("the server sends {} bytes for a release of {total}", body.len));
        }
        let want = have.filter(|part| part.body == body.id).map_or(0, |part| part.offset);
        if offset != want {
            return lie(format!("the server goes on at byte {offset}, not at {want}"));
        }
        Ok(())
    }

    /// Writes what comes, which must be `missing` bytes, behind what is there.
    async fn receive(
        &self,
        recv: &mut RecvStream,
        body: BodyId,
        mut missing: usize,
    ) -> Result<(), NotFetched> {
        let part = self.store.part_path(self.release, body);
        let mut waiting = Vec::new();
        loop {
            let chunk = timeout(SILENCE, recv.read_chunk(WRITE_BYTES, true)).await;
            let chunk = match chunk.map_err(|_| silent())? {
                Ok(chunk) => chunk,
                Err(error) => {
                    append(&part, waiting).await?;
                    return Err(WireError::from(error).into());
                }
            };
            let ended = chunk.is_none();
            if let Some(chunk) = chunk {
                missing = missing.checked_sub(chunk.bytes.len()).ok_or_else(|| lying("more"))?;
                waiting.extend_from_slice(&chunk.bytes);
            }
            if ended || waiting.len() >= WRITE_BYTES {
                append(&part, std::mem::take(&mut waiting)).await?;
            }
            if ended {
                return if missing == 0 { Ok(()) } else { Err(lying("fewer")) };
            }
        }
    }
}

async fn append(part: &Path, bytes: Vec<u8>) -> Result<(), NotFetched> {
    let part = part.to_owned();
    let write = move || OpenOptions::new().create(true).append(true).open(part)?.write_all(&bytes);
    let written = tokio::task::spawn_blocking(write).await;
    Ok(written.unwrap_or_else(|error| Err(io::Error::other(error)))?)
}

fn lying(what: &str) -> NotFetched {
    NotFetched::Fault(Fault::new(format!("the server sent {what} bytes than it said"), Until::Connection))
}

fn silent() -> NotFetched {
    let words = format!("the server sent nothing for {} s", SILENCE.as_secs());
    NotFetched::Fault(Fault::new(words, Until::Connection))
}
