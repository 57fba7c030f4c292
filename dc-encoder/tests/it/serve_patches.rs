//! Frames that come as patches, over real QUIC and a fake device whose latent tokens are its patches' mean colours.

use protocol::{Answer, Encoding, FrameHeader, FrameReplyMsg, Kept, RejectCode};
use shared::embedding::from_wire;
use shared::image::{Chroma, Rgb, jpeg};

use crate::serve_support::{Agent, Fake, World};

/// Places of the fake's grid: 2 rows of 4, 8 pixels each.
const PLACES: usize = 8;

/// Sends these places, each filled with one brightness.
async fn send(agent: &mut Agent, places: &[(usize, u8)]) -> FrameReplyMsg {
    let header = agent.header(&[]);
    send_as(agent, header.seq, places).await
}

async fn send_as(agent: &mut Agent, seq: u64, places: &[(usize, u8)]) -> FrameReplyMsg {
    let cols = (1..).find(|cols| cols * cols >= places.len()).unwrap();
    let rows = places.len().div_ceil(cols);
    let mut mosaic = Rgb::filled(cols as u32 * 8, rows as u32 * 8, [0; 3]);
    for (slot, (_, level)) in places.iter().enumerate() {
        for (x, y) in (0..8).flat_map(|x| (0..8).map(move |y| (slot % cols * 8 + x, slot / cols * 8 + y))) {
            let at = (y * mosaic.width as usize + x) * 3;
            mosaic.data[at..at + 3].fill(*level);
        }
    }
    let bits = places.iter().fold(0u8, |bits, (place, _)| bits | 1 << place);
    let kept = Kept { count: bits.count_ones(), places: vec![bits] };
    let jpeg = jpeg::encode(&mosaic, 95, Chroma::C444);
    let header = FrameHeader { seq, patches: Some(kept), tokens: Some(Encoding::F32), ..agent.header(&jpeg) };
    agent.send(&header, &jpeg).await.reply().await
}

fn all(level: u8) -> Vec<(usize, u8)> {
    (0..PLACES).map(|place| (place, level)).collect()
}

/// Embedding and first number of every latent token.
fn numbers(reply: FrameReplyMsg) -> (f32, Vec<f32>) {
    let FrameReplyMsg::Answer(Answer { embedding, tokens, .. }) = reply else { panic!("{reply:?}") };
    let tokens = from_wire(&tokens.unwrap(), PLACES as u32, 3).unwrap();
    (from_wire(&embedding, 1, 3).unwrap()[0], tokens.iter().step_by(3).copied().collect())
}

fn near(got: f32, want: f32) -> bool {
    (got - want).abs() < 2.0
}

#[tokio::test]
async fn the_answer_is_of_the_whole_picture_whatever_was_sent_of_it() {
    let world = World::start(Fake::with_patches(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    assert_eq!(agent.welcome.as_ref().unwrap().patch, Some(8));

    let (mean, tokens) = numbers(send(&mut agent, &all(40)).await);
    assert!(near(mean, 40.0) && tokens.iter().all(|token| near(*token, 40.0)), "{mean} {tokens:?}");
    let (mean, tokens) = numbers(send(&mut agent, &[(1, 200), (6, 120)]).await);
    assert!(near(tokens[1], 200.0) && near(tokens[6], 120.0) && near(tokens[0], 40.0), "{tokens:?}");
    assert!(near(mean, (6.0 * 40.0 + 200.0 + 120.0) / 8.0), "{mean}");
    // A frame that comes late does not bring back what is over.
    let (again, tokens) = numbers(send_as(&mut agent, 0, &[(1, 10)]).await);
    assert!(near(again, mean) && near(tokens[1], 200.0), "{again} {tokens:?}");
    // Whole frames pass as ever, and are no part of it.
    let grey = agent.grey(250).await.reply().await;
    assert!(matches!(grey, FrameReplyMsg::Answer(_)), "{grey:?}");
    assert!(near(numbers(send(&mut agent, &[(0, 40)]).await).0, mean));
}

fn rejected(reply: FrameReplyMsg) -> (RejectCode, String) {
    match reply {
        FrameReplyMsg::Rejected { code, message, .. } => (code, message),
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn a_session_begins_with_all_patches() {
    let world = World::start(Fake::with_patches(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    let (code, message) = rejected(send(&mut agent, &[(1, 200)]).await);
    assert_eq!(code, RejectCode::PatchesMissing);
    assert!(message.contains("8 of 8") && message.contains("send all"), "{message}");
    numbers(send(&mut agent, &all(40)).await);
    numbers(send(&mut agent, &[(1, 200)]).await);
    let mut other = world.agent("door", 11).await;
    let (code, _) = rejected(send(&mut other, &[(1, 200)]).await);
    assert_eq!(code, RejectCode::PatchesMissing, "another camera's picture is no help");
}

#[tokio::test]
async fn what_is_no_mosaic_of_the_grid_is_rejected_and_the_session_goes_on() {
    let world = World::start(Fake::with_patches(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    numbers(send(&mut agent, &all(40)).await);
    let jpeg = jpeg::encode(&Rgb::filled(16, 8, [9; 3]), 90, Chroma::C444);
    for (places, words) in [(vec![7], "3 patches is 16x16"), (vec![3, 1], "2 bytes")] {
        let count = places.iter().map(|byte: &u8| byte.count_ones()).sum::<u32>();
        let header = FrameHeader { patches: Some(Kept { count, places }), ..agent.header(&jpeg) };
        let (code, message) = rejected(agent.send(&header, &jpeg).await.reply().await);
        assert_eq!(code, RejectCode::Malformed);
        assert!(message.contains(words), "{message}");
    }
    numbers(send(&mut agent, &[(0, 40)]).await);
}

#[tokio::test]
async fn an_encoder_of_whole_frames_says_so() {
    let world = World::start(Fake::new(), |_| {});
    let mut agent = world.agent("gate", 10).await;
    assert_eq!(agent.welcome.as_ref().unwrap().patch, None);
    let jpeg = jpeg::encode(&Rgb::filled(16, 8, [9; 3]), 90, Chroma::C444);
    let kept = Kept { count: 2, places: vec![3] };
    let header = FrameHeader { patches: Some(kept), ..agent.header(&jpeg) };
    let (code, message) = rejected(agent.send(&header, &jpeg).await.reply().await);
    assert_eq!(code, RejectCode::PatchesUnavailable);
    assert!(message.contains("uplink.patches = \"all\""), "{message}");
}
