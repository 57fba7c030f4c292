//! A training that really collapses, and what is said of it.

use super::*;

/// The learning rate rises to ten thousand times what is usual. The embedding tells frames apart at first; on the way up
/// it falls onto a line or two, again and again. Every step is looked at, so that it is seen wherever rounding leads.
#[test]
fn an_embedding_that_collapses_is_told() {
    const STEPS: u64 = 300;
    let dir = TempDir::new().unwrap();
    let frames = frames(dir.path(), 30);
    let absurd = Options {
        rate: 10.0,
        warmup: Some(STEPS),
        validations: STEPS,
        augment: false,
        ..options(&frames, dir.path().join("out"), STEPS)
    };
    let (mut ranks, mut fell) = (Vec::new(), Vec::new());
    pretrain::run(&absurd, &mut |event| match event {
        Event::Step { validation: Some(validation), .. } => ranks.push(validation.rank),
        Event::Warning(Warning::RankFell { rank, first }) => fell.push((rank, first)),
        _ => {}
    })
    .unwrap();
    assert_eq!(ranks.len() as u64, STEPS);
    assert!(ranks[0] > 3.0, "frames were told apart at first: {ranks:?}");
    let lowest = ranks.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(lowest < 0.5 * ranks[0], "nothing collapsed: {ranks:?}");
    assert!(!fell.is_empty(), "nobody was told: {ranks:?}");
    for (rank, first) in fell {
        assert!(first == ranks[0] && rank < 0.5 * first && ranks.contains(&rank), "{rank} of {first}");
    }
}
