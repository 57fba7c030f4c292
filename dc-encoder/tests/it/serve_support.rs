//! A server over a fake device, its certificates, and an agent that speaks the protocol by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded, Partial, Patches};
use dc_encoder::model::config::Pooling;
use dc_encoder::serve::{Config, ServeError, Server, ServerHandle};
use fixtures::{ALWAYS, Authority, Leaf};
use protocol::limits::{MAX_CONTROL_BYTES, MAX_FRAME_HEADER_BYTES, MAX_REPLY_BYTES};
use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, Encoding, FrameHeader, FrameReplyMsg, Hello, SpaceId, StreamKind,
    Welcome,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use rustls::time_provider::TimeProvider;
use shared::image::{Chroma, Rgb, jpeg};
use shared::tls::{Identity, client_config, system_time};
use shared::wire::{MsgReader, expect_msg, write_msg};
use tokio::sync::mpsc;

pub const SPACE: SpaceId = SpaceId([7; 32]);
/// Nothing in these tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never came")
}

/// Waits until a condition that nobody announces holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A certificate authority in a temporary folder, laid out as a server expects it.
pub struct Pki(Authority);

impl Pki {
    pub fn new() -> Self {
        let authority = Authority::new("CA", ALWAYS);
        authority.issue_as("server", &Leaf::server(ALWAYS));
        Self(authority)
    }

    pub fn dir(&self) -> &Path {
        self.0.dir()
    }

    pub fn authority(&self) -> &Authority {
        &self.0
    }

    pub fn camera(&self, name: &str, serial: u8) -> PathBuf {
        self.issue(&Leaf::camera(name, serial, ALWAYS))
    }

    pub fn issue(&self, leaf: &Leaf<'_>) -> PathBuf {
        self.0.issue(leaf)
    }

    /// Puts a list with these serials in the old one's place.
    pub fn revoke(&self, number: u8, serials: &[u8]) {
        self.0.revoke(number, serials);
    }
}

/// What the fake device does with its next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    Encode,
    Fail,
    Panic,
}

/// A device that encodes at once, or when the test says so.
///
/// An embedding is the mean R, G, B of the frame and 0.5; a token the same of its quadrant, without the 0.5.
pub struct Fake {
    info: BackendInfo,
    gate: Option<(mpsc::Sender<Vec<u8>>, std_mpsc::Receiver<Do>)>,
}

/// The test's hold on a gated device.
pub struct Gate {
    entered: mpsc::Receiver<Vec<u8>>,
    orders: std_mpsc::Sender<Do>,
}

impl Gate {
    /// The red values of the batch that the device now holds.
    pub async fn entered(&mut self) -> Vec<u8> {
        soon(self.entered.recv()).await.unwrap()
    }

    /// Lets the device go on.
    pub fn order(&self, order: Do) {
        self.orders.send(order).unwrap();
    }

    /// Takes the hand off the device: it encodes whatever comes.
    pub fn open(self) {}

    /// Batches that reached the device and were not yet looked at.
    pub fn unseen(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.entered.try_recv().ok()).collect()
    }
}

impl Fake {
    pub fn new() -> Self {
        let info = BackendInfo {
            device: "fake".into(),
            path: "none".into(),
            reason: String::new(),
            model: "fake-4".into(),
            note: "random weights".into(),
            space: SPACE,
            embed_dim: 4,
            grid: (2, 2, 3),
            cells: 1,
            input: (16, 32),
            patches: None,
            max_batch: 8,
            flops: 1000,
        };
        Self { info, gate: None }
    }

    pub fn gated() -> (Self, Gate) {
        let (entering, entered) = mpsc::channel(64);
        let (orders, ordered) = std_mpsc::channel();
        (Self { gate: Some((entering, ordered)), ..Self::new() }, Gate { entered, orders })
    }

    /// Encodes patches of 8 pixels, too: the latent token of each is its mean colour, the embedding the mean of all.
    pub fn with_patches() -> Self {
        let mut fake = Self::new();
        (fake.info.grid, fake.info.embed_dim) = ((2, 4, 3), 3);
        fake.info.patches = Some(Patches { side: 8, pooling: Pooling::Mean { version: 1 } });
        fake
    }

    pub fn without_tokens() -> Self {
        let mut fake = Self::new();
        fake.info.grid = (0, 0, 0);
        fake
    }
}

fn mean(image: &Rgb, columns: std::ops::Range<u32>, rows: std::ops::Range<u32>) -> [f32; 3] {
    let pixels: Vec<[u8; 3]> =
        rows.flat_map(|y| columns.clone().map(move |x| (x, y))).map(|(x, y)| image.pixel(x, y)).collect();
    let sum = |channel: usize| pixels.iter().map(|pixel| f32::from(pixel[channel])).sum::<f32>();
    [0, 1, 2].map(|channel| sum(channel) / pixels.len() as f32)
}

impl Backend for Fake {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], tokens: bool) -> Result<Vec<Encoded>, BackendError> {
        let mut order = Do::Encode;
        if let Some((entering, orders)) = &self.gate {
            let reds = batch.iter().map(|image| image.pixel(0, 0)[0]).collect();
            let _ = entering.blocking_send(reds);
            order = orders.recv().unwrap_or(Do::Encode);
        }
        match order {
            Do::Encode => {}
            Do::Fail => return Err(BackendError::NotFinite { index: 0 }),
            Do::Panic => panic!("the fake device was told to panic"),
        }
        let encode = |image: &Arc<Rgb>| {
            let [r, g, b] = mean(image, 0..32, 0..16);
            let quadrants = [(0..16, 0..8), (16..32, 0..8), (0..16, 8..16), (16..32, 8..16)];
            let grid = || quadrants.into_iter().flat_map(|(x, y)| mean(image, x, y)).collect();
            let mut embedding = vec![r, g, b, 0.5];
            embedding.truncate(self.info.embed_dim);
            Encoded { embedding, tokens: tokens.then(grid) }
        };
        Ok(batch.iter().map(encode).collect())
    }

    fn encode_partial(&mut self, batch: &[Partial]) -> Result<Vec<Vec<f32>>, BackendError> {
        let tokens = |Partial { frame, choice }: &Partial| {
            let corner = |place: &u32| (place % 4 * 8, place / 4 * 8);
            let patch = |(x, y): (u32, u32)| mean(frame, x..x + 8, y..y + 8);
            choice.places().iter().map(corner).flat_map(patch).collect()
        };
        Ok(batch.iter().map(tokens).collect())
    }
}

pub struct World {
    pub pki: Pki,
    pub server: ServerHandle,
    pub address: SocketAddr,
}

impl World {
    pub fn start(backend: Fake, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(backend, system_time(), change)
    }

    /// The same, with another clock for certificates.
    pub fn start_at(backend: Fake, clock: Arc<dyn TimeProvider>, change: impl FnOnce(&mut Config)) -> Self {
        let pki = Pki::new();
        let server = Server::start_at(&config(&pki, change), Box::new(backend), clock).unwrap();
        let address = server.local_addr();
        Self { pki, server, address }
    }

    /// An agent for this camera; the serial makes its certificate its own.
    pub async fn agent(&self, camera: &str, serial: u8) -> Agent {
        Agent::admitted(&self.pki.camera(camera, serial), self.address, hello(camera)).await
    }
}

pub fn start(pki: &Pki, backend: Fake, change: impl FnOnce(&mut Config)) -> Result<ServerHandle, ServeError> {
    Server::start(&config(pki, change), Box::new(backend))
}

fn config(pki: &Pki, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        pki: Some(pki.dir().to_owned()),
        ..Config::default()
    };
    change(&mut config);
    config
}

pub fn hello(camera: &str) -> Hello {
    Hello {
        version: protocol::VERSION,
        agent: "test agent".into(),
        instance: 1,
        camera: camera.into(),
        spaces: vec![SPACE],
    }
}

/// A connected agent. Its endpoint lives as long as it does.
pub struct Agent {
    pub connection: Connection,
    pub control: SendStream,
    pub reader: MsgReader,
    pub welcome: Option<Welcome>,
    next_seq: u64,
    _endpoint: Endpoint,
}

pub async fn connect(identity: &Path, address: SocketAddr) -> (Endpoint, Connection) {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(client_config(&Identity::load(identity).unwrap(), None).unwrap());
    let connection = soon(endpoint.connect(address, "localhost").unwrap()).await.unwrap();
    (endpoint, connection)
}

impl Agent {
    /// Connects and says hello; the answer is the caller's to read.
    pub async fn greeting(identity: &Path, address: SocketAddr, hello: Hello) -> Self {
        let (endpoint, connection) = connect(identity, address).await;
        let (mut control, recv) = connection.open_bi().await.unwrap();
        control.write_all(&[StreamKind::Control as u8]).await.unwrap();
        write_msg(&mut control, &AgentToEncoderMsg::Hello(hello), MAX_CONTROL_BYTES).await.unwrap();
        let reader = MsgReader::new(recv, MAX_CONTROL_BYTES);
        Self { connection, control, reader, welcome: None, next_seq: 0, _endpoint: endpoint }
    }

    pub async fn admitted(identity: &Path, address: SocketAddr, hello: Hello) -> Self {
        let mut agent = Self::greeting(identity, address, hello).await;
        match agent.heard().await {
            EncoderToAgentMsg::Welcome(welcome) => agent.welcome = Some(welcome),
            other => panic!("not admitted: {other:?}"),
        }
        agent
    }

    /// The next control message.
    pub async fn heard(&mut self) -> EncoderToAgentMsg {
        soon(self.reader.next()).await.unwrap().expect("the control stream ended")
    }

    pub async fn say(&mut self, message: AgentToEncoderMsg) {
        write_msg(&mut self.control, &message, MAX_CONTROL_BYTES).await.unwrap();
    }

    /// Code and reason with which the server closes the connection.
    pub async fn closed(&self) -> (u32, String) {
        match soon(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner().try_into().unwrap();
                (code, String::from_utf8(close.reason.to_vec()).unwrap())
            }
            other => panic!("closed otherwise: {other}"),
        }
    }

    pub fn header(&mut self, jpeg: &[u8]) -> FrameHeader {
        let seq = self.next_seq;
        self.next_seq += 1;
        FrameHeader {
            seq,
            captured_at_us: 0,
            deadline_ms: 0,
            jpeg_len: jpeg.len().try_into().unwrap(),
            embedding: Encoding::F32,
            tokens: None,
            patches: None,
        }
    }

    /// Opens a frame stream and writes a header and these bytes; the stream stays open.
    pub async fn open(&self, header: &FrameHeader, bytes: &[u8]) -> Pending {
        let (mut send, recv) = soon(self.connection.open_bi()).await.unwrap();
        send.write_all(&[StreamKind::Frame as u8]).await.unwrap();
        write_msg(&mut send, header, MAX_FRAME_HEADER_BYTES).await.unwrap();
        send.write_all(bytes).await.unwrap();
        Pending { send, recv }
    }

    pub async fn send(&self, header: &FrameHeader, jpeg: &[u8]) -> Pending {
        let mut pending = self.open(header, jpeg).await;
        pending.send.finish().unwrap();
        pending
    }

    /// Sends a grey frame of this brightness as the next in sequence.
    pub async fn grey(&mut self, level: u8) -> Pending {
        let jpeg = grey(level);
        let header = self.header(&jpeg);
        self.send(&header, &jpeg).await
    }
}

/// A frame whose reply is awaited.
pub struct Pending {
    pub send: SendStream,
    pub recv: RecvStream,
}

impl Pending {
    pub async fn reply(&mut self) -> FrameReplyMsg {
        soon(expect_msg(&mut self.recv, MAX_REPLY_BYTES)).await.unwrap()
    }

    /// Withdraws the frame as an agent does when it went stale.
    pub fn cancel(mut self) {
        let stale = VarInt::from_u32(protocol::close::STALE);
        let _ = self.send.reset(stale);
        self.recv.stop(stale).unwrap();
    }
}

pub fn grey(level: u8) -> Vec<u8> {
    jpeg::encode(&Rgb::filled(64, 32, [level; 3]), 90, Chroma::C420)
}
