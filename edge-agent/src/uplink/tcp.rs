//! The same messages over TCP and TLS: for networks that block UDP, and to compare.
//!
//! ```text
//! frames ─► newest first ─┐
//! control messages ───────┴► writer ══ one connection ══► reader ─┬► replies, by the number of their frame
//!                                                                 └► control messages
//! ```
//! What TCP cannot do: a frame that is being written cannot be withdrawn, and one lost packet holds up all that was sent after
//! it. A frame that is not being written yet can be given up, and makes way for newer ones: for that, the system is told to
//! take little ahead of what it can send.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::limits::{MAX_CONTROL_BYTES, MAX_REPLY_BYTES};
use protocol::{AgentToEncoderMsg, EncoderToAgentMsg, FrameReplyMsg, StreamKind, codec};
use shared::tls::Congestion;
use shared::wire::{WireError, expect_msg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

/// What the system takes beyond what it can send now: about eight packets, so that it need not wait for us either.
const UNSENT_BYTES: u32 = 12 * 1024;
/// Control messages that wait to be read; then the encoder's replies wait too.
const CONTROL_AHEAD: usize = 16;
/// Control messages that wait to be written: more than the link has to say before it gives up.
const CONTROL_UNSENT: usize = 16;

/// Opens a TCP connection; how long that took is one round trip. It sends by the system's rule unless another is said.
pub(super) async fn open(
    address: SocketAddr,
    congestion: Option<Congestion>,
) -> io::Result<(TcpStream, Duration)> {
    let start = Instant::now();
    let stream = TcpStream::connect(address).await?;
    let round_trip = start.elapsed();
    stream.set_nodelay(true)?;
    let options = socket2::SockRef::from(&stream);
    options.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    if let Some(congestion) = congestion {
        options.set_tcp_congestion(congestion.to_string().as_bytes()).map_err(|error| {
            let words = format!(
                "uplink.congestion = {congestion}: {error}; see net.ipv4.tcp_allowed_congestion_control, or leave it out"
            );
            io::Error::new(error.kind(), words)
        })?;
    }
    Ok((stream, round_trip))
}

/// A connection. Clones share it; it is broken off when the last is dropped.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    control: Mutex<Option<mpsc::Receiver<EncoderToAgentMsg>>>,
    tasks: [AbortHandle; 2],
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What the tasks share with those who send.
#[derive(Debug)]
struct Shared {
    outgoing: Mutex<Outgoing>,
    /// Something is to be written.
    wake: Notify,
    /// Who waits for the reply to which frame.
    waiting: Mutex<HashMap<u64, oneshot::Sender<(FrameReplyMsg, Instant)>>>,
    /// Why the connection ended.
    ended: watch::Sender<Option<WireError>>,
    round_trip_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Outgoing {
    control: VecDeque<Vec<u8>>,
    frames: BTreeMap<u64, Unsent>,
    /// Nothing follows.
    last: bool,
}

#[derive(Debug)]
struct Unsent {
    header: Vec<u8>,
    jpeg: Bytes,
    written: oneshot::Sender<Instant>,
}

impl Connection {
    /// Starts reading and writing.
    pub(super) fn start(stream: TlsStream<TcpStream>, round_trip: Duration) -> Self {
        let shared = Arc::new(Shared {
            outgoing: Mutex::default(),
            wake: Notify::new(),
            waiting: Mutex::default(),
            ended: watch::channel(None).0,
            round_trip_us: AtomicU64::new(0),
        });
        let (from, to) = tokio::io::split(stream);
        let (messages, control) = mpsc::channel(CONTROL_AHEAD);
        let writer = tokio::spawn(write(Arc::clone(&shared), to)).abort_handle();
        let reader = tokio::spawn(read(Arc::clone(&shared), from, messages)).abort_handle();
        let owner = Owner { shared, control: Mutex::new(Some(control)), tasks: [reader, writer] };
        let connection = Self(Arc::new(owner));
        connection.took(round_trip);
        connection
    }

    /// The encoder's control messages, once; they end with the connection.
    pub(super) fn control(&self) -> Option<mpsc::Receiver<EncoderToAgentMsg>> {
        lock(&self.0.control).take()
    }

    /// The last round trip that was measured: of the connection's first packets, or of a ping.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.0.shared.round_trip_us.load(Ordering::Relaxed))
    }

    /// A round trip took so long.
    pub(super) fn took(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.0.shared.round_trip_us.store(micros, Ordering::Relaxed);
    }

    /// Why it ended, if it did.
    pub(super) fn ended(&self) -> Option<WireError> {
        self.0.shared.ended.borrow().clone()
    }

    /// Waits for its end.
    pub(super) async fn closed(&self) {
        // The sender is held here: an error cannot come.
        drop(self.0.shared.ended.subscribe().wait_for(Option::is_some).await);
    }

    /// Breaks it off.
    pub(super) fn close(&self) {
        self.0.shared.end(WireError::AlreadyClosed);
        self.0.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Puts a control message before all frames.
    pub(super) fn say(&self, message: &AgentToEncoderMsg) -> Result<(), WireError> {
        let mut framed = vec![StreamKind::Control as u8];
        framed.extend(codec::encode(message, MAX_CONTROL_BYTES)?);
        let shared = &self.0.shared;
        if let Some(error) = self.ended() {
            return Err(error);
        }
        let mut outgoing = lock(&shared.outgoing);
        if outgoing.control.len() >= CONTROL_UNSENT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing can be sent").into());
        }
        outgoing.control.push_back(framed);
        drop(outgoing);
        shared.wake.notify_one();
        Ok(())
    }

    /// Says that nothing follows, and waits for the encoder to close its side.
    pub(super) async fn finish(&self) {
        lock(&self.0.shared.outgoing).last = true;
        self.0.shared.wake.notify_one();
        self.closed().await;
    }

    /// Sends a frame (its stream kind and header, then the JPEG) and waits for the reply: when the last byte was handed to
    /// the system, the reply, and when that began to arrive. Dropped before it is being written, the frame is not sent.
    pub(super) async fn exchange(
        &self,
        seq: u64,
        header: Vec<u8>,
        jpeg: Bytes,
    ) -> Result<(Instant, (FrameReplyMsg, Instant)), WireError> {
        let shared = &self.0.shared;
        let ((answer, mut reply), (written, mut sent)) = (oneshot::channel(), oneshot::channel());
        lock(&shared.waiting).insert(seq, answer);
        let _given_up = GiveUp { shared, seq };
        lock(&shared.outgoing).frames.insert(seq, Unsent { header, jpeg, written });
        shared.wake.notify_one();
        // After the frame is in both places, so that the end of the connection cannot miss it.
        if let Some(error) = self.ended() {
            return Err(error);
        }
        let gone = |_| self.ended().unwrap_or(WireError::AlreadyClosed);
        tokio::select! {
            biased;
            early = &mut reply => Ok((Instant::now(), early.map_err(gone)?)),
            at = &mut sent => {
                let at = at.map_err(gone)?;
                Ok((at, reply.await.map_err(gone)?))
            }
        }
    }
}

/// Nobody waits for the frame any more.
struct GiveUp<'a> {
    shared: &'a Shared,
    seq: u64,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        lock(&self.shared.outgoing).frames.remove(&self.seq);
        lock(&self.shared.waiting).remove(&self.seq);
    }
}

impl Shared {
    /// The first reason is the true one.
    fn end(&self, error: WireError) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(error);
            first
        });
        lock(&self.outgoing).frames.clear();
        lock(&self.waiting).clear();
    }

    /// What is to be written next: control messages, then the newest frame.
    async fn next(&self) -> Next {
        loop {
            let woken = self.wake.notified();
            {
                let mut outgoing = lock(&self.outgoing);
                if let Some(message) = outgoing.control.pop_front() {
                    return Next::Control(message);
                }
                if outgoing.last {
                    return Next::End;
                }
                if let Some((_, frame)) = outgoing.frames.pop_last() {
                    return Next::Frame(frame);
                }
            }
            woken.await;
        }
    }
}

enum Next {
    Control(Vec<u8>),
    Frame(Unsent),
    End,
}

async fn write(shared: Arc<Shared>, mut to: WriteHalf<TlsStream<TcpStream>>) {
    loop {
        let result = match shared.next().await {
            Next::Control(message) => flushed(&mut to, &message, &[]).await,
            Next::Frame(Unsent { header, jpeg, written }) => {
                let result = flushed(&mut to, &header, &jpeg).await;
                // Who sent it may have given it up meanwhile.
                let _ = written.send(Instant::now());
                result
            }
            Next::End => {
                // The reader sees the end.
                let _ = to.shutdown().await;
                return;
            }
        };
        if let Err(error) = result {
            return shared.end(error.into());
        }
    }
}

async fn flushed(to: &mut WriteHalf<TlsStream<TcpStream>>, first: &[u8], second: &[u8]) -> io::Result<()> {
    to.write_all(first).await?;
    to.write_all(second).await?;
    to.flush().await
}

async fn read(
    shared: Arc<Shared>,
    mut from: ReadHalf<TlsStream<TcpStream>>,
    control: mpsc::Sender<EncoderToAgentMsg>,
) {
    loop {
        match message(&shared, &mut from).await {
            Ok(Some(message)) => {
                // Nobody listens only after the session ended.
                let _ = control.send(message).await;
            }
            Ok(None) => {}
            Err(error) => return shared.end(error),
        }
    }
}

/// Reads one message; a reply goes to who waits for it.
async fn message(
    shared: &Shared,
    from: &mut ReadHalf<TlsStream<TcpStream>>,
) -> Result<Option<EncoderToAgentMsg>, WireError> {
    let mut kind = [0];
    if from.read(&mut kind).await? == 0 {
        return Err(WireError::Ended);
    }
    let first_byte = Instant::now();
    match StreamKind::try_from(kind[0])? {
        StreamKind::Control => expect_msg(from, MAX_CONTROL_BYTES).await.map(Some),
        StreamKind::Frame => {
            let reply: FrameReplyMsg = expect_msg(from, MAX_REPLY_BYTES).await?;
            if let Some(waiting) = lock(&shared.waiting).remove(&reply.seq()) {
                // Given up at this moment.
                let _ = waiting.send((reply, first_byte));
            }
            Ok(None)
        }
        StreamKind::Fetch | StreamKind::Operator => {
            Err(protocol::CodecError::UnknownStreamKind { found: kind[0] }.into())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
