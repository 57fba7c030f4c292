//! The greeting: who is there, may they come in, and if not, why not. The first stream says whether it is an agent or an
//! operator.

use std::sync::Arc;
use std::time::Instant;

use protocol::limits::MAX_CONTROL_BYTES;
use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, Hello, RefuseCode, Refused, StreamKind, close};
use quinn::{Connection, RecvStream, SendStream};
use shared::tls::PeerIdentity;
use shared::wire::{MsgReader, WireError};
use tokio::time::{timeout, timeout_at};

use super::control::Session;
use super::live::{Newcomer, Seat};
use super::operator::Operator;
use super::quic::Quic;
use super::transport::Peer;
use super::{Context, End, admit, frame, write_control};

/// Who came.
pub(super) enum Visitor {
    /// An agent that was admitted.
    Agent(Box<Session<Quic>>),
    /// Someone who asks for what operators do, on this stream. Whether they may is told there.
    Operator(Box<Operator>, (SendStream, RecvStream)),
}

/// Reads the greeting and answers it. A refusal is delivered before the connection closes, so that the agent
/// can print it.
pub(super) async fn greet(connection: &Connection, context: &Arc<Context>) -> Result<Visitor, End> {
    let identity =
        PeerIdentity::of(connection).map_err(|error| End::new(close::REFUSED, error.to_string()))?;
    let place = context.devices.enter(&identity, Instant::now()).map_err(|why| {
        context.metrics.refused(RefuseCode::Limit);
        End::new(close::REFUSED, why)
    })?;
    let within = context.timeouts.hello;
    let by = tokio::time::Instant::now() + within;
    let late = |_| End::malformed(format!("no greeting within {}", humantime::format_duration(within)));
    let (kind, mut send, recv) = timeout_at(by, first_stream(connection)).await.map_err(late)??;
    if kind == StreamKind::Operator {
        let operator = Box::new(Operator::new(connection, context, identity, place));
        return Ok(Visitor::Operator(operator, (send, recv)));
    }
    let mut reader = MsgReader::new(recv, MAX_CONTROL_BYTES);
    let seated = match timeout_at(by, read_hello(&mut reader)).await.map_err(late)? {
        Ok(hello) => {
            let newcomer = Newcomer { instance: hello.instance, peer: Peer::Quic(connection.clone()) };
            seat(newcomer, context, &identity, &hello).map(|seat| (hello, seat))
        }
        Err(error) if error.is_connection_gone() => return Err(End::of_stream(&error)),
        Err(error) => Err(Refused::new(RefuseCode::Malformed, &error.to_string())),
    };
    match seated {
        Ok((hello, seat)) => {
            // Small, and not to wait behind replies. It fails only if the agent stopped the stream, and then
            // so does the write.
            let _ = send.set_priority(i32::MAX);
            write_control(&mut send, &EncoderToAgentMsg::Welcome(context.welcome.clone()), context).await?;
            context.metrics.admitted();
            let shared = Arc::new(frame::Shared::new(Arc::clone(context), seat.key(), &hello.camera, place));
            let quic = Quic::new(connection, send, reader);
            let session = Session::new(quic, shared, hello, (seat, identity));
            Ok(Visitor::Agent(Box::new(session)))
        }
        Err(refused) => {
            context.metrics.refused(refused.code);
            Err(refuse(send, context, refused).await)
        }
    }
}

/// The first stream of a connection must be an agent's control stream, or an operator's.
async fn first_stream(connection: &Connection) -> Result<(StreamKind, SendStream, RecvStream), End> {
    let (send, mut recv) = connection.accept_bi().await.map_err(End::lost)?;
    let mut kind = [0];
    recv.read_exact(&mut kind)
        .await
        .map_err(|error| End::malformed(format!("no control stream: {error}")))?;
    match StreamKind::try_from(kind[0]) {
        Ok(kind @ (StreamKind::Control | StreamKind::Operator)) => Ok((kind, send, recv)),
        Ok(StreamKind::Frame | StreamKind::Fetch) => {
            Err(End::malformed("another stream came before the greeting"))
        }
        Err(error) => Err(End::malformed(error.to_string())),
    }
}

async fn read_hello(reader: &mut MsgReader) -> Result<Hello, WireError> {
    match reader.next().await?.ok_or(WireError::Ended)? {
        AgentToEncoderMsg::Hello(hello) => Ok(hello),
        AgentToEncoderMsg::Ping(_)
        | AgentToEncoderMsg::Goodbye(_)
        | AgentToEncoderMsg::Head(_)
        | AgentToEncoderMsg::Work(_) => Err(WireError::Ended),
    }
}

/// Everything that can speak against a session, in the order a person would want to hear it.
pub(super) fn seat(
    newcomer: Newcomer,
    context: &Context,
    identity: &PeerIdentity,
    hello: &Hello,
) -> Result<Seat, Refused> {
    admit::check_version(hello)?;
    admit::check_camera(hello, identity)?;
    admit::check_space(hello, &context.welcome)?;
    if *context.draining.borrow() {
        return Err(Refused::new(RefuseCode::Draining, "connect to another encoder"));
    }
    context.live.admit(&hello.camera, newcomer, Instant::now())
}

/// Delivers a refusal: closing a connection discards what the peer has not acknowledged.
async fn refuse(mut send: SendStream, context: &Context, refused: Refused) -> End {
    let end = End::new(close::REFUSED, refused.to_string());
    let message = EncoderToAgentMsg::Refused(refused);
    if let Err(end) = write_control(&mut send, &message, context).await {
        return end;
    }
    let _ = send.finish();
    // Delivered, stopped, lost or too slow: the connection closes now in any case.
    let _ = timeout(context.timeouts.reply, send.stopped()).await;
    end
}
