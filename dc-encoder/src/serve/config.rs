//! What a person can set: every limit by name, with its default and its reason.
//!
//! A TOML file, where keys that do not exist are errors; command-line flags and `FTH_…` variables on top
//! (see [`crate::cli::serve`]).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use protocol::limits::MAX_FRAME_BYTES;
use serde::Deserialize;
use shared::metrics::Endpoint;

use crate::archive::Sampling;
use crate::backend::{Engine, Precision};
use crate::ledger::Energy;

/// UDP port of the encoder, chosen freely above the registered services in common use.
pub const DEFAULT_PORT: u16 = 4433;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and UDP port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address and TCP port to listen on besides, where UDP is blocked and to compare; not unless said.
    pub tcp: Option<SocketAddr>,
    /// The model's folder (`config.json`, `model.safetensors`).
    pub model: Option<PathBuf>,
    /// The folder with the server's certificate, key, the authority's certificate and the revocation list.
    pub pki: Option<PathBuf>,
    /// The folder of the registry of head releases; without one the server knows of none.
    pub registry: Option<PathBuf>,
    /// File with the public root key that releases are verified through; needed when the registry is new.
    pub release_root: Option<PathBuf>,
    /// `auto` (`cuda:0` if it works, else `cpu`), `cpu`, `cuda:N` or `wgpu:N`.
    pub device: String,
    /// `auto` (this program's own path on every device), `cpu` or `candle`.
    pub backend: Engine,
    /// `f32`, `bf16` (processor, CUDA) or `int8` (processor).
    pub precision: Precision,
    /// Where to write the bound address once the server is ready, for scripts.
    pub ready_file: Option<PathBuf>,
    /// Where Prometheus reads metrics, over HTTP: a port of this machine alone, or an address; not unless said.
    pub metrics: Option<Endpoint>,
    /// Whether boxes enrol here, and where.
    pub enroll: Enroll,
    /// Which frames of agents are kept, and where; none unless said.
    pub archive: Sampling,
    /// Where its energy comes from, for the ledger.
    pub energy: Energy,
    /// What one agent, and all together, may take.
    pub limits: Limits,
    /// How frames wait.
    pub queue: Queue,
    /// How long anything may take.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            tcp: None,
            model: None,
            pki: None,
            registry: None,
            release_root: None,
            device: "auto".to_owned(),
            backend: Engine::default(),
            precision: Precision::default(),
            ready_file: None,
            metrics: None,
            enroll: Enroll::default(),
            archive: Sampling::default(),
            energy: Energy::default(),
            limits: Limits::default(),
            queue: Queue::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Whether boxes enrol here, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enroll {
    /// The enroller's folder, from `dc-encoder enroll init`; without one nobody enrols here.
    pub dir: Option<PathBuf>,
    /// Address and UDP port where boxes enrol.
    pub listen: SocketAddr,
}

impl Default for Enroll {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, shared::enroll::DEFAULT_PORT));
        Self { dir: None, listen }
    }
}

/// What one agent, and all together, may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Cameras connected at one time.
    pub max_sessions: usize,
    /// Connections of one device (of what its certificate names): an agent has one, and the one before may
    /// linger.
    pub max_connections_per_device: usize,
    /// Handshakes under way at one time; beyond 32, clients prove their address first.
    pub max_handshakes: usize,
    /// Handshakes a second; 0: any number. Each costs about a millisecond of a core.
    pub handshakes_per_second: u32,
    /// Frames of one agent without a reply at one time.
    pub max_in_flight: u16,
    /// The same of all agents together.
    pub max_in_flight_together: usize,
    /// What one camera may send; frames beyond are dropped as overloaded, unread.
    pub per_camera: Rate,
    /// What all cameras together may send.
    pub together: Rate,
    /// Longest JPEG. A 4K frame at quality 95 is about 4 MiB.
    pub max_frame_bytes: ByteSize,
    /// Most pixels of a frame: 4096×4096 by default. Each decode worker may need three bytes a pixel.
    pub max_pixels: u32,
    /// Memory for received JPEGs of all agents together; at least `max_frame_bytes`.
    pub frame_memory: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 1024,
            max_connections_per_device: 4,
            max_handshakes: 256,
            handshakes_per_second: 500,
            max_in_flight: 4,
            max_in_flight_together: 4096,
            per_camera: Rate::default(),
            together: Rate::default(),
            max_frame_bytes: ByteSize::mib(4),
            max_pixels: 4096 * 4096,
            frame_memory: ByteSize::mib(256),
        }
    }
}

/// How fast frames may come; what was not used is saved up for a second. Without a limit unless one is set: a
/// folder that is replayed sends as fast as it is answered, and the queue is fair among cameras in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    /// Frames a second; 0: any number.
    pub frames_per_second: u32,
    /// Bytes of JPEG a second; 0: any number.
    pub bytes_per_second: ByteSize,
}

/// How frames wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Frames of one camera that wait for a decoder, and again for the device; older ones are dropped as
    /// superseded. As many as `limits.max_in_flight`, so that an agent that replays a folder loses none and a
    /// live one decides itself how many it has under way; less keeps answers young when the device is too slow.
    pub per_camera: usize,
    /// Frames of all cameras that wait for a decoder.
    pub total: usize,
    /// Most frames in one batch; the backend may set less.
    pub max_batch: usize,
    /// Decode workers; 0: one per core.
    pub decode_threads: usize,
    /// Cameras that come before others: this many frames in a turn, 1 to 100, where the others have one. Nobody starves.
    pub weights: BTreeMap<String, u16>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { per_camera: 4, total: 1024, max_batch: 32, decode_threads: 0, weights: BTreeMap::new() }
    }
}

/// How long anything may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// From the handshake to a complete greeting.
    #[serde(with = "humantime_serde")]
    pub hello: Duration,
    /// From the start of a frame's stream to its last byte.
    #[serde(with = "humantime_serde")]
    pub receive: Duration,
    /// From a frame's header to its encoding, where the agent sets no shorter deadline.
    #[serde(with = "humantime_serde")]
    pub frame: Duration,
    /// For an agent to take a reply or a control message.
    #[serde(with = "humantime_serde")]
    pub reply: Duration,
    /// Without a sign of life the connection is given up.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How often a quiet connection is asked for a sign of life; well below `idle` and `silence`.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// A camera not heard from for this long gives way to another agent with its certificate.
    #[serde(with = "humantime_serde")]
    pub silence: Duration,
    /// After a request to stop, frames in flight have this long to be answered.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// After the goodbye of a server that drains, an agent without frames in flight stays connected for this
    /// long, so that frames already under way to the server are told why they are dropped.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            hello: Duration::from_secs(10),
            receive: Duration::from_secs(10),
            frame: Duration::from_secs(60),
            reply: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            silence: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            linger: Duration::from_millis(250),
        }
    }
}

/// A value that is of the right type and still cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {why}")]
pub struct Invalid {
    /// The key with its table.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

impl Config {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Limits { max_sessions, max_in_flight, max_frame_bytes, max_pixels, frame_memory, .. } =
            &self.limits;
        let Queue { per_camera, total, max_batch, .. } = &self.queue;
        let at_least_one = [
            ("limits.max_sessions", *max_sessions),
            ("limits.max_connections_per_device", self.limits.max_connections_per_device),
            ("limits.max_handshakes", self.limits.max_handshakes),
            ("limits.max_in_flight", usize::from(*max_in_flight)),
            ("limits.max_in_flight_together", self.limits.max_in_flight_together),
            ("limits.max_pixels", *max_pixels as usize),
            ("queue.per_camera", *per_camera),
            ("queue.total", *total),
            ("queue.max_batch", *max_batch),
        ];
        for (key, value) in at_least_one {
            ensure(value > 0, key, value, "must be at least 1")?;
        }
        let bytes = max_frame_bytes.as_u64();
        let most = u64::from(MAX_FRAME_BYTES);
        let range = format!("must be between 1 B and {} (the protocol's limit)", ByteSize::b(most));
        ensure((1..=most).contains(&bytes), "limits.max_frame_bytes", max_frame_bytes, &range)?;
        let enough = format!("must be at least limits.max_frame_bytes, {max_frame_bytes}");
        ensure(frame_memory.as_u64() >= bytes, "limits.frame_memory", frame_memory, &enough)?;
        let weights = self.queue.weights.iter();
        if let Some((camera, weight)) = weights.into_iter().find(|(_, weight)| !(1..=100).contains(*weight)) {
            let why = format!("the weight of {camera} must be between 1 and 100");
            ensure(false, "queue.weights", weight, &why)?;
        }
        self.energy.validate()?;
        self.timeouts.validate()
    }

    /// Bytes of the longest JPEG, as the protocol says it.
    pub(crate) fn max_frame_bytes(&self) -> u32 {
        u32::try_from(self.limits.max_frame_bytes.as_u64()).unwrap_or(MAX_FRAME_BYTES).min(MAX_FRAME_BYTES)
    }
}

impl Timeouts {
    fn validate(&self) -> Result<(), Invalid> {
        let all = [
            ("timeouts.handshake", self.handshake),
            ("timeouts.hello", self.hello),
            ("timeouts.receive", self.receive),
            ("timeouts.frame", self.frame),
            ("timeouts.reply", self.reply),
            ("timeouts.idle", self.idle),
            ("timeouts.keep_alive", self.keep_alive),
            ("timeouts.silence", self.silence),
        ];
        for (key, value) in all {
            ensure(!value.is_zero(), key, humantime::format_duration(value), "must be longer than nothing")?;
        }
        let shortest = self.idle.min(self.silence);
        let why = format!(
            "must be below timeouts.idle and timeouts.silence, {}",
            humantime::format_duration(shortest)
        );
        let value = humantime::format_duration(self.keep_alive);
        ensure(self.keep_alive < shortest, "timeouts.keep_alive", value, &why)
    }
}

/// The value is fine, or an error that names it.
pub(crate) fn ensure(
    fine: bool,
    key: &'static str,
    value: impl std::fmt::Display,
    why: &str,
) -> Result<(), Invalid> {
    if fine { Ok(()) } else { Err(Invalid { key, value: value.to_string(), why: why.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        shared::config::parse(Path::new("encoder.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default_and_valid() {
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn sizes_and_times_are_written_as_people_say_them() {
        let text = "listen = \"127.0.0.1:0\"\n[limits]\nmax_frame_bytes = \"1 MiB\"\n\
                    [timeouts]\ndrain = \"1m 30s\"\n[limits.per_camera]\nframes_per_second = 30\nbytes_per_second = \"2 MB\"";
        let config = parse(text).unwrap();
        let rate = Rate { frames_per_second: 30, bytes_per_second: ByteSize::mb(2) };
        assert_eq!(config.limits.per_camera, rate);
        assert_eq!(config.max_frame_bytes(), 1 << 20);
        assert_eq!(config.timeouts.drain, Duration::from_secs(90));
        let config = parse("[queue.weights]\nplaza-1 = 4").unwrap();
        assert_eq!(config.queue.weights.get("plaza-1"), Some(&4));
    }

    #[test]
    fn a_typo_is_an_error_that_names_it() {
        let error = parse("[limits]\nmax_in_flite = 3").unwrap_err();
        assert!(error.contains("max_in_flite") && error.contains("encoder.toml:2"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let invalid = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().key
        };
        assert_eq!(invalid(|c| c.queue.per_camera = 0), "queue.per_camera");
        assert_eq!(invalid(|c| c.limits.max_frame_bytes = ByteSize::gib(1)), "limits.max_frame_bytes");
        assert_eq!(invalid(|c| c.limits.frame_memory = ByteSize::kib(1)), "limits.frame_memory");
        assert_eq!(invalid(|c| c.timeouts.keep_alive = c.timeouts.idle), "timeouts.keep_alive");
        assert_eq!(invalid(|c| c.timeouts.receive = Duration::ZERO), "timeouts.receive");
        assert_eq!(invalid(|c| c.queue.weights = [("gate".to_owned(), 101)].into()), "queue.weights");
    }
}
