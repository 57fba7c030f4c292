//! `dc-encoder serve`
//!
//! Configuration: defaults, then `--config FILE`, then `--set KEY=VALUE`, then the flags; every flag can also
//! be an `FTH_…` variable.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use serde::Deserialize as _;
use shared::metrics::Endpoint;
use shared::notify::Manager;
use shared::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::backend::{self, Backend, BackendInfo, Choice, Engine, Precision};
use crate::model::{self, inspect};
use crate::serve::{Config, ServeError, Server, ServerHandle};

/// Arguments of `dc-encoder serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file (TOML)
    #[arg(long, env = "FTH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model folder, from `dc-encoder model init` or `import`
    #[arg(long, env = "FTH_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    /// Folder with the server's certificate and the revocation list, from `dc-encoder pki init`
    #[arg(long, env = "FTH_PKI", value_name = "DIR")]
    pki: Option<PathBuf>,
    /// Folder of the registry of head releases, made when it is not there
    #[arg(long, env = "FTH_REGISTRY", value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Public root key that releases are verified through (root.pub); needed when the registry is new
    #[arg(long, env = "FTH_RELEASE_ROOT", value_name = "FILE")]
    release_root: Option<PathBuf>,
    /// Address and UDP port; port 0 takes a free one and says which
    #[arg(long, env = "FTH_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Listen on this TCP address besides: for agents behind a network that blocks UDP, and to compare
    #[arg(long, env = "FTH_TCP", value_name = "ADDR")]
    tcp: Option<SocketAddr>,
    /// Enrol camera boxes here: the folder that `dc-encoder enroll init` made
    #[arg(long, env = "FTH_ENROLL", value_name = "DIR")]
    enroll: Option<PathBuf>,
    /// Address and UDP port where boxes enrol [default: 0.0.0.0:4434]
    #[arg(long, env = "FTH_ENROLL_LISTEN", value_name = "ADDR")]
    enroll_listen: Option<SocketAddr>,
    /// auto (cuda:0 if it works, else cpu), cpu, cuda:N, or wgpu:N (any GPU with a Vulkan driver)
    #[arg(long, env = "FTH_DEVICE", value_name = "DEVICE")]
    device: Option<String>,
    /// What computes: this program's own path, or candle
    #[arg(long, env = "FTH_BACKEND", value_enum)]
    backend: Option<Engine>,
    /// Number format of the products: f32 everywhere, bf16 on the processor and on CUDA, int8 on the processor
    #[arg(long, env = "FTH_PRECISION", value_enum)]
    precision: Option<Precision>,
    /// Write the bound address to this file once ready
    #[arg(long, env = "FTH_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Serve metrics for Prometheus over HTTP: a port of this machine alone, such as 9464, or an address
    #[arg(long, env = "FTH_METRICS", value_name = "ADDR")]
    metrics: Option<Endpoint>,
    /// Set any key of the configuration, such as `limits.max_in_flight=4` or `timeouts.drain=30s`
    #[arg(long = "set", env = "FTH_SET", value_name = "KEY=VALUE", value_delimiter = ',')]
    set: Vec<String>,
    /// What to log: a level, or levels by module
    #[arg(long, env = "FTH_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log: String,
    /// How log lines look
    #[arg(long, env = "FTH_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the server from starting, or ends it; each says what to do.
pub fn run(args: Args) -> anyhow::Result<()> {
    let format = match args.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(&args.log, format)?;
    let config = configure(args)?;
    config.validate()?;
    config.archive.check().map_err(ServeError::Sampling)?;
    // Before the model is loaded: a missing certificate should not take a minute to be named.
    let model = config.model.as_deref().ok_or(ServeError::NoModel)?;
    if config.pki.is_none() {
        return Err(ServeError::NoPki.into());
    }
    let choice =
        Choice { device: config.device.parse()?, engine: config.backend, precision: config.precision };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (backend, attention) = open(model, choice)?;
    runtime.block_on(serve(&config, backend, &attention))
}

/// Loads the model; says how it attends, and why.
fn open(model: &Path, choice: Choice) -> anyhow::Result<(Box<dyn Backend>, String)> {
    let dir = model.display();
    if !model.join("config.json").exists() {
        bail!(
            "no model in {dir}: make one with `dc-encoder model init --preset demo --seed 1 --out {dir}`, or point \
             --model at a folder with config.json and model.safetensors"
        );
    }
    tracing::info!("loading the model {dir}");
    let attention = inspect::attention(&model::file::load_config(model)?);
    Ok((backend::open(model, choice)?, attention))
}

async fn serve(config: &Config, backend: Box<dyn Backend>, attention: &str) -> anyhow::Result<()> {
    let info = backend.info();
    // Before anyone can know that the server runs, so that no signal ends it unheard.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let mut server = Server::start(config, backend)?;
    announce(&info, attention, &server);
    let _manager = Manager::ready();
    tokio::select! {
        ended = server.ended() => return Ok(ended?),
        name = signals.next() => tracing::info!("{name}: draining; a second signal ends at once"),
    }
    tokio::select! {
        ended = server.shutdown() => ended?,
        name = signals.next() => bail!("{name} again: ended without draining"),
    }
    tracing::info!("ended");
    Ok(())
}

/// The lines a person looks for after starting a server.
fn announce(info: &BackendInfo, attention: &str, server: &ServerHandle) {
    let BackendInfo { device, path, reason, model, note, space, .. } = info;
    let (height, width) = info.input;
    let (rows, cols, _) = info.grid;
    tracing::info!(
        "model {model}: input {width}×{height}, {} tokens, embedding {}",
        rows * cols,
        info.embed_dim
    );
    tracing::info!("attention {attention}");
    tracing::info!("device {device} ({path}){}{reason}", if reason.is_empty() { "" } else { ": " });
    tracing::info!("embedding space {space}");
    if note.starts_with("random") {
        tracing::warn!(
            "RANDOM WEIGHTS: {note}; embeddings are consistent, but the encoder has learnt nothing"
        );
    } else {
        tracing::info!("weights {note}");
    }
    tracing::info!("serving on {} (UDP)", server.local_addr());
    if let Some(address) = server.tcp_addr() {
        tracing::info!("serving on {address} (TCP)");
    }
    if let Some(address) = server.enroll_addr() {
        tracing::info!("camera boxes enrol on {address} (UDP): dc-encoder enroll create --camera NAME");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Defaults, file, keys, flags.
pub(super) fn configure(args: Args) -> anyhow::Result<Config> {
    let mut config: Config = match &args.config {
        Some(path) => shared::config::load(path)?,
        None => Config::default(),
    };
    if !args.set.is_empty() {
        config = with_keys(args.config.as_deref(), &args.set)?;
    }
    let Args {
        model,
        pki,
        registry,
        release_root,
        listen,
        tcp,
        enroll,
        enroll_listen,
        device,
        backend,
        precision,
        ready_file,
        metrics,
        ..
    } = args;
    config.model = model.or(config.model);
    config.pki = pki.or(config.pki);
    config.registry = registry.or(config.registry);
    config.release_root = release_root.or(config.release_root);
    config.listen = listen.unwrap_or(config.listen);
    config.tcp = tcp.or(config.tcp);
    config.enroll.dir = enroll.or(config.enroll.dir);
    config.enroll.listen = enroll_listen.unwrap_or(config.enroll.listen);
    config.device = device.unwrap_or(config.device);
    config.backend = backend.unwrap_or(config.backend);
    config.precision = precision.unwrap_or(config.precision);
    config.ready_file = ready_file.or(config.ready_file);
    config.metrics = metrics.or(config.metrics);
    Ok(config)
}

/// The configuration with single keys set over the file's.
fn with_keys(file: Option<&Path>, keys: &[String]) -> anyhow::Result<Config> {
    let mut table: toml::Table = match file {
        Some(path) => shared::config::load(path)?,
        None => toml::Table::new(),
    };
    for assignment in keys {
        set_key(&mut table, assignment).with_context(|| format!("--set {assignment}"))?;
    }
    Config::deserialize(table).map_err(|error| anyhow!("--set {}: {}", keys.join(" --set "), error.message()))
}

fn set_key(table: &mut toml::Table, assignment: &str) -> anyhow::Result<()> {
    let (key, value) = assignment.split_once('=').context("write KEY=VALUE")?;
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|key| !key.is_empty()).context("write KEY=VALUE")?;
    let mut at = table;
    for part in path {
        let next = at.entry(part).or_insert_with(|| toml::Table::new().into());
        at = next.as_table_mut().with_context(|| format!("{part} is not a table"))?;
    }
    at.insert(last.to_owned(), value_of(value.trim()));
    Ok(())
}

/// A TOML value; what is none (`30s`, `4 MiB`, `auto`) is a string.
fn value_of(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn configured(args: &[&str]) -> anyhow::Result<Config> {
        configure(Command::try_parse_from([&["serve"], args].concat())?.args)
    }

    #[test]
    fn flags_win_over_keys_and_keys_over_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"device = \"cuda:1\"\nmodel = \"/from/file\"\n[limits]\nmax_in_flight = 3\nmax_pixels = 9\n",
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let config = configured(&[
            "--config",
            path,
            "--set",
            "limits.max_in_flight=5",
            "--set",
            "timeouts.drain=30s",
            "--device",
            "cpu",
        ])
        .unwrap();
        assert_eq!(config.device, "cpu");
        assert_eq!(config.model, Some("/from/file".into()));
        assert_eq!((config.limits.max_in_flight, config.limits.max_pixels), (5, 9));
        assert_eq!(config.timeouts.drain, Duration::from_secs(30));
    }

    #[test]
    fn a_key_that_does_not_exist_is_named() {
        for bad in ["limits.max_in_flite=5", "timeouts.drain=soon", "nonsense"] {
            let error = format!("{:#}", configured(&["--set", bad]).unwrap_err());
            assert!(error.contains(bad), "{error}");
        }
    }
}
