//! What the fuzz target does with its bytes; the crate's tests run it over `seeds/` as well.

use std::fmt::Debug;

use protocol::{
    AgentToEncoderMsg, Deframer, EncoderToAgentMsg, FetchReplyMsg, FetchRequest, FrameHeader, FrameReplyMsg,
    Message, OperatorReplyMsg, OperatorRequestMsg, codec, limits,
};

/// Reads `data` as a stream of messages and as one body, of every type.
pub(crate) fn run(data: &[u8]) {
    every_type(data);
    let at_once = bodies(data, data.len().max(1));
    assert_eq!(at_once, bodies(data, 3), "the way a stream is cut changes nothing");
    at_once.iter().for_each(|body| every_type(body));
}

/// The bodies of a stream that arrives in pieces of `piece` bytes, up to its first error.
fn bodies(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut deframer = Deframer::new(limits::MAX_REPLY_BYTES);
    let mut found = Vec::new();
    for bytes in stream.chunks(piece) {
        deframer.push(bytes);
        while let Ok(Some(body)) = deframer.next() {
            found.push(body);
        }
    }
    found
}

fn every_type(body: &[u8]) {
    one_type::<AgentToEncoderMsg>(body);
    one_type::<EncoderToAgentMsg>(body);
    one_type::<FrameHeader>(body);
    one_type::<FrameReplyMsg>(body);
    one_type::<FetchRequest>(body);
    one_type::<FetchReplyMsg>(body);
    one_type::<OperatorRequestMsg>(body);
    one_type::<OperatorReplyMsg>(body);
}

/// What can be read can be written, and is then read as the same message.
fn one_type<M: Message + PartialEq + Debug>(body: &[u8]) {
    if let Ok(message) = codec::decode_exact::<M>(body, M::MAX_BYTES) {
        let framed = codec::encode(&message, M::MAX_BYTES).expect("a message that was read may travel");
        let again = codec::decode_exact::<M>(&framed[codec::PREFIX_BYTES..], M::MAX_BYTES);
        assert_eq!(again.as_ref(), Ok(&message));
    }
}
