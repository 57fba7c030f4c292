//! Events for people: one short line each.

use super::event::{Answer, Event, FrameInfo};

/// `event` as one line for a terminal, without the line end.
#[must_use]
pub fn line(event: &Event) -> String {
    match event {
        Event::Answer(answer) => answer_line(answer),
        Event::HeadFailed { frame, head, error } => {
            format!("{}  {}: no answer: {error}", start(frame), head.name)
        }
        Event::Dropped { frame, reason } => format!("{}  dropped: {reason}", start(frame)),
    }
}

fn start(frame: &FrameInfo) -> String {
    let time = frame.captured_at.strftime("%F %T");
    let name = frame.id.as_deref().map_or_else(String::new, |id| format!(" {id}"));
    format!("{time}  {}  #{}{name}", frame.camera, frame.seq)
}

fn answer_line(answer: &Answer) -> String {
    let Answer { frame, head, value, interval, stale, reused, age, .. } = answer;
    let range = interval.map_or_else(String::new, |[low, high]| format!(" ({low:.1} to {high:.1})"));
    let age = if *stale {
        format!("STALE, {:.1} s old", age.as_secs_f64())
    } else {
        format!("{:.0} ms{}", age.as_secs_f64() * 1e3, if *reused { ", reused" } else { "" })
    };
    let said = match answer.class_name() {
        Some(class) => format!("{class} ({:.0} %)", 100.0 * value),
        None => format!("{value:.1} {}{range}", head.unit),
    };
    format!("{}  {}: {said}  {age}", start(frame), head.name)
}
