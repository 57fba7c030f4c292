//! One frame, one stream: send it, read the embedding, cancel it when it goes stale. Over TCP, the same among others.
//!
//! ```text
//! open ─► kind, header, JPEG, end ══► (encoder) ══► reply ─► Embedding
//!    └──────────── deadline passed, or the task dropped: RESET and STOP with `close::STALE`
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use protocol::limits::{MAX_FRAME_HEADER_BYTES, reply_bytes};
use protocol::{
    Answer, Deframer, Encoding, FrameHeader, FrameReplyMsg, Kept, ServerTimings, StreamKind, Welcome, close,
    codec,
};
use quinn::{RecvStream, SendStream, VarInt};
use shared::embedding::from_wire;
use shared::wire::WireError;

use super::clocks::OneWay;
use super::session::{Connection, Session};
use crate::heads::Embedding;
use crate::ledger::Dropped;

/// A frame on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Number of the frame.
    pub seq: u64,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// What is sent.
    pub jpeg: Bytes,
    /// Columns × rows of the JPEG.
    pub pixels: u64,
    /// Which patches it holds, if not the whole frame.
    pub patches: Option<Kept>,
    /// When the answer stops being useful.
    pub deadline: Instant,
    /// How the embedding travels.
    pub embedding: Encoding,
    /// Whether a head reads the latent tokens.
    pub tokens: bool,
}

/// A frame's embedding, and where the time went.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// What the heads read.
    pub embedding: Embedding,
    /// From opening the stream until all bytes were handed to the connection.
    pub send: Duration,
    /// From the reply's first byte to numbers.
    pub reply: Duration,
    /// What remains of the whole: both ways through the network.
    pub network: Duration,
    /// The way back of it, once pings tell the clocks' offset.
    pub way_back: Option<OneWay>,
    /// The encoder's own stages.
    pub encoder: ServerTimings,
}

/// Sends a frame and waits for its embedding. Cancelling (dropping the future) tells the encoder that the
/// frame is stale.
///
/// # Errors
/// Why the frame has no embedding.
pub async fn exchange(session: &Session, frame: &Outgoing) -> Result<Incoming, Dropped> {
    within_limits(frame, session.welcome())?;
    let until = tokio::time::Instant::from_std(frame.deadline);
    let given = frame.deadline.saturating_duration_since(Instant::now());
    if given.is_zero() {
        return Err(Dropped::Expired("too old when its turn to be sent came".into()));
    }
    tokio::time::timeout_at(until, talk(session, frame)).await.unwrap_or_else(|_| {
        Err(Dropped::Expired(format!("no reply from {} within {} ms", session.server(), given.as_millis())))
    })
}

fn within_limits(frame: &Outgoing, welcome: &Welcome) -> Result<(), Dropped> {
    let limits = &welcome.limits;
    if frame.jpeg.len() as u64 > u64::from(limits.max_frame_bytes) {
        let (bytes, most) = (frame.jpeg.len(), limits.max_frame_bytes);
        return Err(Dropped::Prepare(format!(
            "{bytes} bytes, the encoder takes {most}; lower uplink.quality or uplink.max_width"
        )));
    }
    if frame.pixels > u64::from(limits.max_pixels) {
        let (pixels, most) = (frame.pixels, limits.max_pixels);
        return Err(Dropped::Prepare(format!(
            "{pixels} pixels, the encoder takes {most}; lower uplink.max_width and uplink.max_height"
        )));
    }
    Ok(())
}

async fn talk(session: &Session, frame: &Outgoing) -> Result<Incoming, Dropped> {
    let start = Instant::now();
    let shape = Shape::of(frame, session.welcome());
    let exchanged = match session.connection() {
        Connection::Quic(connection) => over_quic(connection, frame, &shape).await,
        Connection::Tcp(connection) => match head(frame, &shape) {
            Ok(head) => connection.exchange(frame.seq, head, frame.jpeg.clone()).await,
            Err(error) => Err(error),
        },
    };
    let (sent, (message, first_byte)) = exchanged.map_err(|error| session.dropped_by(error))?;
    let answer = expect_answer(message, frame.seq)?;
    let embedding = shape.numbers(&answer).map_err(Dropped::BadReply)?;
    let spent = Spent { total: start.elapsed(), send: sent - start, reply: first_byte.elapsed() };
    let network = spent.network(&answer.timings);
    let left_us = left_us(&answer.timings);
    Ok(Incoming {
        embedding,
        send: spent.send,
        reply: spent.reply,
        network,
        way_back: session.way_back(left_us, first_byte, network),
        encoder: answer.timings,
    })
}

/// When the encoder's stages were over, by its clock.
fn left_us(timings: &ServerTimings) -> u64 {
    let ServerTimings { receive_us, queue_us, decode_us, encode_us, arrived_us } = *timings;
    let stages = [receive_us, queue_us, decode_us, encode_us].map(u64::from);
    stages.iter().fold(arrived_us, |at, stage| at.saturating_add(*stage))
}

/// When all was sent, the reply, and when that began to arrive.
type Exchanged = (Instant, (FrameReplyMsg, Instant));

async fn over_quic(
    connection: &quinn::Connection,
    frame: &Outgoing,
    shape: &Shape<'_>,
) -> Result<Exchanged, WireError> {
    let (send, recv) = connection.open_bi().await?;
    let mut stream = FrameStream { send, recv, done: false };
    // The stream is new, so its priority can be set.
    let _ = stream.send.set_priority(priority(frame.seq));
    let exchanged = converse(&mut stream, frame, shape).await?;
    stream.done = true;
    Ok(exchanged)
}

/// Writes the frame and reads its reply.
async fn converse(
    FrameStream { send, recv, .. }: &mut FrameStream,
    frame: &Outgoing,
    shape: &Shape<'_>,
) -> Result<Exchanged, WireError> {
    let mut reply = std::pin::pin!(read_reply(recv, shape.limit));
    // An encoder may reply (refuse) before it read everything: its reply counts, not the stopped writing.
    tokio::select! {
        biased;
        early = &mut reply => Ok((Instant::now(), early?)),
        written = write_frame(send, frame, shape) => {
            let sent = Instant::now();
            match written {
                Ok(()) | Err(WireError::Stopped { .. }) => Ok((sent, reply.await?)),
                Err(error) => Err(error),
            }
        }
    }
}

/// Both directions of a frame's stream; cancelled unless the exchange was completed.
struct FrameStream {
    send: SendStream,
    recv: RecvStream,
    done: bool,
}

impl Drop for FrameStream {
    fn drop(&mut self) {
        if !self.done {
            // Errors say that the stream is closed already, which is what is wanted.
            let _ = self.send.reset(VarInt::from_u32(close::STALE));
            let _ = self.recv.stop(VarInt::from_u32(close::STALE));
        }
    }
}

/// Newer frames go first; the control stream (`i32::MAX`) goes before all of them.
fn priority(seq: u64) -> i32 {
    i32::try_from(seq % (i32::MAX as u64)).expect("a remainder below i32::MAX fits")
}

/// What is asked for and what may come back.
struct Shape<'a> {
    welcome: &'a Welcome,
    tokens: Option<Encoding>,
    limit: usize,
}

impl<'a> Shape<'a> {
    fn of(frame: &Outgoing, welcome: &'a Welcome) -> Self {
        // Exact tokens would be megabytes a frame; half precision is what heads are trained on.
        let encoding = if frame.embedding == Encoding::F32 { Encoding::F16 } else { frame.embedding };
        // An encoder without a grid would refuse the frame: heads that need one say so themselves.
        let tokens = welcome.grid.filter(|_| frame.tokens).map(|grid| (grid, encoding));
        let limit = reply_bytes(welcome.embed_dim, frame.embedding, tokens);
        Self { welcome, tokens: tokens.map(|(_, encoding)| encoding), limit }
    }

    fn numbers(&self, answer: &Answer) -> Result<Embedding, String> {
        let Welcome { space, embed_dim, grid, .. } = self.welcome;
        let embedding = from_wire(&answer.embedding, 1, *embed_dim).map_err(|error| error.to_string())?;
        let tokens = match (&answer.tokens, self.tokens.and(*grid)) {
            (Some(tensor), Some(grid)) => {
                Some(from_wire(tensor, grid.rows * grid.cols, grid.dim).map_err(|error| error.to_string())?)
            }
            (None, None) => None,
            (Some(_), None) => return Err("it holds latent tokens nobody asked for".into()),
            (None, Some(_)) => return Err("the latent tokens are missing".into()),
        };
        Ok(Embedding { space: *space, embedding, tokens })
    }
}

/// What comes before the JPEG.
fn head(frame: &Outgoing, shape: &Shape<'_>) -> Result<Vec<u8>, WireError> {
    let left = frame.deadline.saturating_duration_since(Instant::now()).as_millis();
    let header = FrameHeader {
        seq: frame.seq,
        captured_at_us: frame.captured_at.as_microsecond(),
        // 0 would mean "for ever".
        deadline_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        jpeg_len: u32::try_from(frame.jpeg.len()).unwrap_or(u32::MAX),
        embedding: frame.embedding,
        tokens: shape.tokens,
        patches: frame.patches.clone(),
    };
    let mut head = vec![StreamKind::Frame as u8];
    head.extend(codec::encode(&header, MAX_FRAME_HEADER_BYTES)?);
    Ok(head)
}

async fn write_frame(send: &mut SendStream, frame: &Outgoing, shape: &Shape<'_>) -> Result<(), WireError> {
    let head = head(frame, shape)?;
    send.write_all_chunks(&mut [head.into(), frame.jpeg.clone()]).await?;
    // Already reset is the only error, and then nobody waits for the end.
    let _ = send.finish();
    Ok(())
}

/// The one message of the reply, and when its first byte came.
async fn read_reply(recv: &mut RecvStream, limit: usize) -> Result<(FrameReplyMsg, Instant), WireError> {
    let mut deframer = Deframer::new(limit);
    let mut first_byte = None;
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        let first_byte = *first_byte.get_or_insert_with(Instant::now);
        deframer.push(&chunk.bytes);
        if let Some(body) = deframer.next()? {
            return match deframer.pending() {
                0 => Ok((codec::decode_exact(&body, limit)?, first_byte)),
                _ => Err(WireError::Trailing),
            };
        }
    }
    Err(match deframer.pending() {
        0 => WireError::Ended,
        got => WireError::Truncated { got, want: deframer.wanted() },
    })
}

fn expect_answer(message: FrameReplyMsg, seq: u64) -> Result<Answer, Dropped> {
    if message.seq() != seq {
        return Err(Dropped::BadReply(format!("it is for frame {}", message.seq())));
    }
    match message {
        FrameReplyMsg::Answer(answer) => Ok(answer),
        FrameReplyMsg::Dropped { reason, .. } => Err(Dropped::Encoder(reason)),
        FrameReplyMsg::Rejected { code, message, .. } => Err(Dropped::Rejected(code, message)),
    }
}

/// The agent's own measurements of one exchange.
struct Spent {
    total: Duration,
    send: Duration,
    reply: Duration,
}

impl Spent {
    /// What the encoder's stages and this side's do not explain. `receive_us` is not taken off: while the
    /// encoder receives, the frame is on the network.
    fn network(&self, encoder: &ServerTimings) -> Duration {
        let stages = [encoder.queue_us, encoder.decode_us, encoder.encode_us];
        let encoder = stages.map(u64::from).iter().sum();
        self.total.saturating_sub(self.send + self.reply + Duration::from_micros(encoder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_frames_go_first_and_none_before_control() {
        assert!(priority(8) > priority(7));
        for seq in [0, i32::MAX as u64 - 1, i32::MAX as u64, u64::MAX] {
            assert!((0..i32::MAX).contains(&priority(seq)));
        }
    }

    #[test]
    fn network_is_the_remainder_and_never_negative() {
        let ms = Duration::from_millis;
        let encoder = ServerTimings {
            receive_us: 9000,
            queue_us: 1000,
            decode_us: 2000,
            encode_us: 40_000,
            arrived_us: 7,
        };
        assert_eq!(left_us(&encoder), 52_007);
        let spent = Spent { total: ms(60), send: ms(2), reply: ms(1) };
        assert_eq!(spent.network(&encoder), ms(14));
        assert_eq!(Spent { total: ms(30), ..spent }.network(&encoder), ms(0));
    }

    #[test]
    fn a_reply_for_another_frame_is_refused() {
        let message = FrameReplyMsg::Dropped {
            seq: 7,
            reason: protocol::DropReason::Overloaded,
            timings: ServerTimings::default(),
        };
        assert_eq!(
            expect_answer(message.clone(), 7).unwrap_err(),
            Dropped::Encoder(protocol::DropReason::Overloaded)
        );
        assert_eq!(expect_answer(message, 8).unwrap_err(), Dropped::BadReply("it is for frame 7".into()));
    }
}
