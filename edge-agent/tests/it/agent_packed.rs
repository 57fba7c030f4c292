//! Releases that travel compressed: cut off, damaged, and lied about.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};
use protocol::{BodyId, Part, ReleaseId};
use shared::release::body_id;

use crate::agent_encoder::{Behaviour, Encoder, OnFetch};
use crate::agent_operator::{Operator, push, report, unit};
use crate::agent_process::{Agent, noisy_head};

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Publishes a large release that travels as what `pack` makes of it.
fn publish(
    operator: &Operator,
    encoder: &Encoder,
    pack: impl FnOnce(&[u8]) -> Vec<u8>,
) -> (ReleaseId, Vec<u8>) {
    let bytes = std::fs::read(noisy_head(&operator.pki, &unit("packed"))).unwrap();
    let (release, packed) = (operator.publish_bytes(encoder, &bytes), pack(&bytes));
    encoder.behave(|behaviour| drop(behaviour.packed.insert(release, packed.clone())));
    (release, packed)
}

#[tokio::test]
async fn a_compressed_release_goes_on_at_the_byte_where_the_connection_broke() {
    const SENT: usize = 600_000;
    let operator = Operator::new();
    let behaviour = Behaviour { on_fetch: OnFetch::HoldAfter(SENT), ..Behaviour::default() };
    let mut encoder = Encoder::start(&operator.pki, behaviour);
    let (release, packed) = publish(&operator, &encoder, zlib);
    assert!(packed.len() > SENT + 300_000, "{}", packed.len());
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, release));
    assert_eq!(encoder.sees_fetch().await, None);
    let part = operator.store().join("fetching").join(format!("{release}.{}", body_id(&packed)));
    Agent::wrote(&part, 524_288).await;

    let socket = encoder.stop().await;
    let mut encoder = Encoder::start_on(socket, &operator.pki, Behaviour::default(), protocol::ALPN);
    assert_eq!(publish(&operator, &encoder, zlib).0, release);
    let have = encoder.sees_fetch().await.expect("it goes on");
    assert!(have.body == body_id(&packed) && (524_288..=SENT).contains(&(have.offset as usize)), "{have:?}");
    report(&mut encoder, |report| report.active == Some(release)).await;
    let travelled = packed.len() - have.offset as usize;
    agent.says(&format!("travelled={travelled} went_on_at={}", have.offset)).await;
    assert!(!part.exists());
}

#[tokio::test]
async fn a_body_that_the_server_does_not_have_any_more_is_begun_anew() {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (release, packed) = publish(&operator, &encoder, zlib);
    std::fs::create_dir_all(operator.store().join("fetching")).unwrap();
    let old = operator.store().join("fetching").join(format!("{release}.{}", body_id(b"another")));
    std::fs::write(&old, [7; 99]).unwrap();
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, release));
    assert_eq!(encoder.sees_fetch().await, Some(Part { body: body_id(b"another"), offset: 99 }));
    report(&mut encoder, |report| report.active == Some(release)).await;
    agent.says(&format!("travelled={} went_on_at=0", packed.len())).await;
    assert!(!old.exists());
}

/// A compressed body that is no good: the release's own file is fetched instead.
async fn comes_plain(pack: impl FnOnce(&[u8]) -> Vec<u8>, words: &str) {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour::default());
    let (release, _) = publish(&operator, &encoder, pack);
    let mut agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, release));
    assert_eq!(encoder.sees_fetch().await, None);
    assert_eq!(encoder.sees_fetch().await, Some(Part { body: BodyId::plain(release), offset: 0 }));
    report(&mut encoder, |report| report.active == Some(release)).await;
    agent.says(words).await;
}

#[tokio::test]
async fn damaged_compressed_bytes_are_not_used() {
    let flipped = |bytes: &[u8]| {
        let mut packed = zlib(bytes);
        let middle = packed.len() / 2;
        packed[middle] ^= 1;
        packed
    };
    comes_plain(flipped, "the compressed bytes are damaged").await;
    comes_plain(|bytes| zlib(&bytes[..bytes.len() - 1]), "bytes come out of the compressed ones").await;
    let other = |bytes: &[u8]| zlib(&[&bytes[..bytes.len() - 1], b"?"].concat());
    comes_plain(other, "were changed or cut").await;
}

#[tokio::test]
async fn a_bomb_is_not_unpacked_beyond_what_was_announced() {
    comes_plain(|_| zlib(&vec![0; 256 << 20]), "bytes come out of the compressed ones").await;
}

/// What the agent says of a release whose lengths are lied about.
async fn refused(on_fetch: OnFetch, pack: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let operator = Operator::new();
    let mut encoder = Encoder::start(&operator.pki, Behaviour { on_fetch, ..Behaviour::default() });
    let (release, _) = publish(&operator, &encoder, pack);
    let _agent = Agent::spawn(&mut operator.agent(&encoder));
    push(&encoder, operator.wants(1, release));
    report(&mut encoder, |report| report.failed == Some(release)).await.error
}

#[tokio::test]
async fn lengths_that_are_lied_about_are_refused() {
    let padded = |bytes: &[u8]| {
        let mut packed = zlib(bytes);
        packed.resize(bytes.len(), 0);
        packed
    };
    let error = refused(OnFetch::Send, padded).await;
    assert!(error.contains("for a release of"), "{error}");
    let error = refused(OnFetch::Claim(60_000_000), zlib).await;
    assert!(error.contains("fewer bytes than it said"), "{error}");
    let error = refused(OnFetch::EndAfter(1000), zlib).await;
    assert!(error.contains("fewer bytes than it said"), "{error}");
}
