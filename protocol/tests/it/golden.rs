//! The format, pinned: these bytes never change while the version is 4.

use crate::samples::{self, Any};

/// 32 bytes that count up from 0, 0x20 and 0x40.
macro_rules! space {
    (00) => {
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    };
    (01) => {
        "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
    };
    (20) => {
        "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
    };
    (40) => {
        "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
    };
}

/// "dc-encoder 0.1.0", "seed-80m" and "random weights", each after its length, and the space.
macro_rules! welcome {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " 1064632d656e636f64657220302e312e30 08736565642d38306d 0e72616e646f6d2077656967687473 ",
            space!(40),
            $after
        )
    };
}

/// Name and hexadecimal bytes of every sample, blanks between the fields: the length prefix, the variant (not
/// for a frame header), then the fields in order. Below 251 a number is one byte; `fb`, `fc` and `fd` come
/// before 2, 4 and 8 bytes. Signed numbers are zigzag, so -1 is 1. Options are 0, or 1 and the value.
#[rustfmt::skip]
const GOLDEN: &[(&str, &str)] = &[
    ("hello", concat!(
        "64000000 00 02 10656467652d6167656e7420302e312e30 fdefcdab8967452301 06706cc3a4747a 02 ",
        space!(00), space!(20),
    )),
    ("ping", "0b000000 01 09 fd01401e18240a0600"),
    ("agent-goodbye", "08000000 02 03 056e65776572"),
    ("welcome", welcome!("61000000 00 02", "fb0002 00 fbc003 fb4002 00 fc00008000 fc0040fa01 04")),
    ("welcome-grid", welcome!("67000000 00 02", "fb0002 01 0c 14 fb0002 fbc003 fb4002 01 30 fc00008000 fc0040fa01 04")),
    ("refused", "05000000 01 01 026e6f"),
    ("pong", "14000000 02 09 fd02401e18240a0600 fd03401e18240a0600"),
    ("encoder-goodbye", "08000000 03 03 056e65776572"),
    ("frame-header", "18000000 fb2c01 fd00803c3048140c00 fbf401 fc70110100 01 01 02 00"),
    ("frame-header-no-tokens", "0f000000 fb2c01 01 fbf401 fc70110100 01 00 00"),
    ("frame-header-patches", "14000000 fb2c01 01 fbf401 fc70110100 01 00 01 03 03 810100"),
    ("answer-f32", "24000000 00 07 fa fbfb00 fc00000100 01 fd00605ba09d370600 03  00 01 02 00 08 0000803f 000020c0  00"),
    ("answer-f16-f32", concat!(
        "2d000000 00 07 fa fbfb00 fc00000100 01 fd00605ba09d370600 03  01 01 02 00 04 003c 00c1  ",
        "01 00 01 02 00 08 0000803f 000020c0",
    )),
    ("answer-f32-int8", concat!(
        "37000000 00 07 fa fbfb00 fc00000100 01 fd00605ba09d370600 03  00 01 02 00 08 0000803f 000020c0  ",
        "01 02 02 03 02 0000003f 00000000 06 01ff7f 000000",
    )),
    ("dropped", "16000000 01 08 01 fa fbfb00 fc00000100 01 fd00605ba09d370600"),
    ("rejected", "0f000000 02 09 04 0b3330303030783330303030"),
    ("head-report", concat!(
        "79000000 03 05636f756e74 0c636f756e7440737461626c65 07 01", space!(00), "01", space!(20),
        "01 00 026e6f fbfb00 fc00000100 02 03 000000000000f03f 0000000000000440 fb0008",
    )),
    ("key-ring", "05000000 04 03090807"),
    ("wanted", "06000000 05 03010203 fa"),
    ("fetch", concat!("21000000", space!(00), "00")),
    ("fetch-on", concat!("46000000", space!(00), "01", space!(20), "fc00000100")),
    ("fetch-found", concat!("2d000000 00 fb204e 020405", space!(40), "fb2823 fb2c01")),
    ("fetch-refused", "05000000 01 02 026e6f"),
    ("publish", concat!("27000000 00", space!(00), "fb204e 020405")),
    ("take-key-ring", "05000000 01 03090807"),
    ("assign", "05000000 02 03010203"),
    ("steer", "07000000 03 03614062 09 02"),
    ("channel", "05000000 04 03614062"),
    ("status", "0d000000 05 03614062 07706c617a612d2a"),
    ("audit", "02000000 06 64"),
    ("done", "0b000000 00 09776173207468657265"),
    ("operator-refused", "05000000 01 04 026e6f"),
    ("channel-state", "16000000 02 03614062 020102 64 02 026e6f fd00803c3048140c00"),
    ("history", concat!("31000000 03 09", space!(40), "01 03616461 0861737369676e6564 01")),
    ("camera-head", concat!(
        "96000000 04 07706c617a612d31 01 fb2c01  05636f756e74 0c636f756e7440737461626c65 07 00 01", space!(20),
        "01 01", space!(01), "026e6f fbfb00 fc00000100 02 03 000000000000f03f 0000000000000440 fb0008  ",
        "00 0000000000000000 0000000000000000",
    )),
    ("audit-line", "19000000 05 03616461 126b65792072696e672076657273696f6e2032 01"),
    ("work", "13000000 04 03 fc70110100 fd0000000000010000 fb204e"),
    ("ledger", "09000000 07 07706c617a612d2a"),
    ("site", concat!(
        "40000000 06 0668616c6c2033 fbfb00 0464656d6f fc00000080 047261706c 01 000000000000e03f 01 ",
        "0000000000e07540 027069 04 9a99999999990940 0000000000004840",
    )),
    ("account", concat!(
        "38000000 07 07706c617a612d31 fb2c01 fd0000000000010000 fbfb00 000000000000f83f fc00000100 09 ",
        "03 fc70110100 fd0000000000010000 fb204e",
    )),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_variant_is_written_as_pinned() {
    let samples = samples::all();
    let names: Vec<_> = samples.iter().map(|(name, _)| *name).collect();
    let pinned: Vec<_> = GOLDEN.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, pinned, "every sample has its golden bytes");
    for ((name, message), (_, golden)) in samples.iter().zip(GOLDEN) {
        assert_eq!(hex(&message.framed(usize::MAX).unwrap()), hex(&bytes(golden)), "{name}");
    }
}

#[test]
fn every_variant_is_read_as_pinned() {
    for ((name, message), (_, golden)) in samples::all().into_iter().zip(GOLDEN) {
        let framed = bytes(golden);
        assert_eq!(message.kind().decode(&framed[4..]).as_ref(), Ok(&message), "{name}");
    }
}

/// A new variant must get a sample: this match stops compiling without it.
#[test]
fn the_samples_cover_every_variant() {
    use protocol::{
        AgentToEncoderMsg as A, EncoderToAgentMsg as E, FetchReplyMsg as F, FrameReplyMsg as R,
        OperatorReplyMsg as P, OperatorRequestMsg as O,
    };
    let mut seen = [false; 34];
    for (_, message) in samples::all() {
        let variant = match message {
            Any::Agent(A::Hello(_)) => 0,
            Any::Agent(A::Ping(_)) => 1,
            Any::Agent(A::Goodbye(_)) => 2,
            Any::Encoder(E::Welcome(_)) => 3,
            Any::Encoder(E::Refused(_)) => 4,
            Any::Encoder(E::Pong(_)) => 5,
            Any::Encoder(E::Goodbye(_)) => 6,
            Any::Header(_) => 7,
            Any::Reply(R::Answer(_)) => 8,
            Any::Reply(R::Dropped { .. }) => 9,
            Any::Reply(R::Rejected { .. }) => 10,
            Any::Agent(A::Head(_)) => 11,
            Any::Encoder(E::KeyRing { .. }) => 12,
            Any::Encoder(E::Wanted(_)) => 13,
            Any::Fetch(_) => 14,
            Any::Fetched(F::Found { .. }) => 15,
            Any::Fetched(F::Refused { .. }) => 16,
            Any::Operator(O::Publish { .. }) => 17,
            Any::Operator(O::KeyRing { .. }) => 18,
            Any::Operator(O::Assign { .. }) => 19,
            Any::Operator(O::Rollout { .. }) => 20,
            Any::Operator(O::Channel { .. }) => 21,
            Any::Operator(O::Status { .. }) => 22,
            Any::Operated(P::Done { .. }) => 23,
            Any::Operated(P::Refused { .. }) => 24,
            Any::Operated(P::Channel(_)) => 25,
            Any::Operated(P::History(_)) => 26,
            Any::Operated(P::Head(_)) => 27,
            Any::Operator(O::Audit { .. }) => 28,
            Any::Operated(P::Audit(_)) => 29,
            Any::Agent(A::Work(_)) => 30,
            Any::Operator(O::Ledger { .. }) => 31,
            Any::Operated(P::Site(_)) => 32,
            Any::Operated(P::Account(_)) => 33,
        };
        seen[variant] = true;
    }
    assert_eq!(seen, [true; 34]);
}

#[test]
fn names_of_the_protocol() {
    assert_eq!(protocol::ALPN, b"fth/4");
    assert_eq!(protocol::VERSION, 4);
    assert_eq!(protocol::ALPN_TCP, b"fth-tcp/4");
}
