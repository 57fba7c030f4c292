//! A session over TCP and TLS: one connection, on which messages follow one another.
//!
//! ```text
//! reader: kind, message [, JPEG] ─► Step ─► Session ─► pipeline ─► reply ─► writer: kind, message
//! ```
//! The rules are those of a session over QUIC. What TCP cannot do is left out: a frame cannot be withdrawn, a reply waits
//! behind those before it, and a frame that does not arrive in time ends the connection, because what follows it could not
//! be found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::limits::{MAX_CONTROL_BYTES, MAX_REPLY_BYTES};
use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, FrameReplyMsg, Goodbye, GoodbyeReason, Message, RefuseCode,
    Refused, RejectCode, StreamKind, close, codec,
};
use shared::tls::PeerIdentity;
use shared::wire::{WireError, expect_msg, read_exact_limited};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::claim::{Claim, Received};
use super::control::Session;
use super::frame::{self, Ending, Malformed};
use super::live::Newcomer;
use super::stream::read_kind;
use super::transport::{Peer, Step, Transport};
use super::{Context, End, greet};
use crate::ledger::Account;
use crate::serve::metrics::Metrics;

/// Messages that wait to be written: replies of an agent's frames in flight, and a few more. Beyond, who has one waits.
const TO_WRITE: usize = 16;
/// How long the last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(crate) async fn run(stream: TlsStream<TcpStream>, peer: SocketAddr, context: Arc<Context>) {
    let identity = PeerIdentity::of_tls(stream.get_ref().1);
    let (from, to) = tokio::io::split(stream);
    let (outbox, writer) = Outbox::start(to, context.timeouts.reply);
    let end = match identity {
        Ok(identity) => serve(from, peer, &outbox, identity, &context).await,
        Err(error) => End::new(close::REFUSED, error.to_string()),
    };
    if let Some(reason) = reason(end.code) {
        let goodbye = EncoderToAgentMsg::Goodbye(Goodbye::new(reason, &end.message));
        // An agent that does not read has its reason already.
        let _ = outbox.control(&goodbye).await;
    }
    drop(outbox);
    let _ = timeout(LAST_WORDS, writer).await;
}

/// What the last message says; a refusal has said it.
fn reason(code: u32) -> Option<GoodbyeReason> {
    match code {
        close::REFUSED => None,
        close::REVOKED => Some(GoodbyeReason::Revoked),
        close::REPLACED => Some(GoodbyeReason::Replaced),
        close::MALFORMED => Some(GoodbyeReason::Malformed),
        close::DRAINING => Some(GoodbyeReason::Draining),
        _ => Some(GoodbyeReason::Shutdown),
    }
}

async fn serve(
    mut from: ReadHalf<TlsStream<TcpStream>>,
    peer: SocketAddr,
    outbox: &Outbox,
    identity: PeerIdentity,
    context: &Arc<Context>,
) -> End {
    let place = match context.devices.enter(&identity, std::time::Instant::now()) {
        Ok(place) => place,
        Err(why) => {
            let refused = Refused::new(RefuseCode::Limit, &why);
            return turned_away(refused, peer, outbox, context).await;
        }
    };
    let within = context.timeouts.hello;
    let hello = match timeout(within, read_hello(&mut from)).await {
        Ok(Ok(hello)) => Ok(hello),
        Ok(Err(error)) if error.is_connection_gone() => return End::of_stream(&error),
        Ok(Err(error)) => Err(Refused::new(RefuseCode::Malformed, &error.to_string())),
        Err(_) => {
            return End::malformed(format!("no greeting within {}", humantime::format_duration(within)));
        }
    };
    let (ask_to_end, ended) = mpsc::channel(1);
    let seated = hello.and_then(|hello| {
        let newcomer = Newcomer { instance: hello.instance, peer: Peer::Tcp(peer, ask_to_end) };
        greet::seat(newcomer, context, &identity, &hello).map(|seat| (hello, seat))
    });
    let (hello, seat) = match seated {
        Ok(seated) => seated,
        Err(refused) => return turned_away(refused, peer, outbox, context).await,
    };
    if let Err(end) = outbox.control(&EncoderToAgentMsg::Welcome(context.welcome.clone())).await {
        return end;
    }
    context.metrics.admitted();
    tracing::info!(camera = %hello.camera, agent = %hello.agent, %peer, "connected (TCP)");
    let camera = hello.camera.clone();
    let shared = Arc::new(frame::Shared::new(Arc::clone(context), seat.key(), &camera, place));
    let (tcp, reader) = Tcp::start(from, peer, outbox.clone(), ended, &shared);
    let end = Session::new(tcp, Arc::clone(&shared), hello, (seat, identity)).serve().await;
    tracing::info!(%camera, %peer, "disconnected (TCP): {}; {shared}", end.message);
    // Closing while something unread waits here would throw away what the agent has not read yet.
    tokio::spawn(async move {
        let stuck = reader.abort_handle();
        if timeout(LAST_WORDS, reader).await.is_err() {
            stuck.abort();
        }
    });
    end
}

async fn turned_away(refused: Refused, peer: SocketAddr, outbox: &Outbox, context: &Context) -> End {
    context.metrics.refused(refused.code);
    tracing::warn!(%peer, "turned away (TCP): {refused}");
    let end = End::new(close::REFUSED, refused.to_string());
    let _ = outbox.control(&EncoderToAgentMsg::Refused(refused)).await;
    end
}

async fn read_hello(from: &mut (impl AsyncRead + Unpin)) -> Result<protocol::Hello, WireError> {
    if read_kind(from).await? != StreamKind::Control {
        return Err(WireError::Ended);
    }
    match expect_msg(from, MAX_CONTROL_BYTES).await? {
        AgentToEncoderMsg::Hello(hello) => Ok(hello),
        AgentToEncoderMsg::Ping(_)
        | AgentToEncoderMsg::Goodbye(_)
        | AgentToEncoderMsg::Head(_)
        | AgentToEncoderMsg::Work(_) => Err(WireError::Ended),
    }
}

/// A frame that came, or what is to be said about one that may not.
pub(super) enum Arrival {
    Frame(Box<Received>),
    Refused(FrameReplyMsg),
}

/// A connection that was greeted on.
pub(super) struct Tcp {
    address: SocketAddr,
    steps: mpsc::Receiver<Result<Step<Arrival>, End>>,
    outbox: Outbox,
    /// Another session takes the camera.
    ended: mpsc::Receiver<End>,
    /// Messages that began to arrive, and how many of them were looked at.
    arrived: Arc<AtomicU64>,
    looked_at: u64,
}

impl Tcp {
    /// Starts reading. The task ends when this is dropped and the agent has stopped sending.
    fn start(
        from: ReadHalf<TlsStream<TcpStream>>,
        address: SocketAddr,
        outbox: Outbox,
        ended: mpsc::Receiver<End>,
        shared: &Arc<frame::Shared>,
    ) -> (Self, JoinHandle<()>) {
        // One, so that an agent is read no faster than it is served.
        let (to, steps) = mpsc::channel(1);
        let arrived = Arc::new(AtomicU64::new(0));
        let reader = Reader { from, shared: Arc::clone(shared), arrived: Arc::clone(&arrived) };
        (Self { address, steps, outbox, ended, arrived, looked_at: 0 }, tokio::spawn(reader.run(to)))
    }
}

impl Transport for Tcp {
    type Work = Arrival;
    const FETCHES: bool = false;

    async fn next(&mut self) -> Result<Step<Arrival>, End> {
        tokio::select! {
            Some(end) = self.ended.recv() => Err(end),
            step = self.steps.recv() => step.unwrap_or_else(|| Err(End::malformed("the reader failed"))),
        }
    }

    fn serve(
        &self,
        work: Arrival,
        shared: Arc<frame::Shared>,
        draining: bool,
    ) -> impl Future<Output = Result<(), Malformed>> + Send + 'static + use<> {
        let outbox = self.outbox.clone();
        async move {
            let reply = match work {
                Arrival::Refused(reply) => reply,
                Arrival::Frame(received) if draining => received.too_late(),
                Arrival::Frame(received) => received.encoded(&shared).await,
            };
            let (answered, start) = (matches!(reply, FrameReplyMsg::Answer(_)), std::time::Instant::now());
            let ending = Ending::from(reply);
            shared.count(&ending);
            let Ending::Reply(reply) = ending else { return Ok(()) };
            if outbox.reply(&reply).await.is_ok() && answered {
                shared.context().metrics.delivered(start.elapsed());
            }
            Ok(())
        }
    }

    async fn say(&mut self, message: &EncoderToAgentMsg, _: &Context) -> Result<(), End> {
        self.outbox.control(message).await
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn look(&mut self, _: &Metrics, _: &Account) -> bool {
        let arrived = self.arrived.load(Ordering::Relaxed);
        std::mem::replace(&mut self.looked_at, arrived) != arrived
    }
}

/// Reads what comes, one message after another.
struct Reader {
    from: ReadHalf<TlsStream<TcpStream>>,
    shared: Arc<frame::Shared>,
    arrived: Arc<AtomicU64>,
}

impl Reader {
    async fn run(mut self, to: mpsc::Sender<Result<Step<Arrival>, End>>) {
        loop {
            let step = tokio::select! {
                step = self.step() => step,
                () = to.closed() => break,
            };
            let last = !matches!(step, Ok(Step::Began(_) | Step::Said(Ok(Some(_)))));
            if to.send(step).await.is_err() || last {
                break;
            }
        }
        to.closed().await;
        let _ = tokio::io::copy(&mut self.from, &mut tokio::io::sink()).await;
    }

    async fn step(&mut self) -> Result<Step<Arrival>, End> {
        let Self { from, shared, arrived } = self;
        let timeouts = &shared.context().timeouts;
        let mut first = [0];
        match timeout(timeouts.idle, from.read(&mut first)).await {
            Ok(Ok(0)) => return Ok(Step::Said(Ok(None))),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Ok(Step::Said(Err(error.into()))),
            Err(_) => {
                let silent = humantime::format_duration(timeouts.idle);
                return Err(End::new(close::OK, format!("nothing came from the agent for {silent}")));
            }
        }
        arrived.fetch_add(1, Ordering::Relaxed);
        let by = Instant::now() + timeouts.receive;
        match StreamKind::try_from(first[0]) {
            Ok(StreamKind::Control) => {
                let message = timeout_at(by, expect_msg(from, MAX_CONTROL_BYTES)).await;
                let message =
                    message.map_err(|_| End::malformed("a control message did not arrive in time"))?;
                Ok(Step::Said(message.map(|message| Some(Box::new(message)))))
            }
            Ok(StreamKind::Frame) => frame(from, shared, by).await.map(Step::Began),
            Ok(kind @ (StreamKind::Fetch | StreamKind::Operator)) => {
                Err(End::malformed(format!("what is of kind {} does not travel over TCP", kind as u8)))
            }
            Err(error) => Err(End::malformed(error.to_string())),
        }
    }
}

/// Reads a frame. One that may not come is read too, and thrown away: the next message is behind it.
async fn frame(
    from: &mut (impl AsyncRead + Unpin),
    shared: &frame::Shared,
    by: Instant,
) -> Result<Arrival, End> {
    let broken = |ending: Ending| match ending {
        Ending::Reply(reply) => match *reply {
            FrameReplyMsg::Rejected { message, .. } => End::malformed(message),
            _ => End::malformed("a frame did not arrive in time"),
        },
        Ending::Malformed(Malformed(message)) => End::malformed(message),
        Ending::Silent => End::malformed("a frame's header did not arrive in time"),
        Ending::Withdrawn => End::new(close::OK, "the connection was lost"),
    };
    let counted = |ending: Ending| {
        shared.count(&ending);
        broken(ending)
    };
    let header = frame::read_header(from, by).await.map_err(counted)?;
    let len = header.jpeg_len;
    match Claim::new(header, shared, by).await {
        Ok(claim) => {
            let limit = usize::try_from(len).unwrap_or(usize::MAX);
            let body = timeout_at(by, read_exact_limited(from, len.into(), limit)).await;
            claim.filled(body, shared).map(|received| Arrival::Frame(Box::new(received))).map_err(counted)
        }
        Err(reply) => {
            let mut rest = from.take(len.into());
            let skipped = timeout_at(by, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
            match skipped {
                Ok(Ok(skipped)) if skipped == u64::from(len) => Ok(Arrival::Refused(reply)),
                _ => Err(counted(reply.into())),
            }
        }
    }
}

/// Where messages to the agent go; a task writes them in turn. Clones share it.
#[derive(Debug, Clone)]
struct Outbox(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl Outbox {
    fn start(to: WriteHalf<TlsStream<TcpStream>>, within: Duration) -> (Self, JoinHandle<()>) {
        let (sender, messages) = mpsc::channel(TO_WRITE);
        (Self(sender), tokio::spawn(write(to, messages, within)))
    }

    async fn control(&self, message: &EncoderToAgentMsg) -> Result<(), End> {
        let framed = framed(StreamKind::Control, message, MAX_CONTROL_BYTES);
        self.written(framed.map_err(|error| End::of_stream(&error))?).await
    }

    async fn reply(&self, reply: &FrameReplyMsg) -> Result<(), End> {
        let framed = framed(StreamKind::Frame, reply, MAX_REPLY_BYTES).or_else(|error| {
            let why = format!("the reply cannot travel: {error}");
            let instead = FrameReplyMsg::rejected(reply.seq(), RejectCode::Internal, &why);
            framed(StreamKind::Frame, &instead, MAX_REPLY_BYTES)
        });
        self.written(framed.map_err(|error| End::of_stream(&error))?).await
    }

    /// Waits until the system has it.
    async fn written(&self, bytes: Vec<u8>) -> Result<(), End> {
        let (done, written) = oneshot::channel();
        let unread = || End::malformed("the agent does not read, or is gone");
        self.0.send((bytes, done)).await.map_err(|_| unread())?;
        written.await.map_err(|_| unread())
    }
}

fn framed<M: Message>(kind: StreamKind, message: &M, limit: usize) -> Result<Vec<u8>, WireError> {
    let mut framed = vec![kind as u8];
    framed.extend(codec::encode(message, limit)?);
    Ok(framed)
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<(Vec<u8>, oneshot::Sender<()>)>,
    within: Duration,
) {
    while let Some((bytes, done)) = messages.recv().await {
        let writing = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        if !matches!(timeout(within, writing).await, Ok(Ok(()))) {
            return;
        }
        // Who asked may be gone.
        let _ = done.send(());
    }
    // Says that nothing follows; a connection that is gone needs to hear nothing.
    let _ = timeout(within, to.shutdown()).await;
}
