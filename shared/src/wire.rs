//! Messages over QUIC streams, and over whatever else carries bytes in order.
//!
//! ```text
//! write_msg ─► [u32 length][body] ══ stream ══► read_msg (frame streams), MsgReader (control stream)
//!                        JPEG     ══ stream ══► read_exact_limited
//! ```
//! Every length is checked against a limit before anything is allocated, and memory grows with the bytes that
//! arrived, not with the bytes announced.

use std::io;
use std::sync::Arc;

use protocol::{CodecError, Deframer, Message, codec};
use quinn::{ConnectionError, ReadError, RecvStream, WriteError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Most bytes allocated ahead of their arrival.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Why a message or a frame's bytes could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum WireError {
    /// The stream ended where a message had to follow.
    #[error("the stream ended without a message")]
    Ended,
    /// The stream ended inside a message or a frame.
    #[error("the stream ended after {got} of {want} bytes")]
    Truncated { got: usize, want: usize },
    /// The stream goes on after what had to be its last byte.
    #[error("the stream goes on after its last message")]
    Trailing,
    /// The peer announced more than is accepted.
    #[error("{len} bytes were announced, the limit is {limit}")]
    TooLong { len: u64, limit: u64 },
    /// The bytes are no message, or the message may not travel.
    #[error(transparent)]
    Malformed(#[from] CodecError),
    /// The peer reset the stream while it was read.
    #[error("the other side reset the stream: {}", code_in_words(*code))]
    Reset { code: u64 },
    /// The peer stopped the stream while it was written.
    #[error("the other side stopped the stream: {}", code_in_words(*code))]
    Stopped { code: u64 },
    /// This side already finished, reset or stopped the stream.
    #[error("the stream was already closed on this side")]
    AlreadyClosed,
    /// The peer closed the connection with a code of [`protocol::close`].
    #[error("the other side closed the connection: {}{}", code_in_words(*code), in_brackets(reason))]
    Closed { code: u64, reason: String },
    /// The connection is gone for another reason: a timeout, a reset, closed on this side.
    #[error("the connection was lost: {0}")]
    Lost(ConnectionError),
    /// What carries the bytes, and is no QUIC stream, failed.
    #[error("the connection was lost: {0}")]
    Io(Arc<io::Error>),
}

impl WireError {
    /// The peer broke the protocol, rather than going away: it deserves
    /// [`close::MALFORMED`](protocol::close::MALFORMED).
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        use WireError::{Ended, Malformed, TooLong, Trailing, Truncated};
        matches!(self, Ended | Truncated { .. } | Trailing | TooLong { .. } | Malformed(_))
    }

    /// The whole connection is gone, not only this stream.
    #[must_use]
    pub fn is_connection_gone(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Lost(_) | Self::Io(_))
    }
}

/// Writes one message. `limit`: longest body the peer accepts, in bytes. Does not finish the stream, nor flush it.
///
/// # Errors
/// [`WireError::Malformed`] before anything was written if the message may not travel; otherwise as the stream
/// ended: [`WireError::Stopped`], [`WireError::Closed`], [`WireError::Lost`], [`WireError::AlreadyClosed`],
/// [`WireError::Io`].
pub async fn write_msg<M: Message>(
    send: &mut (impl AsyncWrite + Unpin),
    message: &M,
    limit: usize,
) -> Result<(), WireError> {
    let framed = codec::encode(message, limit)?;
    Ok(send.write_all(&framed).await?)
}

/// Reads one message and not a byte more. `limit`: longest body accepted, in bytes. `None`: the stream ended
/// before a message began.
///
/// Not cancel-safe: dropping the future loses what was read. A loop that waits for other things besides uses
/// [`MsgReader`].
///
/// # Errors
/// [`WireError::TooLong`] before anything is allocated; [`WireError::Truncated`], [`WireError::Malformed`],
/// [`WireError::Reset`], [`WireError::Closed`], [`WireError::Lost`], [`WireError::Io`].
pub async fn read_msg<M: Message>(
    recv: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<M>, WireError> {
    let prefix = match read_exact_limited(recv, codec::PREFIX_BYTES as u64, codec::PREFIX_BYTES).await {
        Err(WireError::Truncated { got: 0, .. }) => return Ok(None),
        read => read?,
    };
    let len = u32::from_le_bytes(prefix.try_into().expect("as many bytes as were asked for"));
    let limit = limit.min(M::MAX_BYTES);
    let body = read_exact_limited(recv, len.into(), limit).await?;
    Ok(Some(codec::decode_exact(&body, limit)?))
}

/// [`read_msg`] where a message must follow: an ended stream is [`WireError::Ended`].
///
/// # Errors
/// As [`read_msg`].
pub async fn expect_msg<M: Message>(
    recv: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<M, WireError> {
    read_msg(recv, limit).await?.ok_or(WireError::Ended)
}

/// Reads exactly `len` bytes: a frame's JPEG. Memory grows with what arrives. Not cancel-safe.
///
/// # Errors
/// [`WireError::TooLong`] if `len` exceeds `limit`, before anything is allocated; [`WireError::Truncated`] if
/// the stream ends early; [`WireError::Reset`], [`WireError::Closed`], [`WireError::Lost`], [`WireError::Io`].
pub async fn read_exact_limited(
    recv: &mut (impl AsyncRead + Unpin),
    len: u64,
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    let too_long = WireError::TooLong { len, limit: limit as u64 };
    let want = usize::try_from(len).ok().filter(|want| *want <= limit).ok_or(too_long)?;
    let mut bytes = Vec::with_capacity(want.min(READ_AHEAD_BYTES));
    let mut rest = recv.take(len);
    while bytes.len() < want {
        if rest.read_buf(&mut bytes).await? == 0 {
            return Err(WireError::Truncated { got: bytes.len(), want });
        }
    }
    Ok(bytes)
}

/// Waits for the end of a stream that has nothing more to say.
///
/// # Errors
/// [`WireError::Trailing`] if bytes follow; [`WireError::Reset`], [`WireError::Closed`], [`WireError::Lost`].
pub async fn expect_end(recv: &mut RecvStream) -> Result<(), WireError> {
    match recv.read_chunk(1, true).await? {
        None => Ok(()),
        Some(_) => Err(WireError::Trailing),
    }
}

/// Reads message after message from a stream that carries nothing else: the control stream.
#[derive(Debug)]
pub struct MsgReader {
    recv: RecvStream,
    deframer: Deframer,
    limit: usize,
}

impl MsgReader {
    /// `limit`: longest body accepted, in bytes.
    #[must_use]
    pub fn new(recv: RecvStream, limit: usize) -> Self {
        Self { recv, deframer: Deframer::new(limit), limit }
    }

    /// The next message. `None`: the stream ended between two messages. Cancel-safe: may be dropped and called
    /// again, as a branch of a `select!`.
    ///
    /// # Errors
    /// As [`read_msg`]. After [`WireError::TooLong`] the stream is unreadable.
    pub async fn next<M: Message>(&mut self) -> Result<Option<M>, WireError> {
        loop {
            if let Some(body) = self.deframer.next()? {
                return Ok(Some(codec::decode_exact(&body, self.limit)?));
            }
            match self.recv.read_chunk(READ_AHEAD_BYTES, true).await? {
                Some(chunk) => self.deframer.push(&chunk.bytes),
                None => return self.ended(),
            }
        }
    }

    fn ended<M>(&self) -> Result<Option<M>, WireError> {
        match self.deframer.pending() {
            0 => Ok(None),
            got => Err(WireError::Truncated { got, want: self.deframer.wanted() }),
        }
    }
}

impl From<ReadError> for WireError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset { code: code.into_inner() },
            ReadError::ConnectionLost(error) => error.into(),
            // Unordered reads and 0-RTT are not used here: what remains is a stream closed on this side.
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::AlreadyClosed
            }
        }
    }
}

impl From<WriteError> for WireError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Stopped { code: code.into_inner() },
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::AlreadyClosed,
        }
    }
}

/// QUIC's own errors travel inside the system's: they are taken out again.
impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(read) = inner.and_then(|inner| inner.downcast_ref::<ReadError>()) {
            return read.clone().into();
        }
        if let Some(write) = inner.and_then(|inner| inner.downcast_ref::<WriteError>()) {
            return write.clone().into();
        }
        Self::Io(Arc::new(error))
    }
}

impl From<ConnectionError> for WireError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: close.error_code.into_inner(),
                reason: protocol::limits::clip(&String::from_utf8_lossy(&close.reason)),
            },
            other => Self::Lost(other),
        }
    }
}

fn code_in_words(code: u64) -> String {
    protocol::close::describe(code).map_or_else(|| format!("unknown code {code}"), str::to_owned)
}

fn in_brackets(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}
