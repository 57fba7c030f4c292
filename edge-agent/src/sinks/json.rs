//! Events as JSON, one object a line. Keys are append-only: programs read them.

use serde::Serialize;

use std::time::Duration;

use super::event::{Answer, Event, FrameInfo, Stages};

/// `event` as one JSON object, without the line end.
#[must_use]
pub fn line(event: &Event) -> String {
    let json = match event {
        Event::Answer(answer) => serde_json::to_string(&AnswerLine::from(answer)),
        Event::HeadFailed { frame, head, error } => serde_json::to_string(&FailedLine {
            frame: frame.into(),
            head: &head.name,
            release: &head.release,
            error,
        }),
        Event::Dropped { frame, reason } => {
            serde_json::to_string(&DroppedLine { frame: frame.into(), dropped: reason })
        }
    };
    json.expect("strings and numbers always serialize")
}

#[derive(Serialize)]
struct FrameKeys<'a> {
    camera: &'a str,
    seq: u64,
    captured_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<&'a str>,
}

#[derive(Serialize)]
struct AnswerLine<'a> {
    #[serde(flatten)]
    frame: FrameKeys<'a>,
    head: &'a str,
    release: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    interval: Option<[f64; 2]>,
    stale: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reused: bool,
    age_ms: f64,
    ms: StageKeys,
}

#[derive(Serialize)]
struct FailedLine<'a> {
    #[serde(flatten)]
    frame: FrameKeys<'a>,
    head: &'a str,
    release: &'a str,
    error: &'a str,
}

#[derive(Serialize)]
struct DroppedLine<'a> {
    #[serde(flatten)]
    frame: FrameKeys<'a>,
    dropped: &'a str,
}

/// Milliseconds per stage.
#[derive(Serialize)]
struct StageKeys {
    capture: f64,
    prepare: f64,
    send: f64,
    network: f64,
    queue: f64,
    decode: f64,
    encode: f64,
    reply: f64,
    heads: f64,
}

impl<'a> From<&'a FrameInfo> for FrameKeys<'a> {
    fn from(frame: &'a FrameInfo) -> Self {
        Self {
            camera: &frame.camera,
            seq: frame.seq,
            captured_at: format!("{:.3}", frame.captured_at),
            frame: frame.id.as_deref(),
        }
    }
}

impl<'a> From<&'a Answer> for AnswerLine<'a> {
    fn from(answer: &'a Answer) -> Self {
        Self {
            frame: (&answer.frame).into(),
            head: &answer.head.name,
            release: &answer.head.release,
            value: answer.value,
            unit: &answer.head.unit,
            class: answer.class_name(),
            interval: answer.interval,
            stale: answer.stale,
            reused: answer.reused,
            age_ms: millis(answer.age),
            ms: answer.stages.into(),
        }
    }
}

impl From<Stages> for StageKeys {
    fn from(stages: Stages) -> Self {
        Self {
            capture: millis(stages.capture),
            prepare: millis(stages.prepare),
            send: millis(stages.send),
            network: millis(stages.network),
            queue: millis(stages.queue),
            decode: millis(stages.decode),
            encode: millis(stages.encode),
            reply: millis(stages.reply),
            heads: millis(stages.heads),
        }
    }
}

/// Milliseconds to the microsecond: finer is noise.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
