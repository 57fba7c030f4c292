//! Configuration: one struct for file, environment and flags, then validated into [`Settings`].
//!
//! ```text
//! flags ─► environment (FTH_…) ─► file (--config) ─► defaults   (the leftmost that names a key wins)
//!                        └─► Config ─► Settings (run-ready: every value checked)
//! ```

mod broker;
mod check;
mod mask;
mod mqtt;
mod server;
mod settings;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use shared::metrics::Endpoint;

pub use broker::{Broker, Login, Password};
pub use mask::MaskConfig;
pub use mqtt::{Mqtt, MqttConfig, PASSWORD_VARIABLE};
pub use server::{ServerAddr, Transport};
pub use settings::{Format, Invalid, Output, Problem, Settings};

/// A configuration file with every key, its default and what it means. Kept true by a test.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What a person asked for, from any layer; every key optional. See [`EXAMPLE`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this camera in every answer [default: the name in the certificate]
    #[arg(long, env = "FTH_CAMERA", value_name = "NAME")]
    pub camera: Option<String>,

    /// Where frames come from: /dev/video0, rtsp://…, https://….m3u8, a video file, a folder or a list of
    /// pictures. Put a URI with a password in the config file or FTH_SOURCE: flags are visible to every user
    #[arg(long, env = "FTH_SOURCE", value_name = "URI", hide_env_values = true)]
    pub source: Option<String>,

    /// Encoder(s) to ask, in this order; separate with commas or repeat. tcp://HOST:PORT asks over TCP, where UDP is
    /// blocked
    #[arg(long = "server", env = "FTH_SERVERS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub servers: Option<Vec<String>>,

    /// Folder with ca.pem, cert.pem and key.pem, as `dc-encoder pki issue` writes it
    #[arg(long, env = "FTH_IDENTITY", value_name = "DIR")]
    pub identity: Option<PathBuf>,

    /// Where the certificate is renewed, as `edge-agent enroll` writes it [default: nowhere]
    #[arg(long, env = "FTH_ENROLL", value_name = "HOST:PORT")]
    pub enroll: Option<String>,

    /// Head file(s); every embedding goes to every head
    #[arg(long = "head", env = "FTH_HEADS", value_name = "FILE", value_delimiter = ',', num_args = 1..)]
    pub heads: Option<Vec<PathBuf>>,

    /// Run heads of this box's own without a signature: true or false [default: false]
    #[arg(
        long,
        env = "FTH_ALLOW_UNSIGNED",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub allow_unsigned: Option<bool>,

    /// Folder that this agent keeps pushed and installed heads in; one for each agent
    #[arg(long, env = "FTH_HEADS_DIR", value_name = "DIR")]
    pub heads_dir: Option<PathBuf>,

    /// The root.pub that `dc-encoder keys init` wrote, with key-ring beside it: whose heads may run here
    #[arg(long, env = "FTH_RELEASE_ROOT", value_name = "FILE")]
    pub release_root: Option<PathBuf>,

    /// What a head may take for one frame; a release that takes longer for frame after frame goes
    /// [default: 250ms]
    #[arg(long, env = "FTH_HEAD_BUDGET", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub head_budget: Option<Duration>,

    /// Frames a second to take. Without it: what a live source gives; pictures and videos as fast as they are
    /// answered, none dropped
    #[arg(long, env = "FTH_FPS", value_name = "N")]
    pub fps: Option<f64>,

    /// What is asked of a camera.
    #[command(flatten)]
    pub capture: CaptureConfig,

    /// What happens to a frame before it is sent.
    #[command(flatten)]
    pub uplink: UplinkConfig,

    /// Embedding on the wire: f32, f16 or int8 [default: f16]
    #[arg(long, env = "FTH_EMBEDDING", value_name = "ENCODING")]
    pub embedding: Option<String>,

    /// A frame not answered after this long is dropped [default: 2s; pictures and videos without --fps: 2m]
    #[arg(long, env = "FTH_DEADLINE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub deadline: Option<Duration>,

    /// Frames on the wire at once; the encoder may allow fewer [default: 4]
    #[arg(long, env = "FTH_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<u16>,

    /// While no answers come, repeat the last one this often, marked stale [default: 1s]
    #[arg(long, env = "FTH_STALE_EVERY", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub stale_every: Option<Duration>,

    /// File that answers are appended to; - is standard output [default: -]
    #[arg(long, short, env = "FTH_OUTPUT", value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// With a file for output: when it has this size, it becomes FILE.1 and a new one begins [default: never]
    #[arg(long, env = "FTH_ROTATE_AT", value_name = "SIZE")]
    pub rotate_at: Option<String>,

    /// Full files of answers that are kept [default: 4]
    #[arg(long, env = "FTH_ROTATE_KEEP", value_name = "N")]
    pub rotate_keep: Option<u32>,

    /// json (one object a line), text (for people), auto (text on a terminal, else json) [default: auto]
    #[arg(long, env = "FTH_FORMAT", value_name = "FORMAT")]
    pub format: Option<String>,

    /// Serve metrics for Prometheus over HTTP: a port of this box alone, such as 9464, or an address
    #[arg(long, env = "FTH_METRICS", value_name = "ADDR")]
    pub metrics: Option<Endpoint>,

    /// Regions that are hidden before a frame leaves this box; in the file alone.
    #[arg(skip)]
    pub mask: Option<Vec<MaskConfig>>,

    /// A broker that is told the answers, too.
    #[command(flatten)]
    pub mqtt: MqttConfig,
}

/// The `[capture]` table: what is asked of a V4L2 camera.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// Size of a camera's picture: the smallest that it offers which covers this [default: 1280x720]
    #[arg(long = "size", env = "FTH_CAPTURE_SIZE", value_name = "WIDTHxHEIGHT")]
    pub size: Option<String>,
    /// How a camera's pixels shall come: MJPG, YUYV, UYVY, NV12 or GREY [default: the best that it offers]
    #[arg(long = "pixels", env = "FTH_CAPTURE_PIXELS", value_name = "FORMAT")]
    pub pixels: Option<String>,
}

/// The `[uplink]` table; unset keys are [`shared::uplink::Uplink`]'s defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct UplinkConfig {
    /// Widest frame sent, in pixels; wider ones are made smaller [default: 960]
    #[arg(long = "max-width", env = "FTH_UPLINK_MAX_WIDTH", value_name = "PIXELS")]
    pub max_width: Option<u32>,
    /// Highest frame sent, in pixels; higher ones are made smaller [default: 576]
    #[arg(long = "max-height", env = "FTH_UPLINK_MAX_HEIGHT", value_name = "PIXELS")]
    pub max_height: Option<u32>,
    /// JPEG quality of frames sent, 1 to 100 [default: 80]
    #[arg(long = "quality", env = "FTH_UPLINK_QUALITY", value_name = "N")]
    pub quality: Option<u8>,
    /// Chroma subsampling of frames sent: 420, 422 or 444 [default: 420]
    #[arg(long = "chroma", env = "FTH_UPLINK_CHROMA", value_name = "KIND")]
    pub chroma: Option<String>,
    /// Send JPEG frames that are small enough untouched: true or false [default: true]
    #[arg(long = "passthrough", env = "FTH_UPLINK_PASSTHROUGH", value_name = "BOOL")]
    pub passthrough: Option<bool>,
    /// How fast to send: cubic, or bbr, which does not slow down where packets get lost [default: cubic; over TCP what
    /// the system does]
    #[arg(long = "congestion", env = "FTH_UPLINK_CONGESTION", value_name = "RULE")]
    pub congestion: Option<String>,
    /// Patches of frames that are sent: all; changed(LEVELS,FRAMES): those that differ by more than LEVELS of 255, and each
    /// once in FRAMES; random(SHARE) [default: all]
    #[arg(long = "patches", env = "FTH_UPLINK_PATCHES", value_name = "WHICH")]
    pub patches: Option<String>,
    /// With changed patches: while nothing changes, the last embedding answers for this long [default: 2s]
    #[arg(long = "reuse-for", env = "FTH_UPLINK_REUSE_FOR", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub reuse_for: Option<Duration>,
}

impl Config {
    /// Reads a TOML file; unknown keys are errors that name file, line and key. Relative paths in it start at
    /// the file's folder.
    ///
    /// # Errors
    /// Unreadable file, TOML syntax, unknown key, wrong type.
    pub fn load(path: &Path) -> Result<Self, shared::config::ConfigError> {
        let mut config: Self = shared::config::load(path)?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// `self` where it names a key, else `below` (the next layer down).
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            camera: self.camera.or(below.camera),
            source: self.source.or(below.source),
            servers: self.servers.or(below.servers),
            identity: self.identity.or(below.identity),
            enroll: self.enroll.or(below.enroll),
            heads: self.heads.or(below.heads),
            allow_unsigned: self.allow_unsigned.or(below.allow_unsigned),
            heads_dir: self.heads_dir.or(below.heads_dir),
            release_root: self.release_root.or(below.release_root),
            head_budget: self.head_budget.or(below.head_budget),
            fps: self.fps.or(below.fps),
            capture: CaptureConfig {
                size: self.capture.size.or(below.capture.size),
                pixels: self.capture.pixels.or(below.capture.pixels),
            },
            uplink: UplinkConfig {
                max_width: self.uplink.max_width.or(below.uplink.max_width),
                max_height: self.uplink.max_height.or(below.uplink.max_height),
                quality: self.uplink.quality.or(below.uplink.quality),
                chroma: self.uplink.chroma.or(below.uplink.chroma),
                passthrough: self.uplink.passthrough.or(below.uplink.passthrough),
                congestion: self.uplink.congestion.or(below.uplink.congestion),
                patches: self.uplink.patches.or(below.uplink.patches),
                reuse_for: self.uplink.reuse_for.or(below.uplink.reuse_for),
            },
            embedding: self.embedding.or(below.embedding),
            deadline: self.deadline.or(below.deadline),
            max_in_flight: self.max_in_flight.or(below.max_in_flight),
            stale_every: self.stale_every.or(below.stale_every),
            output: self.output.or(below.output),
            rotate_at: self.rotate_at.or(below.rotate_at),
            rotate_keep: self.rotate_keep.or(below.rotate_keep),
            format: self.format.or(below.format),
            metrics: self.metrics.or(below.metrics),
            mask: self.mask.or(below.mask),
            mqtt: self.mqtt.or(below.mqtt),
        }
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| {
            if path.is_relative() && path.as_path() != Path::new("-") {
                *path = folder.join(&*path);
            }
        };
        self.identity.iter_mut().for_each(resolve);
        self.heads.iter_mut().flatten().for_each(resolve);
        self.heads_dir.iter_mut().for_each(resolve);
        self.release_root.iter_mut().for_each(resolve);
        self.output.iter_mut().for_each(resolve);
        self.mqtt.paths().for_each(resolve);
        // A source without a scheme is a path (`frames/`, `walk.mp4`); with one it is left alone.
        if let Some(source) = &mut self.source
            && !source.contains(':')
            && Path::new(source).is_relative()
        {
            *source = folder.join(&*source).to_string_lossy().into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::tls::Congestion;

    use super::*;

    #[test]
    fn example_parses_and_names_every_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, EXAMPLE).unwrap();
        let settings = Settings::new(Config::load(&path).unwrap()).unwrap();
        assert_eq!(settings.heads, [dir.path().join("people.head"), dir.path().join("hour.head")]);
        assert_eq!(settings.identity, dir.path().join("identity"));
        assert_eq!(
            settings.enroll.map(|server| server.to_string()).as_deref(),
            Some("encoder-1.example:4434")
        );
        assert_eq!(settings.servers[1].to_string(), "encoder-2.example:4433");

        let defaults = Settings::new(Config {
            source: Some("v4l2:/dev/video0".into()),
            servers: Some(vec!["h:1".into()]),
            identity: Some("id".into()),
            ..Config::default()
        })
        .unwrap();
        assert_eq!(settings.uplink, defaults.uplink, "the example shows the defaults");
        assert_eq!(settings.reuse_for, defaults.reuse_for);
        assert_eq!((settings.size, settings.pixels), (defaults.size, defaults.pixels));
        assert_eq!(settings.max_in_flight, defaults.max_in_flight);
        assert_eq!(settings.stale_every, defaults.stale_every);
        assert_eq!(settings.heads_dir, Some(dir.path().join("store")));
        assert_eq!(settings.metrics, "9464".parse().ok());
        assert_eq!(settings.release_root, Some(dir.path().join("root.pub")));
        assert_eq!(settings.allow_unsigned, defaults.allow_unsigned);
        assert_eq!(settings.head_budget, defaults.head_budget);
        assert_eq!(settings.embedding, defaults.embedding);
        assert_eq!(settings.congestion, Some(Congestion::Cubic));
        assert_eq!(
            (settings.masks.len(), defaults.masks.len()),
            (2, 0),
            "nothing is hidden unless somebody says so"
        );
        assert_eq!((settings.output, settings.format), (defaults.output, defaults.format));
    }

    #[test]
    fn the_table_that_is_commented_out_is_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, EXAMPLE).unwrap();
        assert_eq!(Settings::new(Config::load(&path).unwrap()).unwrap().mqtt, None);
        let (above, table) = EXAMPLE.split_once("\n#[mqtt]").unwrap();
        std::fs::write(&path, format!("{above}\n[mqtt]{}", table.replace("\n#", "\n"))).unwrap();
        let mqtt = Settings::new(Config::load(&path).unwrap()).unwrap().mqtt.unwrap();
        assert_eq!(mqtt.ca, Some(dir.path().join("broker-ca.pem")));
        let login = mqtt.login.unwrap();
        assert_eq!(login.password, Some(Password::File(dir.path().join("mqtt-password"))));
        let broker = Some(mqtt.broker.to_string());
        let bare =
            Config { mqtt: MqttConfig { broker, ..MqttConfig::default() }, ..Config::load(&path).unwrap() };
        let bare = Settings::new(bare).unwrap().mqtt.unwrap();
        assert_eq!((mqtt.topic, mqtt.discovery, mqtt.every), (bare.topic, bare.discovery, bare.every));
    }

    #[test]
    fn unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "camera = \"a\"\nframes_per_second = 2\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("frames_per_second") && error.contains("agent.toml"), "{error}");
    }

    #[test]
    fn upper_layer_wins_key_by_key() {
        let flags = Config { fps: Some(5.0), ..Config::default() };
        let uplink = UplinkConfig { quality: Some(60), ..UplinkConfig::default() };
        let file = Config { fps: Some(1.0), camera: Some("file".into()), uplink, ..Config::default() };
        let merged = flags.or(file);
        assert_eq!((merged.fps, merged.camera.as_deref()), (Some(5.0), Some("file")));
        assert_eq!(merged.uplink.quality, Some(60));
    }

    #[test]
    fn source_with_a_scheme_is_not_a_relative_path() {
        for (given, wanted) in [("frames", "/etc/fth/frames"), ("rtsp://h/1", "rtsp://h/1"), ("/abs", "/abs")]
        {
            let mut config = Config { source: Some(given.into()), ..Config::default() };
            config.resolve_paths(Path::new("/etc/fth"));
            assert_eq!(config.source.as_deref(), Some(wanted));
        }
    }
}
