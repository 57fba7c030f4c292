//! The `[mqtt]` table: a broker that is told the answers, too.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use shared::secret::Secret;
use shared::telemetry::redact_url;

use super::broker::{Broker, Login, Password};
use super::settings::Problem;

/// Holds the password where there is no file with it: a flag would show it to every user of the machine.
pub const PASSWORD_VARIABLE: &str = "FTH_MQTT_PASSWORD";

/// What topics begin with.
const DEFAULT_TOPIC: &str = "fine-tuned-heads";
/// What Home Assistant listens to unless its MQTT integration is told otherwise.
const DEFAULT_DISCOVERY: &str = "homeassistant";
/// Fast enough for a light that goes on when somebody comes, slow enough for a recorder's disk.
const DEFAULT_EVERY: Duration = Duration::from_secs(1);
/// Below, a broker and its subscribers would be flooded.
const SMALLEST_EVERY: Duration = Duration::from_millis(50);
/// Beyond, an answer is history, not news.
const LARGEST_EVERY: Duration = Duration::from_secs(3600);
/// MQTT allows 65,535 bytes for a whole topic; nobody types that.
const LONGEST_TOPIC: usize = 128;

/// The `[mqtt]` table as a person wrote it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// Tell an MQTT broker the answers, too: mqtts://HOST:PORT (TLS), or mqtt://HOST:PORT. Its password comes from a file
    /// or from FTH_MQTT_PASSWORD
    #[arg(long = "mqtt-broker", env = "FTH_MQTT_BROKER", value_name = "URL", hide_env_values = true)]
    pub broker: Option<String>,
    /// Authorities that may sign the broker's certificate, PEM [default: the system's]
    #[arg(long = "mqtt-ca", env = "FTH_MQTT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Name that the broker knows this box by
    #[arg(long = "mqtt-username", env = "FTH_MQTT_USERNAME", value_name = "NAME")]
    pub username: Option<String>,
    /// File whose first line is the broker's password for that name
    #[arg(long = "mqtt-password-file", env = "FTH_MQTT_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// What topics begin with: TOPIC/CAMERA/HEAD/state [default: fine-tuned-heads]
    #[arg(long = "mqtt-topic", env = "FTH_MQTT_TOPIC", value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Home Assistant's discovery prefix; false: sensors are not announced [default: homeassistant]
    #[arg(long = "mqtt-discovery", env = "FTH_MQTT_DISCOVERY", value_name = "PREFIX")]
    #[serde(deserialize_with = "prefix_or_false")]
    pub discovery: Option<String>,
    /// At most one value per head in this time, the newest [default: 1s]
    #[arg(long = "mqtt-every", env = "FTH_MQTT_EVERY", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub every: Option<Duration>,
    /// From [`PASSWORD_VARIABLE`].
    #[arg(skip)]
    #[serde(skip)]
    pub password: Option<Secret>,
}

/// A checked `[mqtt]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// The broker.
    pub broker: Broker,
    /// Authorities of its certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Who this box is there, and how it proves it.
    pub login: Option<Login>,
    /// What topics begin with.
    pub topic: String,
    /// Home Assistant's discovery prefix; `None`: nothing is announced.
    pub discovery: Option<String>,
    /// At most one value per head in this time.
    pub every: Duration,
}

/// `"homeassistant"`, or `false`, which becomes an empty prefix.
fn prefix_or_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Prefix;

    impl de::Visitor<'_> for Prefix {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a discovery prefix such as \"homeassistant\", or false")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_bool<E: de::Error>(self, on: bool) -> Result<String, E> {
            Ok(if on { DEFAULT_DISCOVERY.to_owned() } else { String::new() })
        }
    }

    deserializer.deserialize_any(Prefix).map(Some)
}

impl MqttConfig {
    /// `self` where it names a key, else `below`.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            broker: self.broker.or(below.broker),
            ca: self.ca.or(below.ca),
            username: self.username.or(below.username),
            password_file: self.password_file.or(below.password_file),
            topic: self.topic.or(below.topic),
            discovery: self.discovery.or(below.discovery),
            every: self.every.or(below.every),
            password: self.password.or(below.password),
        }
    }

    /// With what the environment holds and no flag may.
    #[must_use]
    pub fn with_environment(self) -> Self {
        let given = std::env::var(PASSWORD_VARIABLE).ok().filter(|text| !text.is_empty());
        Self { password: given.map(Secret::new).or(self.password), ..self }
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.ca.iter_mut().chain(&mut self.password_file)
    }

    /// Checks every value; `None` without a broker, or with one that is wrong.
    pub(super) fn checked(self, problems: &mut Vec<Problem>) -> Option<Mqtt> {
        // The variable alone asks for nothing: it may be there for another program's sake.
        if (Self { password: None, ..self.clone() }) == Self::default() {
            return None;
        }
        let broker = self.broker();
        let others = [self.wrong_topic(), self.wrong_discovery(), self.wrong_every(), self.wrong_login()];
        let before = problems.len();
        problems.extend(others.into_iter().chain([self.wrong_ca(broker.as_ref().ok())]).flatten());
        let broker = broker.map_err(|problem| problems.push(problem)).ok()?;
        if problems.len() > before {
            return None;
        }
        let Self { ca, username, password_file, topic, discovery, every, password, .. } = self;
        let password = password.map(Password::Given).or(password_file.map(Password::File));
        Some(Mqtt {
            broker,
            ca,
            login: username.map(|username| Login { username, password }),
            topic: topic.unwrap_or_else(|| DEFAULT_TOPIC.to_owned()),
            discovery: discovery_prefix(discovery),
            every: every.unwrap_or(DEFAULT_EVERY),
        })
    }

    fn broker(&self) -> Result<Broker, Problem> {
        let Some(text) = &self.broker else {
            let remedy =
                "name the broker, for example mqtts://broker.example:8883, or take the table [mqtt] out";
            return Err(wrong("mqtt.broker", "(not set)".into(), "needed", remedy));
        };
        text.parse().map_err(|problem| {
            let remedy = "write mqtts://HOST:8883, or mqtt://HOST:1883 without TLS; a name goes into mqtt.username, its \
                          password into the file that mqtt.password_file names";
            wrong("mqtt.broker", format!("{:?}", redact_url(text)), problem, remedy)
        })
    }

    fn wrong_topic(&self) -> Option<Problem> {
        let remedy = "write one such as \"fine-tuned-heads\" or \"site-7/cameras\"";
        let topic = self.topic.as_deref()?;
        check_topic(topic).err().map(|problem| wrong("mqtt.topic", format!("{topic:?}"), problem, remedy))
    }

    fn wrong_discovery(&self) -> Option<Problem> {
        let remedy =
            "write \"homeassistant\", or what Home Assistant's MQTT integration is set to; false: none";
        let prefix = discovery_prefix(self.discovery.clone())?;
        check_topic(&prefix)
            .err()
            .map(|problem| wrong("mqtt.discovery", format!("{prefix:?}"), problem, remedy))
    }

    fn wrong_every(&self) -> Option<Problem> {
        let every = self.every.filter(|every| !(SMALLEST_EVERY..=LARGEST_EVERY).contains(every))?;
        Some(wrong("mqtt.every", format!("{every:?}"), "out of range", "use 50ms to 1h, for example 1s"))
    }

    fn wrong_login(&self) -> Option<Problem> {
        let path = self.password_file.as_ref().filter(|_| self.username.is_none())?;
        let (problem, remedy) = ("a password without a name", "set mqtt.username, too");
        Some(wrong("mqtt.password_file", format!("{path:?}"), problem, remedy))
    }

    fn wrong_ca(&self, broker: Option<&Broker>) -> Option<Problem> {
        let path = self.ca.as_ref().filter(|_| broker.is_some_and(|broker| !broker.tls))?;
        let (problem, remedy) =
            ("there is no certificate without TLS", "write mqtt.broker = \"mqtts://…\", or take it out");
        Some(wrong("mqtt.ca", format!("{path:?}"), problem, remedy))
    }
}

fn wrong(key: &'static str, value: String, problem: &str, remedy: &str) -> Problem {
    Problem { key, value, problem: problem.to_owned(), remedy: remedy.to_owned() }
}

/// What was written, as a prefix; `None`: sensors are not announced.
fn discovery_prefix(written: Option<String>) -> Option<String> {
    let prefix = written.unwrap_or_else(|| DEFAULT_DISCOVERY.to_owned());
    Some(prefix).filter(|prefix| !["", "false"].contains(&prefix.as_str()))
}

fn check_topic(topic: &str) -> Result<(), &'static str> {
    if topic.is_empty() || topic.len() > LONGEST_TOPIC {
        return Err("is no topic of 1 to 128 characters");
    }
    if topic.contains(|c: char| "+#".contains(c) || c.is_control()) {
        return Err("holds a wildcard (+ or #) or a control character");
    }
    if topic.starts_with(['/', '$']) || topic.ends_with('/') || topic.contains("//") {
        return Err("begins or ends with a slash, has an empty level, or begins with $");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn good() -> MqttConfig {
        MqttConfig { broker: Some("mqtts://broker.example".into()), ..MqttConfig::default() }
    }

    fn problem(change: impl FnOnce(&mut MqttConfig)) -> Problem {
        let (mut config, mut problems) = (good(), Vec::new());
        change(&mut config);
        assert_eq!(config.checked(&mut problems), None);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    #[test]
    fn without_a_table_there_is_no_broker_and_with_one_there_are_defaults() {
        let mut problems = Vec::new();
        assert_eq!(MqttConfig::default().checked(&mut problems), None);
        let lonely = MqttConfig { password: Some(Secret::new("pw".into())), ..MqttConfig::default() };
        assert_eq!(lonely.checked(&mut problems), None);
        let mqtt = good().checked(&mut problems).unwrap();
        assert_eq!(problems, []);
        assert_eq!((mqtt.broker.to_string().as_str(), mqtt.login), ("mqtts://broker.example:8883", None));
        assert_eq!((mqtt.topic.as_str(), mqtt.discovery.as_deref()), (DEFAULT_TOPIC, Some("homeassistant")));
        assert_eq!(mqtt.every, Duration::from_secs(1));
    }

    #[test]
    fn discovery_can_be_turned_off_in_two_ways() {
        let read = |text: &str| {
            let text = format!("broker = \"mqtt://h\"\n{text}");
            let config: MqttConfig = shared::config::parse(Path::new("agent.toml"), &text).unwrap();
            config.checked(&mut Vec::new()).unwrap().discovery
        };
        assert_eq!((read("discovery = false"), read("discovery = \"\"")), (None, None));
        assert_eq!(read("discovery = true").as_deref(), Some("homeassistant"));
        assert_eq!(read("discovery = \"ha/site\"").as_deref(), Some("ha/site"));
        let parse = shared::config::parse::<MqttConfig>;
        let error = parse(Path::new("agent.toml"), "discovery = 3").unwrap_err().to_string();
        assert!(error.contains("or false"), "{error}");
        let error = parse(Path::new("agent.toml"), "pasword_file = \"a\"").unwrap_err().to_string();
        assert!(error.contains("did you mean `password_file`?"), "{error}");
    }

    #[test]
    fn problems_name_key_value_and_remedy() {
        assert_eq!(
            problem(|c| (c.broker, c.topic) = (None, Some("cameras".into()))).to_string().split(';').next(),
            Some("mqtt.broker = (not set): needed")
        );
        assert_eq!(problem(|c| c.topic = Some("a/+/b".into())).key, "mqtt.topic");
        assert_eq!(problem(|c| c.topic = Some("/a".into())).value, "\"/a\"");
        assert_eq!(problem(|c| c.discovery = Some("ha/".into())).key, "mqtt.discovery");
        assert_eq!(
            problem(|c| c.every = Some(Duration::from_millis(1))).remedy,
            "use 50ms to 1h, for example 1s"
        );
        assert_eq!(problem(|c| c.password_file = Some("pw".into())).key, "mqtt.password_file");
        let plain = |c: &mut MqttConfig| (c.broker, c.ca) = (Some("mqtt://h".into()), Some("ca.pem".into()));
        assert_eq!(problem(plain).key, "mqtt.ca");
    }

    #[test]
    fn a_password_is_never_shown() {
        let told = problem(|c| c.broker = Some("mqtts://ann:secret@h:1".into()));
        assert!(
            told.to_string().contains("mqtt.password_file") && !told.to_string().contains("secret"),
            "{told}"
        );
        let login =
            Login { username: "ann".into(), password: Some(Password::Given(Secret::new("secret".into()))) };
        assert!(!format!("{login:?}").contains("secret"));
    }
}
