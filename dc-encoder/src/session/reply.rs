//! What an agent reads about a frame.

use std::time::{Duration, Instant};

use protocol::{Answer, DropReason, FrameHeader, FrameReplyMsg, RejectCode, ServerTimings};
use shared::embedding::{EmbeddingError, to_wire};

use super::frame::Shared;
use super::{Context, unix_us};
use crate::backend::Encoded;
use crate::batch::{Outcome, Rejection, Timings};

/// The reply to a frame that reached the pipeline. `received`: when its header arrived by the wall clock, in microseconds, and
/// from then to its last byte.
pub(super) fn reply(
    header: &FrameHeader,
    received: (u64, Duration),
    outcome: Outcome,
    shared: &Shared,
) -> FrameReplyMsg {
    let seq = header.seq;
    match outcome {
        Outcome::Encoded { encoded, batch, timings } => {
            answered(header, &encoded, (batch, on_wire(received, timings)), shared.context())
        }
        Outcome::Partial { tokens, choice, batch, timings } => {
            let spent = (batch, on_wire(received, timings));
            match shared.picture.embedded(seq, &choice, &tokens) {
                Some(encoded) => answered(header, &encoded, spent, shared.context()),
                None => {
                    let why = "this encoder has no memory for patches";
                    FrameReplyMsg::rejected(seq, RejectCode::PatchesUnavailable, why)
                }
            }
        }
        Outcome::Dropped(reason, timings) => {
            FrameReplyMsg::Dropped { seq, reason, timings: on_wire(received, timings) }
        }
        Outcome::Rejected(Rejection { code, message }) => FrameReplyMsg::rejected(seq, code, &message),
    }
}

fn answered(
    header: &FrameHeader,
    encoded: &Encoded,
    (batch, timings): (usize, ServerTimings),
    context: &Context,
) -> FrameReplyMsg {
    let (seq, batch) = (header.seq, u16::try_from(batch).unwrap_or(u16::MAX));
    to_answer(header, encoded, context).map_or_else(
        |error| {
            let why = format!("the embedding cannot travel as asked: {error}");
            FrameReplyMsg::rejected(seq, RejectCode::Internal, &why)
        },
        |(embedding, tokens)| FrameReplyMsg::Answer(Answer { seq, timings, batch, embedding, tokens }),
    )
}

type Tensors = (protocol::WireTensor, Option<protocol::WireTensor>);

fn to_answer(header: &FrameHeader, encoded: &Encoded, context: &Context) -> Result<Tensors, EmbeddingError> {
    let welcome = &context.welcome;
    let embedding = to_wire(&encoded.embedding, 1, welcome.embed_dim, header.embedding)?;
    let tokens = match (&encoded.tokens, header.tokens, welcome.grid) {
        (Some(tokens), Some(encoding), Some(grid)) => {
            let rows = u32::try_from(grid.tokens()).unwrap_or(u32::MAX);
            Some(to_wire(tokens, rows, grid.dim, encoding)?)
        }
        _ => None,
    };
    Ok((embedding, tokens))
}

/// The reply to one that did not.
pub(super) fn dropped(seq: u64, reason: DropReason, started: Instant) -> FrameReplyMsg {
    FrameReplyMsg::Dropped {
        seq,
        reason,
        timings: on_wire((unix_us(), started.elapsed()), Timings::default()),
    }
}

fn on_wire(
    (arrived_us, receive): (u64, Duration),
    Timings { queue, decode, encode }: Timings,
) -> ServerTimings {
    let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    ServerTimings {
        receive_us: us(receive),
        queue_us: us(queue),
        decode_us: us(decode),
        encode_us: us(encode),
        arrived_us,
    }
}
