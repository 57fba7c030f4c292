//! Topics, and who is who in Home Assistant.
//!
//! ```text
//! TOPIC/CAMERA/status                           online | offline, the broker says offline when the agent is gone
//! TOPIC/CAMERA/HEAD/{state,attributes,availability}
//! DISCOVERY/sensor/fth_CAMERA/HEAD/config       what Home Assistant makes a sensor of
//! ```

/// Where Home Assistant says that it has started, whatever its discovery prefix is.
const BIRTH: &str = "homeassistant/status";

/// A box's topics.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// What they begin with.
    pub(super) topic: String,
    /// Home Assistant's discovery prefix.
    pub(super) discovery: Option<String>,
    /// The camera's name, `[a-z0-9._-]`.
    pub(super) camera: String,
}

impl Names {
    pub(super) fn status(&self) -> String {
        format!("{}/{}/status", self.topic, self.camera)
    }

    pub(super) fn state(&self, id: &str) -> String {
        self.of(id, "state")
    }

    pub(super) fn attributes(&self, id: &str) -> String {
        self.of(id, "attributes")
    }

    pub(super) fn availability(&self, id: &str) -> String {
        self.of(id, "availability")
    }

    fn of(&self, id: &str, leaf: &str) -> String {
        format!("{}/{}/{id}/{leaf}", self.topic, self.camera)
    }

    /// The box as a device.
    pub(super) fn device(&self) -> String {
        format!("fth_{}", plain(&self.camera))
    }

    /// A head as a sensor: the same for as long as camera and head keep their names.
    pub(super) fn unique(&self, id: &str) -> String {
        format!("{}_{}", self.device(), plain(id))
    }

    pub(super) fn config(&self, id: &str) -> Option<String> {
        Some(format!("{}/sensor/{}/{}/config", self.discovery.as_deref()?, self.device(), plain(id)))
    }

    /// Whether a topic is where a sensor of this box is announced.
    pub(super) fn is_config(&self, topic: &str) -> bool {
        let own = |prefix: &str| {
            let rest = topic.strip_prefix(&format!("{prefix}/sensor/{}/", self.device()))?;
            rest.strip_suffix("/config").map(|id| !id.contains('/'))
        };
        self.discovery.as_deref().and_then(own).unwrap_or(false)
    }

    /// Whether Home Assistant speaks there.
    pub(super) fn is_birth(&self, topic: &str) -> bool {
        self.births().iter().any(|birth| birth == topic)
    }

    fn births(&self) -> Vec<String> {
        let Some(prefix) = &self.discovery else { return Vec::new() };
        let own = format!("{prefix}/status");
        if own == BIRTH { vec![own] } else { vec![own, BIRTH.to_owned()] }
    }

    /// What this box must hear: Home Assistant's start, and sensors of its own that the broker remembers.
    pub(super) fn filters(&self) -> Vec<String> {
        let Some(prefix) = &self.discovery else { return Vec::new() };
        let mut filters = self.births();
        filters.push(format!("{prefix}/sensor/{}/+/config", self.device()));
        filters
    }

    /// The topics of the head whose values go to `state`, if that is one of this box's.
    pub(super) fn retired(&self, state: &str) -> Vec<String> {
        let own = format!("{}/{}/", self.topic, self.camera);
        let id = state.strip_prefix(&own).and_then(|rest| rest.strip_suffix("/state"));
        match id.filter(|id| !id.is_empty() && !id.contains(['/', '+', '#'])) {
            Some(id) => vec![self.state(id), self.attributes(id), self.availability(id)],
            None => Vec::new(),
        }
    }
}

/// Discovery allows letters, digits, `-` and `_`; the names here may hold a dot.
fn plain(name: &str) -> String {
    name.replace('.', "_2e")
}

#[cfg(test)]
mod tests {
    use super::super::samples::names;
    use super::*;

    #[test]
    fn topics_are_these() {
        let names = names();
        assert_eq!(names.status(), "fine-tuned-heads/plaza-1/status");
        assert_eq!(names.state("people-count"), "fine-tuned-heads/plaza-1/people-count/state");
        assert_eq!(names.unique("people-count"), "fth_plaza-1_people-count");
        let config = "homeassistant/sensor/fth_plaza-1/people-count/config";
        assert_eq!(names.config("people-count").as_deref(), Some(config));
        assert_eq!(names.filters(), ["homeassistant/status", "homeassistant/sensor/fth_plaza-1/+/config"]);
        assert!(names.is_config(config) && names.is_birth("homeassistant/status"));
        assert!(!names.is_config("homeassistant/sensor/fth_plaza-10/people-count/config"));
        assert_eq!(names.retired("fine-tuned-heads/plaza-1/a/state").len(), 3);
        assert_eq!(names.retired("fine-tuned-heads/plaza-2/a/state"), [""; 0]);
    }

    #[test]
    fn discovery_names_hold_what_home_assistant_allows() {
        let names = Names { camera: "gate.north".into(), ..names() };
        assert_eq!(names.device(), "fth_gate_2enorth");
        assert_eq!(names.state("v1.2"), "fine-tuned-heads/gate.north/v1.2/state");
        let config = names.config("v1.2").unwrap();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        assert!(config.split('/').all(|level| level.chars().all(allowed)), "{config}");
    }

    #[test]
    fn another_prefix_hears_home_assistant_all_the_same() {
        let other = Names { discovery: Some("site/ha".into()), ..names() };
        assert_eq!(other.filters()[..2], ["site/ha/status", "homeassistant/status"]);
        let none = Names { discovery: None, ..names() };
        assert!(none.filters().is_empty() && none.config("a").is_none());
    }
}
