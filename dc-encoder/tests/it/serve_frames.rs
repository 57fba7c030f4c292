//! What becomes of a frame, over real QUIC and a fake device.

use std::time::Duration;

use protocol::{
    Answer, DropReason, Encoding, FrameHeader, FrameReplyMsg, GridShape, InputSize, RejectCode, close,
};
use shared::embedding::from_wire;
use shared::image::{Chroma, Rgb, jpeg};

use crate::serve_support::{Agent, Do, Fake, Pending, World, grey, soon, until};

fn answer(reply: FrameReplyMsg) -> Answer {
    match reply {
        FrameReplyMsg::Answer(answer) => answer,
        other => panic!("no answer: {other:?}"),
    }
}

fn rejected(reply: FrameReplyMsg) -> (RejectCode, String) {
    match reply {
        FrameReplyMsg::Rejected { code, message, .. } => (code, message),
        other => panic!("not rejected: {other:?}"),
    }
}

fn dropped(reply: FrameReplyMsg) -> (u64, DropReason) {
    match reply {
        FrameReplyMsg::Dropped { seq, reason, .. } => (seq, reason),
        other => panic!("not dropped: {other:?}"),
    }
}

fn level(answer: &Answer) -> f32 {
    from_wire(&answer.embedding, 1, 4).unwrap()[0]
}

async fn still_works(agent: &mut Agent) {
    let answer = answer(agent.grey(77).await.reply().await);
    assert!((level(&answer) - 77.0).abs() < 2.0, "{answer:?}");
}

#[tokio::test]
async fn a_frame_is_answered_with_its_embedding_and_timings() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let welcome = agent.welcome.clone().unwrap();
    assert_eq!(welcome.grid, Some(GridShape { rows: 2, cols: 2, dim: 3 }));
    assert_eq!(welcome.input, InputSize { width: 32, height: 16 });
    assert_eq!((welcome.model.as_str(), welcome.note.as_str()), ("fake-4", "random weights"));

    let image = Rgb::filled(640, 320, [200, 100, 50]);
    let jpeg = jpeg::encode(&image, 90, Chroma::C444);
    let header = agent.header(&jpeg);
    let answer = answer(agent.send(&header, &jpeg).await.reply().await);
    assert_eq!((answer.seq, answer.batch, answer.tokens), (header.seq, 1, None));
    assert_eq!(answer.embedding.encoding, Encoding::F32);
    let embedding = from_wire(&answer.embedding, 1, 4).unwrap();
    for (got, want) in embedding.iter().zip([200.0, 100.0, 50.0, 0.5]) {
        assert!((got - want).abs() < 3.0, "{embedding:?}");
    }
    assert!(answer.timings.decode_us > 0, "decoding 640×320 pixels takes time: {:?}", answer.timings);
}

#[tokio::test]
async fn embeddings_and_tokens_travel_as_asked() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let jpeg = grey(90);
    for embedding in [Encoding::F32, Encoding::F16, Encoding::Int8] {
        for tokens in [None, Some(Encoding::F16), Some(Encoding::Int8)] {
            let header = FrameHeader { embedding, tokens, ..agent.header(&jpeg) };
            let answer = answer(agent.send(&header, &jpeg).await.reply().await);
            assert_eq!(answer.embedding.encoding, embedding);
            assert_eq!(answer.tokens.as_ref().map(|tokens| tokens.encoding), tokens);
            assert!((level(&answer) - 90.0).abs() < 2.0);
            for token in answer.tokens.iter().flat_map(|tokens| from_wire(tokens, 4, 3).unwrap()) {
                assert!((token - 90.0).abs() < 2.0);
            }
        }
    }
}

#[tokio::test]
async fn frames_with_and_without_tokens_share_a_batch() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |_| {});
    let (mut one, mut two, mut three) =
        (world.agent("one", 10).await, world.agent("two", 11).await, world.agent("three", 12).await);
    let mut first = one.grey(10).await;
    assert_eq!(gate.entered().await.len(), 1, "an idle device takes what is there");
    let mut plain = two.grey(20).await;
    let jpeg = grey(30);
    let header = FrameHeader { tokens: Some(Encoding::F16), ..three.header(&jpeg) };
    let mut with_tokens = three.send(&header, &jpeg).await;
    until(|| world.server.counts().ready == 2).await;
    gate.order(Do::Encode);
    assert_eq!(answer(first.reply().await).batch, 1);
    assert_eq!(gate.entered().await.len(), 2, "a busy device lets the queue grow into the next batch");
    gate.order(Do::Encode);
    let (plain, with_tokens) = (answer(plain.reply().await), answer(with_tokens.reply().await));
    assert_eq!((plain.batch, with_tokens.batch), (2, 2));
    assert!(plain.tokens.is_none() && with_tokens.tokens.is_some());
    assert!(plain.timings.queue_us > 0, "{:?}", plain.timings);
}

#[tokio::test]
async fn tokens_that_the_encoder_does_not_make_are_refused() {
    let world = World::start(Fake::without_tokens(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let header = FrameHeader { tokens: Some(Encoding::F16), ..agent.header(b"") };
    let (code, _) = rejected(agent.send(&header, b"").await.reply().await);
    assert_eq!(code, RejectCode::TokensUnavailable);
    still_works(&mut agent).await;
}

/// A JPEG header that announces 30,000×30,000 pixels: 2.7 GB decoded.
fn bomb() -> Vec<u8> {
    let mut jpeg = grey(1);
    let sof = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
    jpeg[sof + 5..sof + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
    jpeg
}

#[tokio::test]
async fn bad_frames_are_rejected_with_reasons_and_the_session_goes_on() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let good = grey(50);
    let cases: [(Vec<u8>, RejectCode, &str); 4] = [
        (good[..good.len() / 2].to_vec(), RejectCode::Truncated, "truncated"),
        (b"GIF89a".to_vec(), RejectCode::NotJpeg, "not a JPEG"),
        (Vec::new(), RejectCode::Truncated, "0 bytes"),
        (bomb(), RejectCode::TooManyPixels, "30000×30000"),
    ];
    for (bytes, want, words) in cases {
        let header = agent.header(&bytes);
        let (code, message) = rejected(agent.send(&header, &bytes).await.reply().await);
        assert_eq!(code, want, "{message}");
        assert!(message.contains(words), "{message}");
        still_works(&mut agent).await;
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_rejected() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let jpeg = grey(50);
    let header = FrameHeader { jpeg_len: jpeg.len() as u32 + 1, ..agent.header(&jpeg) };
    let (code, message) = rejected(agent.send(&header, &jpeg).await.reply().await);
    assert_eq!(code, RejectCode::Truncated, "{message}");
    let header = FrameHeader { jpeg_len: jpeg.len() as u32 - 1, ..agent.header(&jpeg) };
    let (code, message) = rejected(agent.send(&header, &jpeg).await.reply().await);
    assert_eq!(code, RejectCode::Malformed, "{message}");
    still_works(&mut agent).await;
}

#[tokio::test]
async fn a_frame_that_announces_too_much_is_refused_before_it_is_sent() {
    let world =
        World::start(Fake::new(), |config| config.limits.max_frame_bytes = bytesize::ByteSize::kib(64));
    let mut agent = world.agent("gate", 10).await;
    assert_eq!(agent.welcome.as_ref().unwrap().limits.max_frame_bytes, 65536);
    let header = FrameHeader { jpeg_len: 65537, ..agent.header(b"") };
    // Not a byte of the body, and no end: only the header can have been the reason.
    let mut pending = agent.open(&header, b"").await;
    let (code, message) = rejected(pending.reply().await);
    assert_eq!(code, RejectCode::TooLarge);
    assert!(message.contains("65537") && message.contains("65536"), "{message}");
    let stopped = soon(pending.send.stopped()).await.unwrap().unwrap();
    assert_eq!(stopped.into_inner(), u64::from(close::STALE), "and the sender is told to stop");
    still_works(&mut agent).await;
}

#[tokio::test]
async fn a_header_that_is_no_header_ends_only_its_own_session() {
    let world = World::start(Fake::new(), |_| {});
    let (mut good, bad) = (world.agent("good", 10).await, world.agent("bad", 11).await);
    let (mut send, _recv) = bad.connection.open_bi().await.unwrap();
    send.write_all(&[1, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    let (code, message) = bad.closed().await;
    assert_eq!(code, close::MALFORMED);
    assert!(message.contains("4294967295"), "{message}");
    still_works(&mut good).await;
}

#[tokio::test]
async fn a_cancelled_frame_never_reaches_the_device() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |_| {});
    let mut agent = world.agent("gate", 10).await;
    let mut first = agent.grey(10).await;
    assert_near(&gate.entered().await, &[10]);
    let stale = agent.grey(20).await;
    until(|| world.server.counts().ready == 1).await;
    stale.cancel();
    until(|| world.server.counts().ready == 0).await;
    let mut fresh = agent.grey(30).await;
    until(|| world.server.counts().ready == 1).await;
    gate.order(Do::Encode);
    gate.order(Do::Encode);
    answer(first.reply().await);
    answer(fresh.reply().await);
    let seen = gate.unseen();
    assert_eq!(seen.len(), 1);
    assert_near(&seen[0], &[30]);
}

/// JPEG moves a grey level by one or two.
fn assert_near(got: &[u8], want: &[u8]) {
    let near = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= 2);
    assert!(near, "{got:?} is not {want:?}");
}

#[tokio::test]
async fn the_newest_frame_wins_while_the_device_is_busy() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |config| config.queue.per_camera = 1);
    let mut agent = world.agent("gate", 10).await;
    let mut first = agent.grey(10).await;
    gate.entered().await;
    let mut older = agent.grey(20).await;
    until(|| world.server.counts().ready == 1).await;
    let mut newer = agent.grey(30).await;
    assert_eq!(dropped(older.reply().await), (1, DropReason::Superseded));
    gate.order(Do::Encode);
    answer(first.reply().await);
    assert_near(&gate.entered().await, &[30]);
    gate.order(Do::Encode);
    assert!((level(&answer(newer.reply().await)) - 30.0).abs() < 2.0);
}

#[tokio::test]
async fn a_camera_with_a_weight_has_longer_turns() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |config| config.queue.weights = [("plaza".to_owned(), 2)].into());
    let (mut plaza, mut other) = (world.agent("plaza", 10).await, world.agent("gate", 11).await);
    let mut replies = vec![other.grey(10).await];
    gate.entered().await;
    for (ready, level) in (1..).zip([20, 30]) {
        replies.push(plaza.grey(level).await);
        until(|| world.server.counts().ready == ready).await;
    }
    replies.push(other.grey(40).await);
    until(|| world.server.counts().ready == 3).await;
    gate.order(Do::Encode);
    assert_near(&gate.entered().await, &[20, 30, 40]);
    gate.order(Do::Encode);
    for mut reply in replies {
        answer(reply.reply().await);
    }
}

#[tokio::test]
async fn a_frame_whose_deadline_passes_in_the_queue_is_told_so_while_the_device_is_busy() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |_| {});
    let mut agent = world.agent("gate", 10).await;
    let mut first = agent.grey(10).await;
    gate.entered().await;
    let jpeg = grey(20);
    let header = FrameHeader { deadline_ms: 20, ..agent.header(&jpeg) };
    let mut late = agent.send(&header, &jpeg).await;
    assert_eq!(dropped(late.reply().await), (1, DropReason::Expired));
    gate.order(Do::Encode);
    answer(first.reply().await);
    assert!(gate.unseen().is_empty(), "the expired frame did not reach the device");
}

#[tokio::test]
async fn a_stream_that_trickles_is_given_up_and_others_are_not() {
    let world = World::start(Fake::new(), |config| config.timeouts.receive = Duration::from_millis(500));
    let mut agent = world.agent("gate", 10).await;
    let jpeg = grey(50);
    let header = agent.header(&jpeg);
    let mut slow = agent.open(&header, &jpeg[..10]).await;
    let (code, message) = rejected(slow.reply().await);
    assert_eq!(code, RejectCode::Truncated);
    assert!(message.contains("500ms"), "{message}");

    let (mut send, mut recv) = agent.connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    let error = soon(recv.read_to_end(1)).await.unwrap_err();
    assert!(format!("{error:?}").contains("Reset"), "nobody knows which frame this was: {error:?}");
    still_works(&mut agent).await;
}

#[tokio::test]
async fn a_failed_batch_is_rejected_and_the_next_one_is_not() {
    let (fake, mut gate) = Fake::gated();
    let world = World::start(fake, |_| {});
    let mut agent = world.agent("gate", 10).await;
    for (order, words) in [(Do::Fail, "not finite"), (Do::Panic, "told to panic")] {
        let mut pending = agent.grey(10).await;
        gate.entered().await;
        gate.order(order);
        let (code, message) = rejected(pending.reply().await);
        assert_eq!(code, RejectCode::Internal);
        assert!(message.contains(words), "{message}");
    }
    gate.open();
    still_works(&mut agent).await;
}

#[tokio::test]
async fn an_agent_within_its_limit_loses_no_frame() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let mut pending: std::collections::VecDeque<Pending> = std::collections::VecDeque::new();
    let mut answered = 0;
    for frame in 0..200u8 {
        if pending.len() == 4 {
            answer(pending.pop_front().unwrap().reply().await);
            answered += 1;
        }
        pending.push_back(agent.grey(frame).await);
    }
    for mut frame in pending {
        answer(frame.reply().await);
        answered += 1;
    }
    assert_eq!(answered, 200);
}
