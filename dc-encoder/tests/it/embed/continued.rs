//! Runs that were interrupted, and what stands where the result belongs.

use super::*;

#[test]
fn an_interrupted_run_is_continued() {
    let place = Place::new();
    let whole = place.run("whole");
    interrupted(&place, &place.config("out"), 2);
    let mut events = Vec::new();
    let mut backend = Fake::new();
    let summary = embed::run(&place.config("out"), &mut backend, &mut |event| events.push(event)).unwrap();
    assert_eq!((summary.resumed, summary.embedded, backend.seen), (8, FRAMES, 3));
    assert_eq!(events[0], Event::Continuing { path: place.path("out.part"), done: 8, total: FRAMES });
    assert!(fs::read(place.path("out")).unwrap() == whole, "the same bytes as an uninterrupted run");
    assert!(!place.path("out.part").exists());
}

/// What `kill -9` or a power cut leaves: any prefix of the part file.
#[test]
fn cut_off_at_any_byte_it_ends_with_the_same_bytes() {
    let place = Place::new();
    fs::write(place.frame(5), "broken").unwrap(); // a reason must survive the cut too
    let config = Config { skip_bad: true, tokens: true, ..place.config("out") };
    run(&Config { out: place.path("whole"), ..config.clone() }, &mut Fake::new()).unwrap();
    let whole = fs::read(place.path("whole")).unwrap();
    let part = interrupted(&place, &config, 2);
    let bytes = fs::read(&part).unwrap();
    let mut resumed = std::collections::BTreeSet::new();
    for length in (0..=bytes.len()).step_by(61).chain([1, 8, 11, 12, 13, bytes.len() - 1, bytes.len()]) {
        fs::write(&part, &bytes[..length]).unwrap();
        let summary = run(&config, &mut Fake::new()).unwrap();
        assert!(fs::read(&config.out).unwrap() == whole, "cut to {length} bytes");
        assert_eq!(summary.skipped.len(), 1);
        resumed.insert(summary.resumed);
        fs::remove_file(&config.out).unwrap();
    }
    assert_eq!(resumed, [0, 4, 8].into(), "whole batches are kept");
}

#[test]
fn a_damaged_record_is_done_again() {
    let place = Place::new();
    let whole = place.run("whole");
    let part = interrupted(&place, &place.config("out"), 2);
    let bytes = fs::read(&part).unwrap();
    for at in [bytes.len() - 1, bytes.len() - 3 * 265, bytes.len() - 7 * 265] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&part, &damaged).unwrap();
        let summary = run(&place.config("out"), &mut Fake::new()).unwrap();
        assert!(summary.resumed < 8 && fs::read(place.path("out")).unwrap() == whole, "byte {at}");
        fs::remove_file(place.path("out")).unwrap();
    }
}

#[test]
fn a_continued_run_keeps_its_batch_size() {
    let place = Place::new();
    let whole = place.run("whole");
    interrupted(&place, &place.config("out"), 1);
    run(&Config { batch: Some(3), ..place.config("out") }, &mut Fake::new()).unwrap();
    assert!(fs::read(place.path("out")).unwrap() == whole);
}

#[test]
fn another_run_is_not_continued() {
    let place = Place::new();
    let part = interrupted(&place, &place.config("out"), 1);
    let before = fs::read(&part).unwrap();
    let refuse = |config: Config, space: u8, expected: &str| {
        let mut backend = Fake::new();
        backend.info.space = SpaceId([space; 32]);
        let error = run(&config, &mut backend).unwrap_err();
        assert!(matches!(error, EmbedError::OtherRun { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("out.part is the beginning of another run: ") && text.contains(expected),
            "{text}"
        );
        assert!(text.contains("repeat that run's arguments"), "{text}");
        assert_eq!(fs::read(&part).unwrap(), before, "and its work is kept");
    };
    refuse(place.config("out"), 8, "embedding space 070707070707…), now it is fake model (080808080808…)");
    let uplink = Uplink { quality: 60, ..Uplink::default() };
    refuse(
        Config { uplink, ..place.config("out") },
        7,
        "is v1:960x576:q80:420:pass, now it is v1:960x576:q60:420:pass",
    );
    refuse(Config { tokens: true, ..place.config("out") }, 7, "without tokens, now it would be with tokens");
    let last = fs::read(place.frame(10)).unwrap();
    fs::write(place.frame(10), "another length").unwrap();
    refuse(place.config("out"), 7, "a frame's time or length has changed");
    fs::write(place.frame(10), last).unwrap();
    fs::copy(place.frame(0), place.path("frames/new.jpg")).unwrap();
    refuse(place.config("out"), 7, "its list has 11 frames, now it has 12");
}

#[test]
fn what_is_in_the_way_is_left_alone() {
    let place = Place::new();
    fs::write(place.path("out.part"), "my notes").unwrap();
    let error = run(&place.config("out"), &mut Fake::new()).unwrap_err();
    assert!(matches!(error, EmbedError::InTheWay { .. }), "{error}");
    assert_eq!(fs::read(place.path("out.part")).unwrap(), b"my notes");

    fs::write(place.path("other"), "my notes").unwrap();
    let error = run(&place.config("other"), &mut Fake::new()).unwrap_err().to_string();
    assert!(error.contains("other is in the way") && error.contains("choose another --out"), "{error}");
    assert_eq!(fs::read(place.path("other")).unwrap(), b"my notes");
}

#[test]
fn two_processes_do_not_write_one_file() {
    let place = Place::new();
    let part = interrupted(&place, &place.config("out"), 1);
    let held = fs::File::open(&part).unwrap();
    held.lock().unwrap();
    let error = run(&place.config("out"), &mut Fake::new()).unwrap_err();
    assert!(matches!(error, EmbedError::Busy { .. }), "{error}");
    drop(held);
    run(&place.config("out"), &mut Fake::new()).unwrap();
}

#[test]
fn a_finished_file_is_not_made_again() {
    let place = Place::new();
    let whole = place.run("out");
    let mut backend = Fake::new();
    let summary = run(&place.config("out"), &mut backend).unwrap();
    assert!(summary.already_complete && summary.embedded == FRAMES && backend.seen == 0);
    assert!(fs::read(place.path("out")).unwrap() == whole);
    let error = run(&Config { tokens: true, ..place.config("out") }, &mut backend).unwrap_err().to_string();
    assert!(error.contains("it holds other embeddings: it is without tokens"), "{error}");
}
