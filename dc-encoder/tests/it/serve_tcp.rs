//! Sessions over TCP: the same rules, one connection.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use dc_encoder::serve::Config;
use fixtures::{ALWAYS, Authority, Leaf};
use protocol::limits::{MAX_CONTROL_BYTES, MAX_REPLY_BYTES};
use protocol::{
    AgentToEncoderMsg, DropReason, EncoderToAgentMsg, Encoding, FrameHeader, FrameReplyMsg, Goodbye,
    GoodbyeReason, Message, Ping, RefuseCode, RejectCode, StreamKind, codec,
};
use rustls::pki_types::ServerName;
use shared::tls::{Cause, Context, Identity, client_tcp, diagnose, tls_error};
use shared::wire::{WireError, expect_msg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::serve_support::{Do, Fake, Gate, World, grey, hello, soon};

fn listening(config: &mut Config) {
    config.tcp = Some(([127, 0, 0, 1], 0).into());
}

fn gated() -> (World, SocketAddr, Gate) {
    let (fake, gate) = Fake::gated();
    let world = World::start(fake, listening);
    let address = world.server.tcp_addr().unwrap();
    (world, address, gate)
}

fn world() -> (World, SocketAddr) {
    let world = World::start(Fake::new(), listening);
    let address = world.server.tcp_addr().unwrap();
    (world, address)
}

/// What comes from the server.
#[derive(Debug)]
enum Heard {
    Control(EncoderToAgentMsg),
    Reply(FrameReplyMsg),
    /// It closed its side.
    End,
}

/// An agent that speaks by hand.
struct Agent(TlsStream<TcpStream>);

impl Agent {
    async fn connect(identity: &Path, address: SocketAddr) -> std::io::Result<Self> {
        let config = client_tcp(&Identity::load(identity).unwrap(), None).unwrap();
        let stream = soon(TcpStream::connect(address)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?))
    }

    async fn admitted(world: &World, address: SocketAddr, camera: &str, serial: u8) -> Self {
        let mut agent = Self::connect(&world.pki.camera(camera, serial), address).await.unwrap();
        agent.say(&AgentToEncoderMsg::Hello(hello(camera))).await;
        assert!(matches!(agent.heard().await, Heard::Control(EncoderToAgentMsg::Welcome(_))));
        agent
    }

    async fn write(&mut self, kind: StreamKind, message: &impl Message, body: &[u8]) {
        let framed = codec::encode(message, MAX_CONTROL_BYTES).unwrap();
        self.0.write_all(&[&[kind as u8], &framed[..], body].concat()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn say(&mut self, message: &AgentToEncoderMsg) {
        self.write(StreamKind::Control, message, &[]).await;
    }

    async fn frame(&mut self, seq: u64, announced: u32, jpeg: &[u8]) {
        let header = FrameHeader {
            seq,
            captured_at_us: 0,
            deadline_ms: 0,
            jpeg_len: announced,
            patches: None,
            embedding: Encoding::F32,
            tokens: None,
        };
        self.write(StreamKind::Frame, &header, jpeg).await;
    }

    async fn grey(&mut self, seq: u64, level: u8) {
        let jpeg = grey(level);
        self.frame(seq, jpeg.len().try_into().unwrap(), &jpeg).await;
    }

    async fn hear(&mut self) -> Result<Heard, WireError> {
        let mut kind = [0];
        if self.0.read(&mut kind).await? == 0 {
            return Ok(Heard::End);
        }
        match StreamKind::try_from(kind[0])? {
            StreamKind::Control => expect_msg(&mut self.0, MAX_CONTROL_BYTES).await.map(Heard::Control),
            _ => expect_msg(&mut self.0, MAX_REPLY_BYTES).await.map(Heard::Reply),
        }
    }

    async fn heard(&mut self) -> Heard {
        soon(self.hear()).await.unwrap()
    }

    async fn answered(&mut self) -> u64 {
        match self.heard().await {
            Heard::Reply(FrameReplyMsg::Answer(answer)) => answer.seq,
            other => panic!("no answer: {other:?}"),
        }
    }

    async fn goodbye(&mut self) -> GoodbyeReason {
        match self.heard().await {
            Heard::Control(EncoderToAgentMsg::Goodbye(goodbye)) => goodbye.reason,
            other => panic!("no goodbye: {other:?}"),
        }
    }
}

#[tokio::test]
async fn frames_and_control_messages_share_a_connection_and_replies_come_as_they_are_ready() {
    let (world, address, mut gate) = gated();
    let mut agent = Agent::admitted(&world, address, "gate", 1).await;
    agent.grey(0, 10).await;
    assert_eq!(gate.entered().await, [10]);
    agent.say(&AgentToEncoderMsg::Ping(Ping { id: 7, sent_us: 1 })).await;
    assert!(matches!(agent.heard().await, Heard::Control(EncoderToAgentMsg::Pong(pong)) if pong.id == 7));
    // Frame 2 is no JPEG: its reply does not wait for the device.
    agent.frame(2, 5, b"hello").await;
    match agent.heard().await {
        Heard::Reply(FrameReplyMsg::Rejected { seq: 2, code: RejectCode::NotJpeg, .. }) => {}
        other => panic!("{other:?}"),
    }
    gate.order(Do::Encode);
    assert_eq!(agent.answered().await, 0);
    agent.say(&AgentToEncoderMsg::Goodbye(Goodbye::new(GoodbyeReason::Shutdown, ""))).await;
    assert_eq!(agent.goodbye().await, GoodbyeReason::Shutdown);
    assert!(matches!(agent.heard().await, Heard::End));
    world.server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_read_away_and_the_next_is_answered() {
    let small = |config: &mut Config| {
        listening(config);
        config.limits.max_frame_bytes = bytesize::ByteSize::kib(8);
    };
    let world = World::start(Fake::new(), small);
    let mut agent = Agent::admitted(&world, world.server.tcp_addr().unwrap(), "gate", 1).await;
    agent.frame(0, 100_000, &[7; 100_000]).await;
    match agent.heard().await {
        Heard::Reply(FrameReplyMsg::Rejected { seq: 0, code: RejectCode::TooLarge, .. }) => {}
        other => panic!("{other:?}"),
    }
    agent.grey(1, 10).await;
    assert_eq!(agent.answered().await, 1);
}

#[tokio::test]
async fn what_does_not_belong_there_ends_the_session_with_words() {
    let (world, address) = world();
    for (kind, serial) in [(StreamKind::Fetch, 1), (StreamKind::Operator, 2)] {
        let mut agent = Agent::admitted(&world, address, "gate", serial).await;
        agent.0.write_all(&[kind as u8]).await.unwrap();
        agent.0.flush().await.unwrap();
        assert_eq!(agent.goodbye().await, GoodbyeReason::Malformed);
        assert!(matches!(agent.heard().await, Heard::End));
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_turned_away_and_knows_why() {
    let (world, address) = world();
    // It trusts the server, and is not trusted itself.
    let theirs = Authority::new("another", ALWAYS);
    let identity = theirs.issue_trusting(&Leaf::camera("gate", 2, ALWAYS), &[world.pki.authority()]);
    assert_eq!(cause(&identity, address).await, Cause::Authority);
}

/// Why a connection with this identity fails, as the agent would say it.
async fn cause(identity: &Path, address: SocketAddr) -> Cause {
    let error = match Agent::connect(identity, address).await {
        Err(error) => error,
        // The server looks at the certificate when the client is done.
        Ok(mut agent) => match soon(agent.hear()).await {
            Err(WireError::Io(error)) => return of(identity, &error),
            other => panic!("let in: {other:?}"),
        },
    };
    of(identity, &error)
}

fn of(identity: &Path, error: &std::io::Error) -> Cause {
    let identity = Identity::load(identity).unwrap();
    let context = Context { identity: &identity, peer: "encoder", now: jiff::Timestamp::now() };
    diagnose(tls_error(error).expect("no TLS error"), &context).cause
}

#[tokio::test]
async fn the_certificate_says_which_camera_may_come_and_one_at_a_time() {
    let (world, address) = world();
    let identity = world.pki.issue(&Leaf::operator("ann", 9, ALWAYS));
    for (identity, code) in [(identity, RefuseCode::Role), (world.pki.camera("roof", 8), RefuseCode::Camera)]
    {
        let mut agent = Agent::connect(&identity, address).await.unwrap();
        agent.say(&AgentToEncoderMsg::Hello(hello("gate"))).await;
        match agent.heard().await {
            Heard::Control(EncoderToAgentMsg::Refused(refused)) => assert_eq!(refused.code, code),
            other => panic!("{other:?}"),
        }
        assert!(matches!(agent.heard().await, Heard::End));
    }
    let mut first = Agent::admitted(&world, address, "gate", 1).await;
    let mut second = Agent::connect(&world.pki.camera("gate", 1), address).await.unwrap();
    second.say(&AgentToEncoderMsg::Hello(protocol::Hello { instance: 2, ..hello("gate") })).await;
    match second.heard().await {
        Heard::Control(EncoderToAgentMsg::Refused(refused)) => {
            assert_eq!(refused.code, RefuseCode::Duplicate);
        }
        other => panic!("{other:?}"),
    }
    // The same process over QUIC takes its own place.
    let _third = world.agent("gate", 1).await;
    assert_eq!(first.goodbye().await, GoodbyeReason::Replaced);
}

#[tokio::test]
async fn a_revocation_ends_an_open_connection() {
    let (world, address) = world();
    let mut agent = Agent::admitted(&world, address, "gate", 5).await;
    world.pki.revoke(2, &[5]);
    assert_eq!(agent.goodbye().await, GoodbyeReason::Revoked);
    assert!(matches!(agent.heard().await, Heard::End));
}

#[tokio::test]
async fn a_drain_answers_what_is_under_way_and_drops_what_comes_later() {
    let (world, address, mut gate) = gated();
    let mut agent = Agent::admitted(&world, address, "gate", 1).await;
    agent.grey(0, 10).await;
    gate.entered().await;
    let ending = tokio::spawn(world.server.shutdown());
    assert_eq!(agent.goodbye().await, GoodbyeReason::Draining);
    agent.grey(1, 20).await;
    match agent.heard().await {
        Heard::Reply(FrameReplyMsg::Dropped { seq: 1, reason: DropReason::Draining, .. }) => {}
        other => panic!("{other:?}"),
    }
    gate.order(Do::Encode);
    assert_eq!(agent.answered().await, 0);
    assert_eq!(agent.goodbye().await, GoodbyeReason::Draining);
    soon(ending).await.unwrap().unwrap();
}
