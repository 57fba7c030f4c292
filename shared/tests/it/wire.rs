//! Messages and frame bytes over real QUIC streams on loopback, and every way a stream can end.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use protocol::{
    AgentToEncoderMsg, EncoderToAgentMsg, FrameHeader, Ping, Pong, StreamKind, close,
    limits::{MAX_CONTROL_BYTES, MAX_FRAME_HEADER_BYTES},
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, VarInt};
use rustls::pki_types::PrivatePkcs8KeyDer;
use shared::wire::{MsgReader, WireError, expect_end, expect_msg, read_exact_limited, read_msg, write_msg};
use tokio::sync::oneshot;

/// Two connected ends. The endpoints live as long as the connections are used.
struct Pair {
    agent: Connection,
    encoder: Connection,
    _endpoints: [Endpoint; 2],
}

impl Pair {
    async fn connect() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();

        let loopback = (Ipv4Addr::LOCALHOST, 0).into();
        let listening = Endpoint::server(server, loopback).unwrap();
        let calling = Endpoint::client(loopback).unwrap();
        let connecting = calling.connect_with(client, listening.local_addr().unwrap(), "localhost").unwrap();
        let accepted = async { listening.accept().await.unwrap().await.unwrap() };
        let (agent, encoder) = tokio::join!(connecting, accepted);
        Self { agent: agent.unwrap(), encoder, _endpoints: [listening, calling] }
    }

    /// A stream of `kind`, its first byte read: the agent's two halves, then the encoder's.
    async fn stream(&self, kind: StreamKind) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
        let mut agent = self.agent.open_bi().await.unwrap();
        agent.0.write_all(&[kind as u8]).await.unwrap();
        let mut encoder = self.encoder.accept_bi().await.unwrap();
        let mut first = [0];
        encoder.1.read_exact(&mut first).await.unwrap();
        assert_eq!(StreamKind::try_from(first[0]), Ok(kind));
        (agent, encoder)
    }
}

fn ping(id: u64) -> AgentToEncoderMsg {
    AgentToEncoderMsg::Ping(Ping { id, sent_us: 1 })
}

fn header(jpeg_len: u32) -> FrameHeader {
    FrameHeader {
        seq: 1,
        captured_at_us: 2,
        deadline_ms: 3,
        jpeg_len,
        embedding: protocol::Encoding::F16,
        tokens: None,
        patches: None,
    }
}

#[tokio::test]
async fn a_frame_goes_there_and_its_reply_comes_back() {
    let pair = Pair::connect().await;
    let ((mut up, mut down), (mut reply, mut frame)) = pair.stream(StreamKind::Frame).await;
    let jpeg: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let agent = async {
        write_msg(&mut up, &header(jpeg.len() as u32), MAX_FRAME_HEADER_BYTES).await.unwrap();
        up.write_all(&jpeg).await.unwrap();
        up.finish().unwrap();
        let reply: EncoderToAgentMsg = expect_msg(&mut down, MAX_CONTROL_BYTES).await.unwrap();
        expect_end(&mut down).await.unwrap();
        reply
    };
    let encoder = async {
        let header: FrameHeader = expect_msg(&mut frame, MAX_FRAME_HEADER_BYTES).await.unwrap();
        let body = read_exact_limited(&mut frame, header.jpeg_len.into(), 300_000).await.unwrap();
        expect_end(&mut frame).await.unwrap();
        assert_eq!(body, jpeg);
        let pong = EncoderToAgentMsg::Pong(Pong { id: header.seq, received_us: 4, sent_us: 5 });
        write_msg(&mut reply, &pong, MAX_CONTROL_BYTES).await.unwrap();
        reply.finish().unwrap();
    };
    let (reply, ()) = tokio::join!(agent, encoder);
    assert_eq!(reply, EncoderToAgentMsg::Pong(Pong { id: 1, received_us: 4, sent_us: 5 }));
}

#[tokio::test]
async fn a_stream_that_ends_between_messages_ended_cleanly() {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, mut recv)) = pair.stream(StreamKind::Control).await;
    write_msg(&mut up, &ping(1), MAX_CONTROL_BYTES).await.unwrap();
    up.finish().unwrap();
    assert_eq!(read_msg(&mut recv, MAX_CONTROL_BYTES).await.unwrap(), Some(ping(1)));
    assert_eq!(read_msg::<AgentToEncoderMsg>(&mut recv, MAX_CONTROL_BYTES).await.unwrap(), None);
    let ended = expect_msg::<AgentToEncoderMsg>(&mut recv, MAX_CONTROL_BYTES).await.unwrap_err();
    assert!(matches!(ended, WireError::Ended) && ended.is_malformed());
}

/// What `read_msg` and `MsgReader` say of a stream that holds `bytes` and then ends.
async fn read_both(bytes: &[u8]) -> [WireError; 2] {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, mut recv)) = pair.stream(StreamKind::Control).await;
    up.write_all(bytes).await.unwrap();
    up.finish().unwrap();
    let first = read_msg::<AgentToEncoderMsg>(&mut recv, 100).await.unwrap_err();
    let ((mut up, _down), (_reply, recv)) = pair.stream(StreamKind::Control).await;
    up.write_all(bytes).await.unwrap();
    up.finish().unwrap();
    [first, MsgReader::new(recv, 100).next::<AgentToEncoderMsg>().await.unwrap_err()]
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_was_truncated() {
    let [one, reader] = read_both(&[9, 0, 0]).await;
    assert!(matches!(one, WireError::Truncated { got: 3, want: 4 }), "{one}");
    assert!(matches!(reader, WireError::Truncated { got: 3, want: 4 }), "{reader}");
    let [one, reader] = read_both(&[9, 0, 0, 0, 1, 2]).await;
    assert!(matches!(one, WireError::Truncated { got: 2, want: 9 }), "{one}");
    assert!(matches!(reader, WireError::Truncated { got: 6, want: 13 }), "{reader}");
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_without_waiting_for_the_bytes() {
    for error in read_both(&[101, 0, 0, 0]).await {
        assert!(error.is_malformed());
        assert!(error.to_string().contains("101") && error.to_string().contains("100"), "{error}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_malformed() {
    for error in read_both(&[2, 0, 0, 0, 9, 9]).await {
        assert!(matches!(error, WireError::Malformed(_)) && error.is_malformed(), "{error}");
    }
}

#[tokio::test]
async fn a_frame_cut_short_says_how_much_came() {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, mut frame)) = pair.stream(StreamKind::Frame).await;
    up.write_all(&[7; 10]).await.unwrap();
    up.finish().unwrap();
    let beyond = read_exact_limited(&mut frame, u64::MAX, 1000).await.unwrap_err();
    assert!(matches!(beyond, WireError::TooLong { len: u64::MAX, limit: 1000 }));
    let cut = read_exact_limited(&mut frame, 11, 1000).await.unwrap_err();
    assert!(matches!(cut, WireError::Truncated { got: 10, want: 11 }), "{cut}");
    assert_eq!(cut.to_string(), "the stream ended after 10 of 11 bytes");
}

#[tokio::test]
async fn bytes_after_the_frame_are_noticed() {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, mut frame)) = pair.stream(StreamKind::Frame).await;
    up.write_all(&[7; 11]).await.unwrap();
    assert_eq!(read_exact_limited(&mut frame, 10, 1000).await.unwrap(), [7; 10]);
    assert!(matches!(expect_end(&mut frame).await, Err(WireError::Trailing)));
}

#[tokio::test]
async fn a_stale_frame_is_seen_on_both_halves() {
    let pair = Pair::connect().await;
    let ((mut up, mut down), (mut reply, mut frame)) = pair.stream(StreamKind::Frame).await;
    up.reset(VarInt::from_u32(close::STALE)).unwrap();
    down.stop(VarInt::from_u32(close::STALE)).unwrap();
    let error = read_msg::<FrameHeader>(&mut frame, MAX_FRAME_HEADER_BYTES).await.unwrap_err();
    assert!(matches!(error, WireError::Reset { code } if code == u64::from(close::STALE)), "{error}");
    assert!(!error.is_malformed() && !error.is_connection_gone());
    assert_eq!(error.to_string(), "the other side reset the stream: the frame is no longer wanted");
    reply.stopped().await.unwrap();
    let error = write_msg(&mut reply, &ping(1), 64).await.unwrap_err();
    assert!(matches!(error, WireError::Stopped { code } if code == u64::from(close::STALE)), "{error}");
}

#[tokio::test]
async fn a_closed_connection_says_its_code_and_reason() {
    let pair = Pair::connect().await;
    let ((_up, mut down), _encoder) = pair.stream(StreamKind::Control).await;
    pair.encoder.close(VarInt::from_u32(close::REVOKED), b"serial 7\n");
    let error = read_msg::<EncoderToAgentMsg>(&mut down, 64).await.unwrap_err();
    assert!(error.is_connection_gone() && !error.is_malformed());
    assert_eq!(
        error.to_string(),
        "the other side closed the connection: the certificate was revoked (serial 7 )"
    );
}

#[tokio::test]
async fn a_connection_closed_here_is_lost() {
    let pair = Pair::connect().await;
    let ((mut up, mut down), _encoder) = pair.stream(StreamKind::Control).await;
    pair.agent.close(VarInt::from_u32(close::OK), b"");
    let error = read_msg::<EncoderToAgentMsg>(&mut down, 64).await.unwrap_err();
    assert!(matches!(error, WireError::Lost(_)) && error.is_connection_gone(), "{error}");
    let error = write_msg(&mut up, &ping(1), 64).await.unwrap_err();
    assert!(matches!(error, WireError::Lost(_)), "{error}");
}

#[tokio::test]
async fn a_finished_stream_takes_no_more() {
    let pair = Pair::connect().await;
    let ((mut up, _down), _encoder) = pair.stream(StreamKind::Control).await;
    up.finish().unwrap();
    let error = write_msg(&mut up, &ping(1), 64).await.unwrap_err();
    assert!(matches!(error, WireError::AlreadyClosed), "{error}");
}

#[tokio::test]
async fn a_message_beyond_the_peers_limit_is_not_sent() {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, mut recv)) = pair.stream(StreamKind::Control).await;
    assert!(matches!(write_msg(&mut up, &ping(1), 2).await, Err(WireError::Malformed(_))));
    up.finish().unwrap();
    assert_eq!(read_msg::<AgentToEncoderMsg>(&mut recv, 64).await.unwrap(), None);
}

/// A control loop drops the reader's future whenever another branch is ready: nothing may be lost by it.
#[tokio::test]
async fn the_message_reader_is_cancel_safe() {
    let pair = Pair::connect().await;
    let ((mut up, _down), (_reply, recv)) = pair.stream(StreamKind::Control).await;
    let bytes: Vec<u8> =
        (0..50).flat_map(|id| protocol::codec::encode(&ping(id), MAX_CONTROL_BYTES).unwrap()).collect();
    let (done, mut all_read) = oneshot::channel();
    let writer = async move {
        for byte in bytes {
            up.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        up.finish().unwrap();
        done.send(()).unwrap();
    };
    let reader = async move {
        let mut reader = MsgReader::new(recv, MAX_CONTROL_BYTES);
        let (mut found, mut cancelled) = (Vec::new(), 0);
        loop {
            tokio::select! {
                biased;
                message = reader.next::<AgentToEncoderMsg>() => match message.unwrap() {
                    Some(message) => found.push(message),
                    None => return (found, cancelled),
                },
                // Polled right after a read that waits: that read is dropped.
                () = tokio::task::yield_now() => cancelled += 1,
            }
        }
    };
    let both = async { tokio::join!(writer, reader) };
    let ((), (found, cancelled)) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(found, (0..50).map(ping).collect::<Vec<_>>());
    assert!(cancelled > 0);
    assert_eq!(all_read.try_recv(), Ok(()));
}
