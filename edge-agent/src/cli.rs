//! The command line.

mod enroll;
mod latency;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use shared::telemetry;

use crate::capture::cameras;
use crate::check::{self, Unusable};
use crate::config::{Config, Settings};
use crate::releases::local;
use crate::run;

const EXAMPLES: &str = "\
Examples:
  A folder of pictures, as fast as the encoder answers, one JSON line per picture and head:
    edge-agent run --source frames/ --server encoder.example:4433 --identity id/ --head people.head

  A USB camera at two frames a second, two encoders, answers to a file:
    edge-agent run --source /dev/video0 --fps 2 --server enc-1:4433,enc-2:4433 --identity id/ \\
      --head people.head hour.head --output answers.jsonl

  A network camera; its password stays out of the process list:
    FTH_SOURCE='rtsp://user:password@10.0.0.7/stream1' edge-agent run --config agent.toml

  Is everything in place?
    edge-agent check --config agent.toml

Every flag can also be a key in the config file (see `edge-agent example-config`) or an environment variable.";

/// The agent on the camera box: captures frames, gets embeddings from an encoder, runs heads on them, and
/// prints the answers.
#[derive(Debug, Parser)]
#[command(name = "edge-agent", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture, ask the encoder, answer; until the source ends or Ctrl-C
    #[command(after_help = EXAMPLES)]
    Run(Options),
    /// Get this box its certificate with a one-time token from `dc-encoder enroll create`
    #[command(after_help = "Examples:\n  edge-agent enroll\n  edge-agent enroll --token-file token")]
    Enroll(enroll::Args),
    /// List this box's cameras with their formats, sizes and rates, and what to write into the configuration
    #[command(after_help = "Example:\n  edge-agent cameras")]
    Cameras,
    /// Say what is in place, what is not, and what to do about it
    #[command(after_help = "Example:\n  edge-agent check --config agent.toml")]
    Check(Options),
    /// Measure where frames' time goes: percentiles by stage, and the waterfall of a typical frame
    #[command(after_help = latency::EXAMPLES)]
    Latency(latency::Args),
    /// See and change the heads of the agent that runs on this box, with or without a server
    Heads(HeadsArgs),
    /// Print a config file with every key explained
    #[command(after_help = "Example:\n  edge-agent example-config > agent.toml")]
    ExampleConfig,
}

#[derive(Debug, clap::Args)]
struct HeadsArgs {
    #[command(subcommand)]
    action: HeadsAction,

    /// The running agent's folder of heads
    #[arg(long, env = "FTH_HEADS_DIR", value_name = "DIR", global = true)]
    heads_dir: Option<PathBuf>,

    /// The running agent's configuration, for its heads_dir
    #[arg(long, short, env = "FTH_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum HeadsAction {
    /// What answers, what is wanted, and what did not work
    #[command(after_help = "Example:\n  edge-agent heads list --heads-dir heads")]
    List,
    /// Run a head file from now on; its signature is FILE.sig
    #[command(after_help = "Example:\n  edge-agent heads install people-count.safetensors --heads-dir heads")]
    Install {
        /// The head file
        file: PathBuf,
    },
    /// Run the release before; the present one is not taken again until another is published
    #[command(after_help = "Example:\n  edge-agent heads rollback people-count --heads-dir heads")]
    Rollback {
        /// Name of the head
        head: String,
    },
    /// Keep the present release, whatever is published
    #[command(after_help = "Example:\n  edge-agent heads pin people-count --heads-dir heads")]
    Pin {
        /// Name of the head
        head: String,
    },
    /// Follow the channel again
    #[command(after_help = "Example:\n  edge-agent heads unpin people-count --heads-dir heads")]
    Unpin {
        /// Name of the head
        head: String,
    },
}

impl HeadsArgs {
    /// Asks the agent.
    async fn run(self) -> local::Reply {
        let file = self.config.as_deref().map(Config::load).transpose().map_err(|error| error.to_string())?;
        let dir = self.heads_dir.or_else(|| file.and_then(|file| file.heads_dir));
        let dir = dir.ok_or("which agent? Name its folder of heads: --heads-dir DIR, or --config FILE")?;
        let command = match self.action {
            HeadsAction::List => local::Command::List,
            HeadsAction::Rollback { head } => local::Command::Rollback { head },
            HeadsAction::Pin { head } => local::Command::Pin { head },
            HeadsAction::Unpin { head } => local::Command::Unpin { head },
            HeadsAction::Install { file } => install(&file)?,
        };
        local::ask(&dir, command).await
    }
}

/// Reads a head file and its signature, if there is one: whether it is needed is for the agent to say.
fn install(path: &Path) -> Result<local::Command, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > protocol::limits::MAX_RELEASE_BYTES.into() {
        return Err(format!("{} has {size} bytes: this is no head file", path.display()));
    }
    let file = std::fs::read(path).map_err(failed)?;
    let signature = std::fs::read(shared::release::signature_path(path)).ok();
    Ok(local::Command::Install { file, signature })
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Configuration file (TOML); flags and environment variables win over it
    #[arg(long, short, env = "FTH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// What to log to standard error: error, warn, info, debug, or a filter such as info,quinn=debug; the
    /// environment variable FTH_LOG wins over it
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,

    #[command(flatten)]
    keys: Config,
}

impl Options {
    /// Flags and environment over the file.
    fn config(self) -> Result<Config, Unusable> {
        let file = self.config.as_deref().map(Config::load).transpose().map_err(Unusable::File)?;
        let keys = Config { mqtt: self.keys.mqtt.with_environment(), ..self.keys };
        Ok(keys.or(file.unwrap_or_default()))
    }

    /// The same, checked.
    fn settings(self) -> Result<Settings, Unusable> {
        Settings::new(self.config()?).map_err(Unusable::Values)
    }
}

/// Wrong flags or a wrong configuration, as for wrong flags in clap.
const USAGE: u8 = 2;

/// The definition of the command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the process's arguments and runs the command.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok((Cli { command }, warning)) => dispatch(command, warning),
        Err(error) => {
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, Option<String>), clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    Ok((Cli::from_arg_matches(&matches)?, exposed_secret(&matches)))
}

/// A warning if a password is among the arguments, where every user of the machine can read it.
fn exposed_secret(matches: &ArgMatches) -> Option<String> {
    let (_, matches) = matches.subcommand()?;
    // `example-config` has no source.
    let source: &String = matches.try_get_one("source").ok().flatten()?;
    let flag = matches.value_source("source") == Some(ValueSource::CommandLine);
    let redacted = telemetry::redact_url(source);
    (flag && redacted != *source).then(|| {
        format!(
            "--source {redacted}: flags are visible to every user of this machine; put a URI with a password \
             into the config file or FTH_SOURCE"
        )
    })
}

fn dispatch(command: Command, warning: Option<String>) -> ExitCode {
    let (options, checking) = match command {
        Command::Run(options) => (options, false),
        Command::Check(options) => (options, true),
        Command::Latency(args) => return latency::main(args, warning.as_deref()),
        Command::Heads(args) => {
            return block_on(async {
                match args.run().await {
                    Ok(text) => {
                        print(&text);
                        ExitCode::SUCCESS
                    }
                    Err(error) => failed(1, &error),
                }
            });
        }
        Command::Cameras => {
            let found = cameras::find();
            print(&cameras::report(&found));
            return if found.iter().any(|(_, camera)| camera.is_ok()) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        Command::Enroll(args) => return enroll::main(args),
        Command::ExampleConfig => {
            print(crate::config::EXAMPLE);
            return ExitCode::SUCCESS;
        }
    };
    // A check's own lines say what is wrong; the log would say it twice.
    let level = if checking { "error" } else { &options.log };
    if let Err(error) = start_log(level, warning.as_deref()) {
        return failed(USAGE, &error);
    }
    let settings = options.settings();
    if checking {
        return block_on(async {
            let good = check::check(settings, &mut std::io::stdout()).await;
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        });
    }
    match settings {
        Ok(settings) => block_on(async {
            match run::run(settings, &mut std::io::stderr()).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(1, &format!("{error:#}")),
            }
        }),
        Err(unusable) => misused(&unusable),
    }
}

fn start_log(level: &str, warning: Option<&str>) -> Result<(), telemetry::FilterError> {
    telemetry::init(level, telemetry::Format::Text)?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(())
}

fn misused(unusable: &Unusable) -> ExitCode {
    match unusable {
        Unusable::File(error) => failed(USAGE, error),
        Unusable::Values(invalid) => failed(USAGE, invalid),
    }
}

/// One thread drives connection and timers; JPEG and heads run beside it. More would only be memory.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    /// Frames being prepared and answered at one time; others wait their turn.
    const BLOCKING_THREADS: usize = 4;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A capture thread that is stuck in its device must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(error) => failed(1, &format!("cannot start: {error}")),
    }
}

fn failed(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write;
    // Nothing can be done about a closed standard error; the exit status still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}

fn print(text: &str) {
    use std::io::Write;
    // A reader that went away has read enough.
    let _ = write!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn args(line: &str) -> Result<(Cli, Option<String>), clap::Error> {
        parse(line.split(' ').map(Into::into))
    }

    fn keys(line: &str) -> Config {
        match args(line).unwrap().0.command {
            Command::Run(options) | Command::Check(options) => options.keys,
            other => panic!("not looked at: {other:?}"),
        }
    }

    #[test]
    fn clap_accepts_its_own_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_keys() {
        let keys = keys(
            "edge-agent run --source s --server a:1,b:2 --server c:3 --head x.head y.head --fps 2.5 \
             --max-width 640 --deadline 500ms --passthrough false -o out.jsonl",
        );
        assert_eq!(keys.servers.unwrap(), ["a:1", "b:2", "c:3"]);
        assert_eq!(keys.heads.unwrap().len(), 2);
        assert_eq!(
            (keys.fps, keys.uplink.max_width, keys.uplink.passthrough),
            (Some(2.5), Some(640), Some(false))
        );
        assert_eq!(keys.deadline, Some(std::time::Duration::from_millis(500)));
        assert_eq!(keys.output, Some("out.jsonl".into()));
    }

    #[test]
    fn a_password_among_the_arguments_is_pointed_out_and_not_repeated() {
        let warning = args("edge-agent run --source rtsp://u:secret@h/1").unwrap().1.unwrap();
        assert!(warning.contains("FTH_SOURCE") && !warning.contains("secret"), "{warning}");
        assert_eq!(args("edge-agent run --source rtsp://h/1").unwrap().1, None);
        assert_eq!(args("edge-agent example-config").unwrap().1, None);
    }
}
