//! What is written is read back the same, and only within the limits.

use proptest::prelude::*;
use protocol::{
    AgentToEncoderMsg, Answer, CodecError, EncoderToAgentMsg, Encoding, FrameHeader, FrameReplyMsg, Hello,
    Kept, Message, RejectCode, ServerTimings, WireTensor, codec,
    limits::{
        MAX_CONTROL_BYTES, MAX_DIM, MAX_FRAME_BYTES, MAX_FRAME_HEADER_BYTES, MAX_NAME_BYTES,
        MAX_PLACES_BYTES, MAX_REPLY_BYTES, MAX_ROWS, MAX_SPACES, MAX_STRING_BYTES, MAX_TENSOR_BYTES,
        reply_bytes,
    },
};

use crate::{
    samples::{self, Any, space},
    strategies,
};

proptest! {
    #[test]
    fn every_message_comes_back(message in strategies::message()) {
        let framed = message.framed(usize::MAX).unwrap();
        let (prefix, body) = framed.split_first_chunk::<4>().unwrap();
        prop_assert_eq!(codec::body_len(*prefix, message.kind().max_bytes()), Ok(body.len()));
        prop_assert_eq!(message.kind().decode(body), Ok(message));
    }

    #[test]
    fn a_limit_holds_to_the_byte(message in strategies::message()) {
        let len = message.body().len();
        prop_assert!(message.framed(len).is_ok());
        let too_long = CodecError::TooLong { len: len as u64, limit: len as u64 - 1 };
        prop_assert_eq!(message.framed(len - 1), Err(too_long.clone()));
        if let Any::Reply(_) = message {
            let read = codec::decode_exact::<FrameReplyMsg>(&message.body(), len - 1);
            prop_assert_eq!(read, Err(too_long));
        }
    }
}

#[test]
fn the_longest_hello_fits_its_limit() {
    let longest = Hello {
        version: u16::MAX,
        agent: "a".repeat(MAX_NAME_BYTES),
        instance: u64::MAX,
        camera: "c".repeat(MAX_NAME_BYTES),
        spaces: vec![space(0xff); MAX_SPACES],
    };
    let message = Any::Agent(AgentToEncoderMsg::Hello(longest.clone()));
    assert!(message.body().len() <= MAX_CONTROL_BYTES);

    let refused = |change: fn(&mut Hello)| {
        let mut hello = longest.clone();
        change(&mut hello);
        codec::encode(&AgentToEncoderMsg::Hello(hello), MAX_CONTROL_BYTES).unwrap_err().to_string()
    };
    assert_eq!(refused(|h| h.agent.push('a')), "the agent name has 129 bytes, the limit is 128");
    assert_eq!(refused(|h| h.camera.push('c')), "the camera name has 129 bytes, the limit is 128");
    assert_eq!(refused(|h| h.camera = "a\nb".into()), r"the camera name has the control character '\n'");
    assert_eq!(refused(|h| h.spaces.push(space(0))), "65 embedding spaces, the limit is 64");
}

#[test]
fn a_welcome_outside_its_ranges_is_refused() {
    let (_, message) = samples::all().into_iter().find(|(name, _)| *name == "welcome-grid").unwrap();
    let Any::Encoder(EncoderToAgentMsg::Welcome(welcome)) = message else { panic!("{message:?}") };
    let refused = |change: fn(&mut protocol::Welcome)| {
        let mut welcome = welcome.clone();
        change(&mut welcome);
        EncoderToAgentMsg::Welcome(welcome).validate().unwrap_err().to_string()
    };
    assert!(refused(|w| w.note = "n".repeat(MAX_STRING_BYTES + 1)).contains("model note has 1025 bytes"));
    assert!(refused(|w| w.embed_dim = 0).contains("embedding dimension: 0"));
    assert!(refused(|w| w.embed_dim = MAX_DIM + 1).contains("embedding dimension: 65537"));
    assert!(refused(|w| w.input.width = 0).contains("input width"));
    assert!(refused(|w| w.input.height = 1 << 16).contains("input height"));
    assert!(refused(|w| w.patch = Some(0)).contains("side of a patch: 0"));
    assert!(refused(|w| w.patch = Some(577)).contains("side of a patch: 577"));
    assert!(refused(|w| w.patch = Some(1)).contains("patches: 552960"));
    assert!(refused(|w| w.limits.max_frame_bytes = MAX_FRAME_BYTES + 1).contains("largest frame in bytes"));
    assert!(refused(|w| w.limits.max_pixels = 0).contains("largest frame in pixels"));
    assert!(refused(|w| w.limits.max_in_flight = 0).contains("frames in flight"));
    assert!(refused(|w| w.grid.as_mut().unwrap().dim = 0).contains("latent-token dimension"));
    // 65,536 × 65,536 tokens wrap to 0 in 32 bits.
    assert!(
        refused(|w| {
            let grid = w.grid.as_mut().unwrap();
            (grid.rows, grid.cols) = (1 << 16, 1 << 16);
        })
        .contains("grid tokens")
    );
}

#[test]
fn a_frame_header_is_small_and_bounded() {
    let largest = FrameHeader {
        seq: u64::MAX,
        captured_at_us: i64::MIN,
        deadline_ms: u32::MAX,
        jpeg_len: MAX_FRAME_BYTES,
        embedding: Encoding::Int8,
        tokens: Some(Encoding::Int8),
        patches: Some(Kept { count: MAX_ROWS, places: vec![0xff; MAX_PLACES_BYTES] }),
    };
    assert!(Any::Header(largest.clone()).body().len() <= MAX_FRAME_HEADER_BYTES);
    let beyond = FrameHeader { jpeg_len: MAX_FRAME_BYTES + 1, ..largest.clone() };
    assert!(beyond.validate().unwrap_err().to_string().contains("33554433"));

    let refused = |count, places| {
        let header = FrameHeader { patches: Some(Kept { count, places }), ..largest.clone() };
        header.validate().unwrap_err().to_string()
    };
    assert_eq!(refused(2, vec![7]), "patches of a frame: 2, the shape needs 3");
    assert_eq!(refused(0, vec![0]), "patches: 0 is not within 1..=65536");
    let long = vec![0xff; MAX_PLACES_BYTES + 1];
    assert_eq!(refused(MAX_ROWS, long), "8193 bytes of the places of patches, the limit is 8192");
}

fn largest_answer() -> Answer {
    let dim = MAX_DIM;
    let bytes = dim as usize * 4;
    let embedding =
        WireTensor { encoding: Encoding::F32, rows: 1, dim, scales: vec![], data: vec![0; bytes] };
    let rows = (MAX_TENSOR_BYTES / bytes) as u32;
    let tokens = WireTensor { rows, data: vec![0; MAX_TENSOR_BYTES], ..embedding.clone() };
    let timings = ServerTimings {
        receive_us: u32::MAX,
        queue_us: u32::MAX,
        decode_us: u32::MAX,
        encode_us: u32::MAX,
        arrived_us: u64::MAX,
    };
    Answer { seq: u64::MAX, timings, batch: u16::MAX, embedding, tokens: Some(tokens) }
}

#[test]
fn the_largest_answer_fits_its_limit() {
    let answer = largest_answer();
    let tokens = answer.tokens.clone().unwrap();
    let message = Any::Reply(FrameReplyMsg::Answer(answer));
    let body = message.body();
    assert!(body.len() <= MAX_REPLY_BYTES);
    let grid = protocol::GridShape { rows: tokens.rows, cols: 1, dim: tokens.dim };
    let expected = reply_bytes(MAX_DIM, Encoding::F32, Some((grid, Encoding::F32)));
    assert!(body.len() <= expected && expected <= body.len() + 256, "{} and {expected}", body.len());
    assert_eq!(message.kind().decode(&body), Ok(message));
}

#[test]
fn an_embedding_has_one_row() {
    let mut answer = largest_answer();
    answer.embedding = answer.tokens.take().unwrap();
    let error = FrameReplyMsg::Answer(answer).validate().unwrap_err();
    assert_eq!(error.to_string(), "embedding rows: 96 is not within 1..=1");
}

#[test]
fn a_long_reason_is_clipped_to_travel() {
    let reply = FrameReplyMsg::rejected(3, RejectCode::NotJpeg, &"ü\n".repeat(2000));
    assert_eq!(reply.seq(), 3);
    assert!(Any::Reply(reply).body().len() > MAX_STRING_BYTES);
    let raw = FrameReplyMsg::Rejected { seq: 3, code: RejectCode::NotJpeg, message: "x".repeat(1025) };
    assert!(codec::encode(&raw, MAX_REPLY_BYTES).is_err());
}
