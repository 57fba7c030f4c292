//! What is to be said now: pure, of the heads, the board and the time.
//!
//! ```text
//! heads ─► follow ─┐
//! a connection ─► hello ─┼─► messages, all of them retained
//! board, now ─► due ─┘
//! ```
//! A head is available while its newest answer is fresh. Of its values one is under way at a time: a broker that is slow
//! gets the newest when it has taken the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::board::Board;
use super::names::Names;
use super::payload::{self, OFFLINE, ONLINE};
use super::sensor::Sensor;

/// For one topic. An empty payload makes the broker forget the topic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: String,
    /// The head whose value this is; `None` for all that must not be lost.
    pub(super) value_of: Option<String>,
}

impl Message {
    pub(super) fn new(topic: String, payload: impl Into<String>) -> Self {
        Self { topic, payload: payload.into(), value_of: None }
    }

    fn forget(topic: String) -> Self {
        Self::new(topic, "")
    }
}

/// What [`Book::due`] came to.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) messages: Vec<Message>,
    /// Values that were due while the one before had not been taken.
    pub(super) missed: u64,
}

/// A head, and what was said of it.
#[derive(Debug)]
struct Entry {
    sensor: Sensor,
    /// Availability that subscribers know of.
    said: Option<bool>,
    /// Frame of the newest value that was sent, and of the newest that could not be.
    sent: Option<u64>,
    missed: Option<u64>,
    /// The next value goes no sooner.
    next: Option<Instant>,
    fresh_until: Option<Instant>,
    under_way: bool,
}

impl Entry {
    fn of(sensor: Sensor) -> Self {
        Self { sensor, said: None, sent: None, missed: None, next: None, fresh_until: None, under_way: false }
    }
}

/// All heads, and what was said of them.
#[derive(Debug)]
pub(super) struct Book {
    names: Names,
    every: Duration,
    fresh_for: Duration,
    entries: BTreeMap<String, Entry>,
    /// Heads that went: the broker may not have been there to forget them.
    gone: BTreeSet<String>,
}

impl Book {
    pub(super) fn new(names: Names, every: Duration, fresh_for: Duration) -> Self {
        Self { names, every, fresh_for, entries: BTreeMap::new(), gone: BTreeSet::new() }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// These are the heads from now on: what is gone is forgotten, what is new or another release is announced.
    pub(super) fn follow(&mut self, sensors: Vec<Sensor>) -> Vec<Message> {
        let stays = |id: &String| sensors.iter().any(|sensor| sensor.id == *id);
        let gone: Vec<String> = self.entries.keys().filter(|id| !stays(id)).cloned().collect();
        let mut messages = Vec::new();
        for id in gone {
            self.entries.remove(&id);
            messages.extend(self.forget(&id));
            self.gone.insert(id);
        }
        for sensor in sensors {
            self.gone.remove(&sensor.id);
            match self.entries.get_mut(&sensor.id) {
                Some(entry) if entry.sensor == sensor => continue,
                Some(entry) => entry.sensor = sensor.clone(),
                None => drop(self.entries.insert(sensor.id.clone(), Entry::of(sensor.clone()))),
            }
            messages.extend(self.announce(&sensor));
        }
        messages
    }

    /// A broker knows nothing: this box is there, these are its heads. What is [`due`](Self::due) then says the rest.
    pub(super) fn hello(&mut self) -> Vec<Message> {
        for entry in self.entries.values_mut() {
            (entry.said, entry.sent, entry.next, entry.under_way) = (None, None, None, false);
        }
        let mut messages = vec![Message::new(self.names.status(), ONLINE)];
        messages.extend(self.gone.iter().flat_map(|id| self.forget(id)));
        messages.extend(self.announcements());
        messages
    }

    /// Every sensor once more, for a Home Assistant that has just started.
    pub(super) fn announcements(&self) -> Vec<Message> {
        self.entries.values().flat_map(|entry| self.announce(&entry.sensor)).collect()
    }

    /// The last word.
    pub(super) fn farewell(&self) -> Message {
        Message::new(self.names.status(), OFFLINE)
    }

    /// The broker remembers a sensor of this box, of an earlier run: it is forgotten, if there is no such head.
    pub(super) fn remembered(&self, topic: &str, config: &[u8]) -> Vec<Message> {
        let known = |entry: &Entry| self.names.config(&entry.sensor.id).as_deref() == Some(topic);
        if !self.names.is_config(topic) || self.entries.values().any(known) {
            return Vec::new();
        }
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        let state = config["state_topic"].as_str().unwrap_or_default();
        let topics = std::iter::once(topic.to_owned()).chain(self.names.retired(state));
        topics.map(Message::forget).collect()
    }

    /// Values and availability that are due. `last`: there will be no other time.
    pub(super) fn due(&mut self, board: &Board, now: Instant, last: bool) -> Due {
        let mut due = Due::default();
        for (id, entry) in &mut self.entries {
            if let Some(posted) = board.of(&entry.sensor.release) {
                entry.fresh_until = entry.fresh_until.max(Some(posted.ready + self.fresh_for));
                let seq = Some(posted.answer.frame.seq);
                let time = last || entry.next.is_none_or(|next| next <= now);
                if seq > entry.sent && time {
                    if !entry.under_way {
                        (entry.sent, entry.under_way) = (seq, true);
                        entry.next = Some(now + self.every);
                        let value = payload::state(&entry.sensor, &posted.answer).to_string();
                        let message = Message::new(self.names.state(id), value);
                        due.messages.push(Message { value_of: Some(id.clone()), ..message });
                    } else if seq > entry.missed {
                        due.missed += 1;
                        entry.missed = seq;
                        entry.next = Some(now + self.every);
                    }
                }
            }
            let available = entry.fresh_until.is_some_and(|until| until > now);
            if entry.said != Some(available) {
                entry.said = Some(available);
                let word = if available { ONLINE } else { OFFLINE };
                due.messages.push(Message::new(self.names.availability(id), word));
            }
        }
        due
    }

    /// The broker took a head's value, or never will.
    pub(super) fn taken(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.under_way = false;
        }
    }

    /// There is no connection: nothing is under way.
    pub(super) fn lost(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.under_way = false);
    }

    /// When something may be due next, whatever happens on the board.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.next).filter(|next| *next > now).min()
    }

    fn announce(&self, sensor: &Sensor) -> Vec<Message> {
        let config = self.names.config(&sensor.id).map(|topic| {
            Message::new(topic, payload::config(&self.names, sensor, self.fresh_for).to_string())
        });
        let attributes = payload::attributes(sensor).to_string();
        let attributes = Message::new(self.names.attributes(&sensor.id), attributes);
        config.into_iter().chain([attributes]).collect()
    }

    fn forget(&self, id: &str) -> impl Iterator<Item = Message> {
        let own = [self.names.state(id), self.names.attributes(id), self.names.availability(id)];
        self.names.config(id).into_iter().chain(own).map(Message::forget)
    }
}

#[cfg(test)]
mod tests;
