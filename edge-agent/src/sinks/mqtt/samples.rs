//! Heads and answers for tests.

use std::sync::Arc;
use std::time::Duration;

use shared::head::Task;

use super::names::Names;
use super::sensor::Sensor;
use crate::sinks::{Answer, FrameInfo, HeadInfo, Stages};

pub(super) fn names() -> Names {
    Names {
        topic: "fine-tuned-heads".into(),
        discovery: Some("homeassistant".into()),
        camera: "plaza-1".into(),
    }
}

pub(super) fn sensor(id: &str, release: &str) -> Sensor {
    Sensor {
        id: id.into(),
        task: Task::Count,
        circular: false,
        unit: "people".into(),
        classes: Vec::new(),
        release: release.into(),
        space: "00ff00ff00ff".into(),
        score: None,
    }
}

pub(super) fn answer(release: &str, seq: u64) -> Answer {
    let captured_at = "2023-06-13T03:11:46.0409Z".parse().unwrap();
    Answer {
        frame: FrameInfo { camera: "plaza-1".into(), seq, captured_at, id: None },
        head: Arc::new(HeadInfo {
            name: "people-count".into(),
            release: release.into(),
            unit: "people".into(),
            classes: Vec::new(),
        }),
        value: 4.25,
        class: None,
        interval: Some([3.0, 5.5]),
        stale: false,
        reused: false,
        age: Duration::from_micros(87_654),
        stages: Stages::default(),
    }
}
