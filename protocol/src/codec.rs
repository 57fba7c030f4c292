//! Bytes to messages and back.
//!
//! ```text
//! message ─► encode ─► [u32 LE length][bincode body] ─► Deframer ─► body ─► decode_exact ─► message
//! ```
//! bincode is named in this file and in the derives only. The crate is frozen upstream; golden bytes and a
//! second implementation (wincode) pin the format in `tests/`, so it can be replaced without a wire change.

use bincode::{
    de::{Decoder, DecoderImpl, read::Reader},
    error::DecodeError,
};

use crate::{limits::MAX_REPLY_BYTES, message::Message};

/// Bytes of the length prefix before every body.
pub const PREFIX_BYTES: usize = 4;

/// bincode's limit counts an integer at its full width although it travels in fewer bytes. No message has more
/// integers outside its containers than this many bytes of them.
const INTEGER_SLACK: usize = 256;

/// The constant limit bincode wants; [`decode_exact`] uses up what a body cannot hold before it starts.
const CEILING: usize = MAX_REPLY_BYTES + INTEGER_SLACK;

/// Why bytes are no message, or a message may not travel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what the fields are
pub enum CodecError {
    /// A length prefix, a body or an encoded message exceeds its limit.
    #[error("a message of {len} bytes exceeds the limit of {limit}")]
    TooLong { len: u64, limit: u64 },
    /// The body ends inside the message.
    #[error("{message} ends early: {len} bytes are too few")]
    Truncated { message: &'static str, len: usize },
    /// The body goes on after the message.
    #[error("{message} is followed by {extra} more bytes")]
    Trailing { message: &'static str, extra: usize },
    /// The body is no such message.
    #[error("{message} cannot be read: {detail}")]
    Malformed { message: &'static str, detail: String },
    /// The message cannot be written. A defect of this program.
    #[error("{message} cannot be written: {detail}")]
    Unencodable { message: &'static str, detail: String },
    /// A stream starts with a byte that names no purpose.
    #[error("a stream starts with {found}: known are 0 (control), 1 (frame), 2 (fetch) and 3 (operator)")]
    UnknownStreamKind { found: u8 },
    /// A string is too long.
    #[error("the {field} has {len} bytes, the limit is {limit}")]
    StringTooLong { field: &'static str, len: usize, limit: usize },
    /// A name cannot be printed.
    #[error("the {field} has the control character {found:?}")]
    ControlCharacter { field: &'static str, found: char },
    /// A list is too long.
    #[error("{count} {field}, the limit is {limit}")]
    TooMany { field: &'static str, count: usize, limit: usize },
    /// A number is outside its range.
    #[error("{field}: {value} is not within {min}..={max}")]
    OutOfRange { field: &'static str, value: u64, min: u64, max: u64 },
    /// A tensor's data or scales do not fit its shape.
    #[error("{field}: {got}, the shape needs {want}")]
    WrongCount { field: &'static str, got: u64, want: u64 },
    /// A tensor's scale is negative, infinite or not a number.
    #[error("the scale of row {row} is {value}: it must be finite and not negative")]
    BadScale { row: usize, value: f32 },
    /// A head's values have no mean or spread.
    #[error("values with mean {mean} and squares {squares}: both must be finite, the squares not negative")]
    BadMoments { mean: f64, squares: f64 },
    /// A quantity that is none.
    #[error("{field} is {value}: it must be finite and not negative")]
    BadQuantity { field: &'static str, value: f64 },
}

/// `message` with its length prefix, ready to be written to a stream. `limit` (bytes of the body) is what the
/// other side accepts; the message's own [`Message::MAX_BYTES`] holds besides.
///
/// # Errors
/// [`CodecError`] if the message is longer or does not [`validate`](Message::validate).
pub fn encode<M: Message>(message: &M, limit: usize) -> Result<Vec<u8>, CodecError> {
    message.validate()?;
    let mut framed = vec![0; PREFIX_BYTES];
    bincode::encode_into_std_write(message, &mut framed, bincode::config::standard())
        .map_err(|error| CodecError::Unencodable { message: M::NAME, detail: error.to_string() })?;
    let len = framed.len() - PREFIX_BYTES;
    let prefix = u32::try_from(check_len(len as u64, limit.min(M::MAX_BYTES))?)
        .expect("every limit on a message is below 4 GiB");
    framed[..PREFIX_BYTES].copy_from_slice(&prefix.to_le_bytes());
    Ok(framed)
}

/// The one message that is exactly `body` (without the length prefix). `limit` is the longest body accepted,
/// in bytes; the message's own [`Message::MAX_BYTES`] holds besides. Allocates at most about `body.len()`
/// bytes, whatever lengths the body claims.
///
/// # Errors
/// [`CodecError`] if the body is too long, ends early, goes on, is no such message or does not
/// [`validate`](Message::validate).
pub fn decode_exact<M: Message>(body: &[u8], limit: usize) -> Result<M, CodecError> {
    check_len(body.len() as u64, limit.min(M::MAX_BYTES))?;
    let config = bincode::config::standard().with_limit::<CEILING>();
    let mut decoder = DecoderImpl::new(Body(body), config, ());
    // bincode allocates what a length claims as long as its limit allows. What this body cannot hold is used
    // up first, so the claim fails instead.
    let out_of_reach = CEILING.saturating_sub(body.len() + INTEGER_SLACK);
    let decoded = decoder.claim_bytes_read(out_of_reach).and_then(|()| M::decode(&mut decoder));
    let message = decoded.map_err(|error| explain::<M>(&error, body.len()))?;
    match decoder.reader().0.len() {
        0 => message.validate().map(|()| message),
        extra => Err(CodecError::Trailing { message: M::NAME, extra }),
    }
}

/// Length of the body that `prefix` announces, in bytes.
///
/// # Errors
/// [`CodecError::TooLong`] if it exceeds `limit`.
pub fn body_len(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, CodecError> {
    check_len(u32::from_le_bytes(prefix).into(), limit)
}

/// Cuts a stream of bytes into message bodies.
///
/// It holds what was pushed and not yet handed out: call [`next`](Self::next) until it gives `None` before
/// pushing more. After an error the stream is unreadable, and the error repeats.
#[derive(Debug)]
pub struct Deframer {
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that were handed out.
    read: usize,
}

impl Deframer {
    /// Accepts bodies of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), read: 0 }
    }

    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole body, without its prefix. `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] as soon as a prefix announces more than the limit.
    #[allow(clippy::should_implement_trait)] // an iterator that ends and goes on would mislead
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, CodecError> {
        let waiting = &self.buffer[self.read..];
        let Some((prefix, rest)) = waiting.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let len = body_len(*prefix, self.limit)?;
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let body = body.to_vec();
        self.read += PREFIX_BYTES + len;
        Ok(Some(body))
    }

    /// Bytes the message at the front takes with its prefix; of the prefix alone while that is incomplete.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self.buffer[self.read..].first_chunk::<PREFIX_BYTES>() {
            Some(prefix) => (u32::from_le_bytes(*prefix) as usize).saturating_add(PREFIX_BYTES),
            None => PREFIX_BYTES,
        }
    }

    /// Bytes pushed and not yet handed out: not 0 at the end of a stream means it was cut.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.read
    }
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl Reader for Body<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let Some((head, rest)) = self.0.split_at_checked(bytes.len()) else {
            return Err(DecodeError::UnexpectedEnd { additional: bytes.len() - self.0.len() });
        };
        bytes.copy_from_slice(head);
        self.0 = rest;
        Ok(())
    }

    fn peek_read(&mut self, n: usize) -> Option<&[u8]> {
        self.0.get(..n)
    }

    fn consume(&mut self, n: usize) {
        self.0 = self.0.get(n..).unwrap_or_default();
    }
}

fn check_len(len: u64, limit: usize) -> Result<usize, CodecError> {
    match usize::try_from(len) {
        Ok(fits) if fits <= limit => Ok(fits),
        _ => Err(CodecError::TooLong { len, limit: limit as u64 }),
    }
}

fn explain<M: Message>(error: &DecodeError, len: usize) -> CodecError {
    match error {
        // A claimed length beyond the body and a body that ends early are the same thing.
        DecodeError::UnexpectedEnd { .. } | DecodeError::LimitExceeded => {
            CodecError::Truncated { message: M::NAME, len }
        }
        DecodeError::UnexpectedVariant { type_name, found, .. } => {
            CodecError::Malformed { message: M::NAME, detail: format!("{type_name} has no variant {found}") }
        }
        other => CodecError::Malformed { message: M::NAME, detail: other.to_string() },
    }
}
