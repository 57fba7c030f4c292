//! The run-ready configuration: every value checked, every error names key, value and remedy.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::Encoding;
use shared::image::Mask;
use shared::metrics::Endpoint;
use shared::tls::{Congestion, Identity};
use shared::uplink::Uplink;

use super::check::Check;
use super::values;
use super::{Config, Mqtt, ServerAddr};
use crate::capture::{Options, Pixels, SourceUri};
use crate::heads::USUAL_BUDGET;
use crate::sinks::Rotation;

/// Frames on the wire at once: one travels, one is decoded, one is encoded, one comes back.
const DEFAULT_MAX_IN_FLIGHT: u16 = 4;
/// A stale answer a second tells a reader that the agent lives, and is cheap.
const DEFAULT_STALE_EVERY: Duration = Duration::from_secs(1);

/// Full files that are kept.
const DEFAULT_ROTATE_KEEP: u32 = 4;

/// A validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Name of the camera; `None`: the name in the certificate.
    pub camera: Option<String>,
    /// Where frames come from.
    pub source: SourceUri,
    /// Encoders in the order they are tried; at least one.
    pub servers: Vec<ServerAddr>,
    /// Folder with `ca.pem`, `cert.pem`, `key.pem`.
    pub identity: PathBuf,
    /// Where the certificate is renewed; `None`: a person brings the next one.
    pub enroll: Option<ServerAddr>,
    /// Head files.
    pub heads: Vec<PathBuf>,
    /// Heads of this box's own need no signature.
    pub allow_unsigned: bool,
    /// Where pushed and installed heads are kept; `None`: there are none.
    pub heads_dir: Option<PathBuf>,
    /// The root's public key, with the key ring beside it.
    pub release_root: Option<PathBuf>,
    /// What a head may take for one frame.
    pub head_budget: Duration,
    /// Frames a second to take; `None`: what the source gives.
    pub fps: Option<f64>,
    /// Wanted size of a V4L2 camera's picture, pixels: width, height.
    pub size: (u32, u32),
    /// How its pixels shall come; `None`: the best that it offers.
    pub pixels: Option<Pixels>,
    /// What happens to a frame before it is sent.
    pub uplink: Uplink,
    /// How fast frames are sent; `None`: QUIC by its default, TCP by the system's.
    pub congestion: Option<Congestion>,
    /// How long an embedding answers for frames that show nothing new; zero: every frame is sent.
    pub reuse_for: Duration,
    /// Encoding of embeddings on the wire.
    pub embedding: Encoding,
    /// A frame not answered by then is dropped; `None`: by the kind of source.
    pub deadline: Option<Duration>,
    /// Frames on the wire at once, 1 to 64.
    pub max_in_flight: u16,
    /// Interval of stale answers while none come.
    pub stale_every: Duration,
    /// Where lines go.
    pub output: Output,
    /// How lines look.
    pub format: Format,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<Endpoint>,
    /// What is hidden of every frame before anything else happens to it.
    pub masks: Arc<[Mask]>,
    /// The broker that is told the answers; `None`: none is.
    pub mqtt: Option<Mqtt>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Appended to this file, and to a new one when it is full.
    File(PathBuf, Rotation),
    /// Formatted, and then thrown away: `edge-agent latency` prints other things.
    Nowhere,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Text`] on a terminal, else [`Format::Json`].
    Auto,
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

/// One wrong or missing value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {problem}; {remedy}")]
pub struct Problem {
    /// The key as in the file, for example `uplink.quality`.
    pub key: &'static str,
    /// What it was, or `(not set)`.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Everything wrong with a configuration, so that one run shows it all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<Problem>);

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Invalid`] with one [`Problem`] per wrong or missing key.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        let mut check = Check::default();
        let settings = Self {
            camera: check.optional("camera", config.camera, values::camera_name),
            source: check.source(config.source),
            servers: check.servers(config.servers),
            identity: check.identity(config.identity),
            enroll: check.optional("enroll", config.enroll, values::enroll),
            heads: config.heads.unwrap_or_default(),
            allow_unsigned: config.allow_unsigned.unwrap_or(false),
            heads_dir: config.heads_dir,
            release_root: config.release_root,
            head_budget: config.head_budget.unwrap_or(USUAL_BUDGET),
            fps: check.optional("fps", config.fps, values::fps),
            size: check
                .optional("capture.size", config.capture.size, values::size)
                .unwrap_or_else(|| Options::default().size),
            pixels: check.optional("capture.pixels", config.capture.pixels, values::pixels),
            congestion: check.optional(
                "uplink.congestion",
                config.uplink.congestion.clone(),
                values::congestion,
            ),
            reuse_for: check.reuse_for(&config.uplink),
            uplink: check.uplink(config.uplink),
            embedding: check
                .optional("embedding", config.embedding, values::encoding)
                .unwrap_or(Encoding::F16),
            deadline: check.optional("deadline", config.deadline, values::deadline),
            max_in_flight: check
                .optional("max_in_flight", config.max_in_flight, values::max_in_flight)
                .unwrap_or(DEFAULT_MAX_IN_FLIGHT),
            stale_every: check
                .optional("stale_every", config.stale_every, values::stale_every)
                .unwrap_or(DEFAULT_STALE_EVERY),
            output: match config.output {
                Some(path) if path.as_os_str() != "-" => Output::File(
                    path,
                    check.optional("rotate_at", config.rotate_at, values::bytes).map_or(
                        Rotation::NEVER,
                        |bytes| Rotation {
                            bytes,
                            keep: config.rotate_keep.unwrap_or(DEFAULT_ROTATE_KEEP).max(1),
                        },
                    ),
                ),
                _ => Output::Stdout,
            },
            format: check.optional("format", config.format, values::format).unwrap_or(Format::Auto),
            metrics: config.metrics,
            masks: check.masks(config.mask.unwrap_or_default()),
            mqtt: config.mqtt.checked(&mut check.problems),
        };
        if check.problems.is_empty() { Ok(settings) } else { Err(Invalid(check.problems)) }
    }

    /// The camera's name: as set, else as in the certificate.
    ///
    /// # Errors
    /// [`Invalid`] if neither names one.
    pub fn camera_name(&self, identity: &Identity) -> Result<String, Invalid> {
        self.camera.clone().or_else(|| identity.me().camera.clone()).ok_or_else(|| {
            Invalid(vec![Problem {
                key: "camera",
                value: "(not set)".into(),
                problem: format!("the certificate in {} names no camera either", self.identity.display()),
                remedy: "set it: --camera NAME".into(),
            }])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MaskConfig, Transport};

    fn good() -> Config {
        Config {
            source: Some("/dev/video0".into()),
            servers: Some(vec!["localhost:4433".into()]),
            identity: Some("id".into()),
            ..Config::default()
        }
    }

    fn problem(change: impl FnOnce(&mut Config)) -> Problem {
        let mut config = good();
        change(&mut config);
        let Invalid(mut problems) = Settings::new(config).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let Invalid(problems) = Settings::new(Config::default()).unwrap_err();
        assert_eq!(problems.iter().map(|p| p.key).collect::<Vec<_>>(), ["source", "servers", "identity"]);
    }

    #[test]
    fn problems_name_key_value_and_remedy() {
        let text = problem(|c| c.fps = Some(0.0)).to_string();
        assert_eq!(
            text,
            "fps = 0.0: not a frame rate; use a number above 0 and up to 240, for example 2 or 0.1"
        );
        assert_eq!(problem(|c| c.fps = Some(f64::NAN)).key, "fps");
        assert_eq!(problem(|c| c.camera = Some("a b".into())).value, "\"a b\"");
        assert_eq!(problem(|c| c.embedding = Some("f8".into())).remedy, "use f32, f16 or int8");
        assert_eq!(problem(|c| c.uplink.congestion = Some("reno".into())).remedy, "use cubic or bbr");
        assert_eq!(problem(|c| c.uplink.quality = Some(0)).key, "uplink.quality");
        assert_eq!(problem(|c| c.uplink.chroma = Some("411".into())).key, "uplink.chroma");
        assert_eq!(problem(|c| c.uplink.max_width = Some(4)).key, "uplink.max_width");
        let patches = problem(|c| c.uplink.patches = Some("some".into()));
        assert!(
            patches.to_string().starts_with("uplink.patches = \"some\": patches \"some\" are none of"),
            "{patches}"
        );
        assert!(patches.remedy.contains("changed(LEVELS,FRAMES)"), "{patches}");
        assert_eq!(problem(|c| c.uplink.patches = Some("random(2)".into())).key, "uplink.patches");
        assert_eq!(problem(|c| c.uplink.reuse_for = Some(Duration::from_secs(2))).key, "uplink.reuse_for");
        assert_eq!(problem(|c| c.capture.size = Some("1280".into())).key, "capture.size");
        assert_eq!(problem(|c| c.capture.size = Some("0x720".into())).value, "\"0x720\"");
        assert_eq!(problem(|c| c.capture.pixels = Some("H264".into())).key, "capture.pixels");
        assert_eq!(problem(|c| c.deadline = Some(Duration::ZERO)).key, "deadline");
        assert_eq!(problem(|c| c.stale_every = Some(Duration::from_millis(1))).key, "stale_every");
        assert_eq!(problem(|c| c.max_in_flight = Some(0)).key, "max_in_flight");
        assert_eq!(problem(|c| c.format = Some("xml".into())).key, "format");
        assert!(problem(|c| c.source = Some("ftp://h".into())).to_string().contains("ftp"));
        assert_eq!(problem(|c| c.servers = Some(vec!["host".into()])).problem, "has no port");
    }

    #[test]
    fn a_region_that_is_none_is_a_problem_and_never_left_out() {
        let polygon =
            |corners: &[[f32; 2]]| MaskConfig { polygon: Some(corners.to_vec()), ..MaskConfig::default() };
        let rectangle = |sides| MaskConfig { rectangle: Some(sides), ..MaskConfig::default() };
        let both = MaskConfig { rectangle: Some([0.0, 0.0, 1.0, 1.0]), ..polygon(&[]) };
        for (mask, want) in [
            (
                polygon(&[[0.0, 0.0], [1.0, 1.0]]),
                "mask = (number 2) polygon = [[0.0, 0.0], [1.0, 1.0]]: it has 2 corners; use 3 to 64",
            ),
            (polygon(&[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]), "its sides 1 and 3 cross or touch"),
            (rectangle([0.0, 0.0, 120.0, 1.0]), "120 is outside the picture; write fractions of the picture"),
            (rectangle([0.5, 0.0, 0.1, 1.0]), "write left, top, right, bottom"),
            (
                MaskConfig { pixelate: Some(2), ..rectangle([0.0, 0.0, 1.0, 1.0]) },
                "blocks of 2 pixels; use 8 to 1024",
            ),
            (both, "is a rectangle and a polygon"),
            (MaskConfig::default(), "is neither a rectangle nor a polygon"),
        ] {
            let text = problem(|c| c.mask = Some(vec![rectangle([0.0, 0.0, 0.1, 0.1]), mask])).to_string();
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn embeddings_are_reused_where_patches_are_compared() {
        let reuse = |patches: &str, time: Option<u64>| {
            let mut config = good();
            config.uplink.patches = Some(patches.into());
            config.uplink.reuse_for = time.map(Duration::from_secs);
            Settings::new(config).map(|settings| settings.reuse_for.as_secs())
        };
        assert_eq!((reuse("all", None), reuse("all", Some(0))), (Ok(0), Ok(0)));
        assert_eq!((reuse("changed", None), reuse("changed(4,30)", Some(5))), (Ok(2), Ok(5)));
        assert!(reuse("random(0.3)", Some(5)).is_err() && reuse("changed", Some(61)).is_err());
    }

    #[test]
    fn server_addresses() {
        for text in ["encoder:4433", "10.0.0.1:1", "[::1]:65535", "tcp://encoder:443", "tcp://[::1]:1"] {
            assert_eq!(text.parse::<ServerAddr>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("tcp://a:1".parse::<ServerAddr>().unwrap().transport, Transport::Tcp);
        for text in ["encoder", "::1:4433", "[::1:4433", ":4433", "h:0", "h:70000", "https://h:1", "a b:1"] {
            assert!(text.parse::<ServerAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn dash_is_standard_output() {
        let output =
            |path: &str| Settings::new(Config { output: Some(path.into()), ..good() }).unwrap().output;
        assert_eq!(output("-"), Output::Stdout);
        assert_eq!(output("out.jsonl"), Output::File("out.jsonl".into(), Rotation::NEVER));
        let full = Config { output: Some("o".into()), rotate_at: Some("64MB".into()), ..good() };
        let rotation = Rotation { bytes: 64_000_000, keep: DEFAULT_ROTATE_KEEP };
        assert_eq!(Settings::new(full).unwrap().output, Output::File("o".into(), rotation));
        assert_eq!(
            problem(|c| (c.output, c.rotate_at) = (Some("o".into()), Some("soon".into()))).key,
            "rotate_at"
        );
    }
}
