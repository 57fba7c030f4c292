//! `make demo` in small.

use std::time::Duration;

use tests::{
    demo::{Options, run},
    setup,
};

#[test]
fn the_demo_runs_to_its_summary() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        setup: setup::Options { model: setup::demo_model(), training_frames: 300, live_frames: 60 },
        source: None,
        watch: Duration::from_secs(1),
        keep: Some(dir.path().to_owned()),
    };
    run(&options).unwrap();
}

#[test]
fn the_demo_runs_on_footage_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let footage = tempfile::tempdir().unwrap();
    let plan = tests::plaza::dataset::Plan {
        seed: 9,
        start: tests::plaza::Clock::at(0, 600.0),
        step_s: 60.0,
        count: 5,
    };
    tests::plaza::dataset::render(footage.path(), &plan, || {}).unwrap();
    let options = Options {
        setup: setup::Options { model: setup::demo_model(), training_frames: 40, live_frames: 1 },
        source: Some(format!("folder:{}", footage.path().join("frames").display())),
        watch: Duration::from_secs(60),
        keep: Some(dir.path().to_owned()),
    };
    run(&options).unwrap();
}
