//! Message bodies out of a stream, however it is cut.

use proptest::{collection::vec, prelude::*};
use protocol::{CodecError, Deframer};

use crate::{alloc::measured, strategies};

fn drain(deframer: &mut Deframer) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| deframer.next().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn byte_by_byte_equals_at_once(messages in vec(strategies::message(), 0..6), cuts in vec(1usize..50, 1..20)) {
        let stream: Vec<u8> = messages.iter().flat_map(|m| m.framed(usize::MAX).unwrap()).collect();
        let bodies: Vec<_> = messages.iter().map(|m| m.body()).collect();

        let mut at_once = Deframer::new(1 << 20);
        at_once.push(&stream);
        prop_assert_eq!(&drain(&mut at_once), &bodies);
        prop_assert_eq!(at_once.pending(), 0);

        let mut by_byte = Deframer::new(1 << 20);
        let mut found = Vec::new();
        for byte in &stream {
            by_byte.push(&[*byte]);
            found.extend(drain(&mut by_byte));
        }
        prop_assert_eq!(&found, &bodies);

        let (mut cut, mut found, mut rest) = (Deframer::new(1 << 20), Vec::new(), &stream[..]);
        for size in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            cut.push(head);
            found.extend(drain(&mut cut));
            rest = tail;
        }
        prop_assert_eq!(&found, &bodies);
    }
}

#[test]
fn a_claim_beyond_the_limit_fails_at_its_fourth_byte_and_stays_failed() {
    let mut deframer = Deframer::new(100);
    deframer.push(&[101, 0, 0]);
    assert_eq!(deframer.next(), Ok(None));
    deframer.push(&[0]);
    let too_long = Err(CodecError::TooLong { len: 101, limit: 100 });
    assert_eq!(deframer.next(), too_long);
    deframer.push(&[0; 200]);
    assert_eq!(deframer.next(), too_long);
}

#[test]
fn memory_follows_the_bytes_that_arrived() {
    let (pending, allocated) = measured(|| {
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(&u32::MAX.to_le_bytes());
        deframer.push(&[7; 10]);
        assert_eq!(deframer.next(), Ok(None));
        (deframer.pending(), deframer.wanted())
    });
    assert_eq!(pending, (14, u32::MAX as usize + 4));
    assert!(allocated < 200, "{allocated}");
}

#[test]
fn an_empty_body_is_a_body() {
    let mut deframer = Deframer::new(0);
    deframer.push(&[0; 9]);
    assert_eq!(drain(&mut deframer), [vec![], vec![]]);
    assert_eq!((deframer.pending(), deframer.wanted()), (1, 4));
}
