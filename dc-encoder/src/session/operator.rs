//! An operator's connection: one request after another, each on a stream of its own.
//!
//! ```text
//! stream ─► request ─┬─ Publish: bytes ─► a file beside the blobs ─► Registrar::publish ─┬─► replies, Done | Refused
//!                    └─ others ────────────────────────► Registrar::answer ──────────────┘
//! ```
//! The certificate's role decides who may ask at all; what a change says is decided by signatures, in the registrar.

use std::sync::Arc;

use jiff::Timestamp;
use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{OperatorCode, OperatorReplyMsg, OperatorRequestMsg, ReleaseId, StreamKind, close};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use shared::release::Pattern;
use shared::tls::{PeerIdentity, Role, diagnose_expired, expired};
use shared::wire::{WireError, expect_end, expect_msg, write_msg};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::devices::Place;
use super::stream::{on_disk, read_kind};
use super::{Context, End};
use crate::registry::RegistryError;

type Replies = Vec<OperatorReplyMsg>;

/// A connection whose first stream is an operator's.
#[derive(Debug)]
pub(super) struct Operator {
    connection: Connection,
    context: Arc<Context>,
    identity: PeerIdentity,
    _place: Place,
}

impl Operator {
    pub(super) fn new(
        connection: &Connection,
        context: &Arc<Context>,
        identity: PeerIdentity,
        place: Place,
    ) -> Self {
        Self { connection: connection.clone(), context: Arc::clone(context), identity, _place: place }
    }

    /// The operator, for the log and the audit log.
    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    /// Serves the operator until the connection ends; `first` is the stream that said what it is.
    pub(super) async fn serve(self, first: (SendStream, RecvStream)) -> End {
        let mut draining = self.context.draining.clone();
        tokio::select! {
            end = self.requests(first) => end,
            () = self.context.revocations.revoked(&self.identity.serial) => {
                let why = format!("the certificate of {} was revoked (serial {})", self.name(), self.identity.serial);
                End::new(close::REVOKED, why)
            }
            () = expired(self.identity.not_after, &*self.context.clock) => {
                let peer = self.connection.remote_address().to_string();
                End::new(close::EXPIRED, diagnose_expired(&self.identity, &self.context.about(&peer)).to_string())
            }
            _ = draining.wait_for(|draining| *draining) => End::new(close::DRAINING, "the encoder is shutting down"),
        }
    }

    async fn requests(&self, first: (SendStream, RecvStream)) -> End {
        let mut stream = first;
        loop {
            if let Err(end) = self.request(stream).await {
                return end;
            }
            stream = match self.next().await {
                Ok(stream) => stream,
                Err(end) => return end,
            };
        }
    }

    async fn next(&self) -> Result<(SendStream, RecvStream), End> {
        let (send, mut recv) = self.connection.accept_bi().await.map_err(End::lost)?;
        let kind = timeout(self.context.timeouts.receive, read_kind(&mut recv)).await;
        match kind.map_err(|_| End::malformed("a stream without a first byte"))? {
            Ok(StreamKind::Operator) => Ok((send, recv)),
            Ok(kind) => {
                Err(End::malformed(format!("an operator may not open a stream of kind {}", kind as u8)))
            }
            Err(error) => Err(End::of_stream(&error)),
        }
    }

    /// Answers one request. A camera's certificate ends here, with the reason.
    async fn request(&self, (mut send, mut recv): (SendStream, RecvStream)) -> Result<(), End> {
        let denied = self.denied();
        let replies = match &denied {
            Some(why) => vec![OperatorReplyMsg::refused(OperatorCode::Role, why)],
            None => self.replies(&mut recv).await?,
        };
        // What was refused early is not read to its end.
        let _ = recv.stop(VarInt::from_u32(close::OK));
        self.write(&mut send, &replies).await?;
        denied.map_or(Ok(()), |why| Err(End::new(close::REFUSED, why)))
    }

    fn denied(&self) -> Option<String> {
        let PeerIdentity { role, name, .. } = &self.identity;
        (*role != Role::Operator).then(|| {
            format!(
                "the certificate of {name} has the role {role}; issue one for an operator: dc-encoder pki issue \
                 --operator NAME"
            )
        })
    }

    async fn replies(&self, recv: &mut RecvStream) -> Result<Replies, End> {
        let malformed = |why: &str| Ok(vec![OperatorReplyMsg::refused(OperatorCode::Malformed, why)]);
        let by = Instant::now() + self.context.timeouts.receive;
        let request = match timeout_at(by, expect_msg(recv, MAX_CONTROL_BYTES)).await {
            Err(_) => return malformed("the request did not arrive in time"),
            Ok(Err(error)) if error.is_malformed() => return malformed(&error.to_string()),
            Ok(Err(error)) => return Err(End::of_stream(&error)),
            Ok(Ok(request)) => request,
        };
        let answered = match request {
            OperatorRequestMsg::Publish { release, total, signature } => {
                let upload = Upload { release, total, signature };
                self.publish(recv, upload).await
            }
            request => match timeout_at(by, expect_end(recv)).await {
                Ok(Ok(())) => self.answer(request).await,
                Ok(Err(error)) if error.is_connection_gone() => return Err(End::of_stream(&error)),
                Ok(Err(_)) | Err(_) => return malformed("the stream goes on after the request"),
            },
        };
        Ok(answered.unwrap_or_else(|error| vec![OperatorReplyMsg::refused(error.code(), &error.to_string())]))
    }

    async fn answer(&self, request: OperatorRequestMsg) -> Result<Replies, RegistryError> {
        if let OperatorRequestMsg::Ledger { cameras } = &request {
            // No registry is needed for it.
            let cameras: Option<Pattern> = (!cameras.is_empty()).then(|| cameras.parse()).transpose()?;
            let mut replies = self.context.ledger.answer(cameras.as_ref());
            replies.push(OperatorReplyMsg::Done { note: String::new() });
            return Ok(replies);
        }
        let by = self.name().to_owned();
        self.registry(move |context| {
            let connected = |camera: &str| context.live.holds(camera);
            context.registrar()?.answer(&by, &request, Timestamp::now(), &connected)
        })
        .await
    }

    async fn publish(&self, recv: &mut RecvStream, upload: Upload) -> Result<Replies, RegistryError> {
        let Upload { release, total, signature } = upload;
        let done = |note: &str| vec![OperatorReplyMsg::Done { note: note.to_owned() }];
        let expected = signature.clone();
        let file = self.registry(move |context| {
            let registrar = context.registrar()?;
            let wanted = registrar.expects(release, &expected)?;
            wanted.then(|| registrar.store().incoming()).transpose()
        });
        let Some(file) = file.await? else { return Ok(done("was there already")) };
        let file = self.receive(recv, file, total).await?;
        let by = self.name().to_owned();
        let space = self.registry(move |context| {
            context.registrar()?.publish(&by, (release, &signature), file, Timestamp::now())
        });
        Ok(done(&self.other_space(&space.await?)))
    }

    /// A head may be meant for another server's cameras; whoever published it should know.
    fn other_space(&self, space: &str) -> String {
        let here = self.context.welcome.space;
        if space == here.to_string() {
            return String::new();
        }
        let space: String = space.chars().take(12).collect();
        format!("it reads embedding space {space}, this server makes {}: its cameras refuse it", here.short())
    }

    /// Writes what comes into the file; it must be `total` bytes.
    async fn receive(
        &self,
        recv: &mut RecvStream,
        file: NamedTempFile,
        total: u32,
    ) -> Result<NamedTempFile, RegistryError> {
        let failed = |error: &std::io::Error| RegistryError::Io {
            what: "write",
            path: file.path().to_owned(),
            source: std::io::Error::from(error.kind()),
        };
        let cut = |got: u64| RegistryError::Request(format!("{got} of {total} bytes came: send it again"));
        let mut to = tokio::fs::File::from_std(file.reopen().map_err(|error| failed(&error))?);
        let mut got = 0;
        loop {
            let chunk = timeout(self.context.timeouts.receive, recv.read_chunk(CHUNK_BYTES, true)).await;
            let Some(chunk) = chunk.map_err(|_| cut(got))?.map_err(|_| cut(got))? else { break };
            got += chunk.bytes.len() as u64;
            if got > u64::from(total) {
                return Err(RegistryError::Request(format!("more than the announced {total} bytes came")));
            }
            to.write_all(&chunk.bytes).await.map_err(|error| failed(&error))?;
        }
        to.flush().await.map_err(|error| failed(&error))?;
        if got == u64::from(total) { Ok(file) } else { Err(cut(got)) }
    }

    /// Runs what waits for the disk; a change that has begun is finished even if the operator goes away.
    async fn registry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Context) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        on_disk(&self.context, work).await.unwrap_or_else(|why| Err(RegistryError::Failed(why)))
    }

    async fn write(&self, send: &mut SendStream, replies: &[OperatorReplyMsg]) -> Result<(), End> {
        let within = self.context.timeouts.reply;
        for reply in replies {
            match timeout(within, write_msg(send, reply, MAX_CONTROL_BYTES)).await {
                Ok(Ok(())) => {}
                Ok(Err(WireError::Stopped { .. })) => return Ok(()),
                Ok(Err(error)) => return Err(End::of_stream(&error)),
                Err(_) => return Err(End::malformed("the operator does not read the replies")),
            }
        }
        let _ = send.finish();
        // Delivered, stopped, lost or too slow: a refusal may close the connection now.
        let _ = timeout(within, send.stopped()).await;
        Ok(())
    }
}

/// Most bytes written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A release that an operator sends.
struct Upload {
    release: ReleaseId,
    total: u32,
    signature: Vec<u8>,
}
