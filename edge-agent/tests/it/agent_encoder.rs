//! An encoder that does what a test tells it, over real QUIC and the real protocol.
//!
//! The embedding of frame `seq` is `[seq, 1, 2, 3]`: a head that weighs the first number answers with `seq`. Every
//! number of its latent tokens is `seq`.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fixtures::ALWAYS;
use protocol::limits::{MAX_CONTROL_BYTES, MAX_FRAME_BYTES, MAX_FRAME_HEADER_BYTES, MAX_REPLY_BYTES};
use protocol::{
    AgentToEncoderMsg, Answer, DropReason, EncoderToAgentMsg, FetchRequest, FrameHeader, FrameReplyMsg,
    Goodbye, GoodbyeReason, GridShape, HeadReport, Hello, InputSize, Part, Pong, RefuseCode, Refused,
    RejectCode, ReleaseId, ServerTimings, SessionLimits, SpaceId, Welcome,
};
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream};
use shared::embedding::to_wire;
use shared::tls::ServerTls;
use shared::wire::{MsgReader, WireError, expect_msg, read_exact_limited, write_msg};
use tokio::sync::{mpsc, watch};

use crate::agent_pki::Pki;

mod fetch;

pub use fetch::OnFetch;

/// Frames as they came: sequence number, JPEG.
type Pictures = Vec<(u64, Vec<u8>)>;

/// Far more than anything here takes: reached only when something hangs.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const SPACE: SpaceId = SpaceId([7; 32]);

/// What to do with a greeting.
#[derive(Debug, Clone)]
pub enum OnHello {
    Welcome,
    Refuse(RefuseCode, &'static str),
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OnFrame {
    Answer,
    /// No reply until the behaviour changes.
    Hold,
    /// The same, and the frame is not even read: as on a slow network, it cannot be sent to its end.
    LeaveUnread,
    Drop(DropReason),
    /// Only the first attempt of each frame.
    DropOnce(DropReason),
    Reject(RejectCode, &'static str),
}

/// How the encoder behaves from now on.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub on_hello: OnHello,
    pub on_frame: OnFrame,
    pub on_fetch: OnFetch,
    pub version: u16,
    pub space: SpaceId,
    pub note: &'static str,
    pub max_in_flight: u16,
    pub goodbye: Option<GoodbyeReason>,
    /// Its latent-token grid.
    pub grid: Option<GridShape>,
    /// Side of the patches it takes.
    pub patch: Option<u32>,
    /// What it says about heads, one after another, on every connection.
    pub push: Vec<EncoderToAgentMsg>,
    /// Releases it has: bytes and signature.
    pub releases: HashMap<ReleaseId, (Vec<u8>, Vec<u8>)>,
    /// Those of them that it sends compressed: the zlib stream.
    pub packed: HashMap<ReleaseId, Vec<u8>>,
    /// First and last second of its certificate's validity, from the start.
    pub certificate: [i64; 2],
}

impl Default for Behaviour {
    fn default() -> Self {
        let (on_hello, on_frame) = (OnHello::Welcome, OnFrame::Answer);
        Self {
            on_hello,
            on_frame,
            on_fetch: OnFetch::Send,
            version: protocol::VERSION,
            space: SPACE,
            note: "",
            max_in_flight: 8,
            goodbye: None,
            grid: None,
            patch: None,
            push: Vec::new(),
            releases: HashMap::new(),
            packed: HashMap::new(),
            certificate: ALWAYS,
        }
    }
}

/// What reached the encoder.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Hello(Hello),
    Frame(FrameHeader),
    Head(HeadReport),
    Fetch(FetchRequest),
    /// The agent cancelled a frame: it stopped the reply with this code.
    Stopped(Option<u64>),
    /// The agent cancelled a frame that it had not sent to its end, with this code.
    Reset(Option<u64>),
    Goodbye(GoodbyeReason),
}

pub struct Encoder {
    /// The endpoint's own socket, held so that nobody else is given its port before the encoder comes back.
    socket: UdpSocket,
    endpoint: Endpoint,
    behaviour: watch::Sender<Behaviour>,
    seen: mpsc::Receiver<Seen>,
    /// Every JPEG that came, by its frame's number.
    pictures: Arc<Mutex<Pictures>>,
}

impl Encoder {
    pub fn start(pki: &Pki, behaviour: Behaviour) -> Self {
        Self::start_on(loopback(), pki, behaviour, protocol::ALPN)
    }

    pub fn start_on(socket: UdpSocket, pki: &Pki, behaviour: Behaviour, alpn: &[u8]) -> Self {
        let tls = ServerTls::load(&pki.encoder(behaviour.certificate)).unwrap();
        let mut rustls = tls.rustls_config().unwrap();
        rustls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(rustls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        if behaviour.on_frame == OnFrame::LeaveUnread {
            // Not even the smallest picture fits into what may be under way.
            let mut transport = quinn::TransportConfig::default();
            transport.stream_receive_window(256_u32.into());
            config.transport_config(Arc::new(transport));
        }
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(config),
            socket.try_clone().unwrap(),
            Arc::new(quinn::TokioRuntime),
        )
        .unwrap();
        let (behaviour, behaves) = watch::channel(behaviour);
        let (report, seen) = mpsc::channel(16_384);
        let pictures = Arc::default();
        let fake = Fake { behaves, report, dropped: Arc::default(), pictures: Arc::clone(&pictures) };
        tokio::spawn(accept(endpoint.clone(), fake));
        Self { socket, endpoint, behaviour, seen, pictures }
    }

    /// As `--server` takes it.
    pub fn server(&self) -> String {
        format!("localhost:{}", self.socket.local_addr().unwrap().port())
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        self.behaviour.send_modify(change);
    }

    /// The next thing that reached the encoder and for which `wanted` gives something.
    pub async fn sees<T>(&mut self, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let search = async {
            loop {
                let seen = self.seen.recv().await.expect("the encoder ended");
                if let Some(found) = wanted(&seen) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, search).await.expect("not seen within a minute")
    }

    pub async fn sees_frame(&mut self) -> FrameHeader {
        self.sees(|seen| if let Seen::Frame(header) = seen { Some(header.clone()) } else { None }).await
    }

    /// The JPEGs that came so far, in the order of their frames.
    pub fn pictures(&self) -> Vec<Vec<u8>> {
        let mut pictures = self.pictures.lock().unwrap().clone();
        pictures.sort();
        pictures.into_iter().map(|(_, jpeg)| jpeg).collect()
    }

    /// What the agent says that it has when it fetches a release.
    pub async fn sees_fetch(&mut self) -> Option<Part> {
        self.sees(|seen| if let Seen::Fetch(fetch) = seen { Some(fetch.have) } else { None }).await
    }

    pub async fn sees_hello(&mut self) -> Hello {
        self.sees(|seen| if let Seen::Hello(hello) = seen { Some(hello.clone()) } else { None }).await
    }

    /// Whether one of the things that reached the encoder since is this.
    pub fn saw(&mut self, mut wanted: impl FnMut(&Seen) -> bool) -> bool {
        while let Ok(seen) = self.seen.try_recv() {
            if wanted(&seen) {
                return true;
            }
        }
        false
    }

    pub fn saw_nothing(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }

    /// Stops as a program does that was asked to: connections are closed. Its socket is for the one that takes
    /// its place.
    pub async fn stop(self) -> UdpSocket {
        self.endpoint.close(0_u32.into(), b"stopped");
        self.endpoint.wait_idle().await;
        self.socket
    }

    /// Vanishes as a machine does that lost its power: nothing leaves its port any more, nothing is heard.
    pub fn vanish(&self) {
        self.endpoint.rebind(loopback()).unwrap();
    }
}

/// A socket on a port of its own.
pub fn loopback() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

#[derive(Clone)]
struct Fake {
    behaves: watch::Receiver<Behaviour>,
    report: mpsc::Sender<Seen>,
    dropped: Arc<Mutex<HashSet<u64>>>,
    pictures: Arc<Mutex<Pictures>>,
}

async fn accept(endpoint: Endpoint, fake: Fake) {
    while let Some(incoming) = endpoint.accept().await {
        let fake = fake.clone();
        tokio::spawn(async move {
            // A refused handshake is the agent's to explain.
            if let Ok(connection) = incoming.await {
                fake.session(connection).await;
            }
        });
    }
}

impl Fake {
    async fn session(self, connection: Connection) {
        while let Ok((send, mut recv)) = connection.accept_bi().await {
            let fake = self.clone();
            let connection = connection.clone();
            tokio::spawn(async move {
                let mut kind = [0];
                // Errors are what the tests provoke: a stream that breaks is simply over.
                let _ = match recv.read_exact(&mut kind).await {
                    Ok(()) if kind == [0] => fake.control(&connection, send, recv).await,
                    Ok(()) if kind == [2] => fake.fetch(send, recv).await,
                    Ok(()) => fake.frame(send, recv).await,
                    Err(_) => Ok(()),
                };
            });
        }
    }

    async fn control(
        mut self,
        connection: &Connection,
        mut send: SendStream,
        recv: RecvStream,
    ) -> Result<(), WireError> {
        let mut reader = MsgReader::new(recv, MAX_CONTROL_BYTES);
        let Some(AgentToEncoderMsg::Hello(hello)) = reader.next().await? else { panic!("no hello") };
        self.report.try_send(Seen::Hello(hello)).unwrap();
        let behaviour = self.behaves.borrow_and_update().clone();
        let greeting = match behaviour.on_hello {
            OnHello::Welcome => EncoderToAgentMsg::Welcome(welcome(&behaviour)),
            OnHello::Refuse(code, message) => EncoderToAgentMsg::Refused(Refused::new(code, message)),
        };
        write_msg(&mut send, &greeting, MAX_CONTROL_BYTES).await?;
        let mut pushed = 0;
        loop {
            let push = self.behaves.borrow().push.clone();
            for message in push.iter().skip(pushed) {
                write_msg(&mut send, message, MAX_CONTROL_BYTES).await?;
            }
            pushed = push.len();
            tokio::select! {
                message = reader.next() => match message? {
                    Some(AgentToEncoderMsg::Ping(ping)) => {
                        let pong = Pong { id: ping.id, received_us: now_us(), sent_us: now_us() };
                        write_msg(&mut send, &EncoderToAgentMsg::Pong(pong), MAX_CONTROL_BYTES).await?;
                    }
                    Some(AgentToEncoderMsg::Goodbye(goodbye)) => {
                        self.report.try_send(Seen::Goodbye(goodbye.reason)).unwrap();
                    }
                    Some(AgentToEncoderMsg::Head(head)) => self.report.try_send(Seen::Head(head)).unwrap(),
                    Some(AgentToEncoderMsg::Work(_)) => {}
                    other => {
                        connection.close(0_u32.into(), b"");
                        return if other.is_none() { Ok(()) } else { panic!("{other:?}") };
                    }
                },
                changed = self.behaves.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let goodbye = self.behaves.borrow_and_update().goodbye;
                    if let Some(reason) = goodbye {
                        let goodbye = EncoderToAgentMsg::Goodbye(Goodbye::new(reason, "restarting"));
                        write_msg(&mut send, &goodbye, MAX_CONTROL_BYTES).await?;
                    }
                }
            }
        }
    }

    async fn frame(mut self, mut send: SendStream, mut recv: RecvStream) -> Result<(), WireError> {
        let header: FrameHeader = expect_msg(&mut recv, MAX_FRAME_HEADER_BYTES).await?;
        self.report.try_send(Seen::Frame(header.clone())).unwrap();
        if self.behaves.borrow().on_frame == OnFrame::LeaveUnread {
            let code = recv.received_reset().await.ok().flatten();
            self.report.try_send(Seen::Reset(code.map(quinn::VarInt::into_inner))).unwrap();
            return Ok(());
        }
        let jpeg = read_exact_limited(&mut recv, header.jpeg_len.into(), MAX_FRAME_BYTES as usize).await?;
        assert!(jpeg.starts_with(&[0xff, 0xd8]), "not a JPEG");
        self.pictures.lock().unwrap().push((header.seq, jpeg.clone()));
        let held = async {
            let over = self.behaves.wait_for(|behaviour| behaviour.on_frame != OnFrame::Hold).await;
            over.map(|behaviour| behaviour.on_frame)
        };
        let on_frame = tokio::select! {
            on_frame = held => match on_frame {
                Ok(on_frame) => on_frame,
                Err(_) => return Ok(()),
            },
            stopped = send.stopped() => {
                let code = stopped.ok().flatten().map(quinn::VarInt::into_inner);
                self.report.try_send(Seen::Stopped(code)).unwrap();
                return Ok(());
            }
        };
        let reply = self.reply(&header, on_frame);
        write_msg(&mut send, &reply, MAX_REPLY_BYTES).await?;
        let _ = send.finish();
        Ok(())
    }

    fn reply(&self, header: &FrameHeader, on_frame: OnFrame) -> FrameReplyMsg {
        let (seq, arrived_us) = (header.seq, now_us());
        let timings =
            ServerTimings { receive_us: 1, queue_us: 2000, decode_us: 3000, encode_us: 4000, arrived_us };
        match on_frame {
            OnFrame::Drop(reason) => FrameReplyMsg::Dropped { seq, reason, timings },
            OnFrame::DropOnce(reason) if self.dropped.lock().unwrap().insert(seq) => {
                FrameReplyMsg::Dropped { seq, reason, timings }
            }
            OnFrame::Reject(code, message) => FrameReplyMsg::rejected(seq, code, message),
            OnFrame::Answer | OnFrame::DropOnce(_) | OnFrame::Hold | OnFrame::LeaveUnread => {
                let embedding = to_wire(&[seq as f32, 1.0, 2.0, 3.0], 1, 4, header.embedding).unwrap();
                let tokens = self.behaves.borrow().grid.zip(header.tokens).map(|(grid, encoding)| {
                    let GridShape { rows, cols, dim } = grid;
                    to_wire(&vec![seq as f32; (rows * cols * dim) as usize], rows * cols, dim, encoding)
                        .unwrap()
                });
                FrameReplyMsg::Answer(Answer { seq, timings, batch: 1, embedding, tokens })
            }
        }
    }
}

fn welcome(behaviour: &Behaviour) -> Welcome {
    Welcome {
        version: behaviour.version,
        server: "fake 1".into(),
        model: "tiny".into(),
        note: behaviour.note.into(),
        space: behaviour.space,
        embed_dim: 4,
        grid: behaviour.grid,
        input: InputSize { width: 96, height: 48 },
        patch: behaviour.patch,
        limits: SessionLimits {
            max_frame_bytes: 1 << 20,
            max_pixels: 1 << 22,
            max_in_flight: behaviour.max_in_flight,
        },
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_micros().try_into().unwrap()
}
