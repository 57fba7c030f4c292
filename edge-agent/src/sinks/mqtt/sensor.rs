//! A head as subscribers see it: a name of its own among the box's heads, and what its answers are.

use shared::head::{OutputKind, Task};

use crate::heads::{HeadSet, Loaded};

/// What subscribers are told of a head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sensor {
    /// Level of its topics: the head's name, and a number after it where two heads share one.
    pub(super) id: String,
    /// What its answers mean.
    pub(super) task: Task,
    /// Values go round and come back to 0.
    pub(super) circular: bool,
    pub(super) unit: String,
    pub(super) classes: Vec<String>,
    /// First 12 hex digits of its release.
    pub(super) release: String,
    /// First digits of the embedding space it reads.
    pub(super) space: String,
    /// Name and value of its held-out score.
    pub(super) score: Option<(String, f64)>,
}

impl Sensor {
    fn of(loaded: &Loaded) -> Self {
        let manifest = loaded.head.manifest();
        Self {
            id: loaded.info.name.clone(),
            task: manifest.task,
            circular: matches!(manifest.output.kind, OutputKind::Circular { .. }),
            unit: loaded.info.unit.clone(),
            classes: loaded.info.classes.clone(),
            release: loaded.info.release.clone(),
            space: loaded.space.short(),
            score: manifest.held_out.as_ref().map(|score| (score.metric.clone(), score.value)),
        }
    }
}

/// One for each head, each with an id of its own.
pub(super) fn sensors(heads: &HeadSet) -> Vec<Sensor> {
    distinct(heads.iter().map(|loaded| Sensor::of(loaded)).collect())
}

fn distinct(mut sensors: Vec<Sensor>) -> Vec<Sensor> {
    for at in 1..sensors.len() {
        let (before, rest) = sensors.split_at_mut(at);
        let name = rest[0].id.clone();
        let taken = |id: &str| before.iter().any(|other| other.id == id);
        if taken(&name) {
            let free = (2..).map(|number| format!("{name}-{number}")).find(|id| !taken(id));
            rest[0].id = free.expect("there are more numbers than heads");
        }
    }
    sensors
}

#[cfg(test)]
mod tests {
    use super::super::samples::sensor;
    use super::*;

    #[test]
    fn heads_that_share_a_name_have_topics_of_their_own() {
        let all = ["people", "people-2", "people", "people"].map(|id| sensor(id, "r")).into();
        let ids: Vec<_> = distinct(all).into_iter().map(|sensor| sensor.id).collect();
        assert_eq!(ids, ["people", "people-2", "people-3", "people-4"]);
    }
}
