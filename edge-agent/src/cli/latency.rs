//! `edge-agent latency`

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{Options, USAGE, block_on, failed, misused, print, start_log};
use crate::check::Unusable;
use crate::config::{MqttConfig, ServerAddr, Settings, Transport};
use crate::latency::{self, MOST_FRAMES, Outcome, Plan, Report};

pub(super) const EXAMPLES: &str = "\
Examples:
  How long one frame takes, each after the one before:
    edge-agent latency --source frames/ --server encoder.example:4433 --identity id/

  At ten frames a second, each counted from when it was due, with numbers and a picture:
    edge-agent latency --config agent.toml --source frames/ --rate 10 --json latency.json --svg latency.svg

  Over QUIC and TCP in turns, from an encoder that serves both (dc-encoder serve --tcp ADDR):
    edge-agent latency --config agent.toml --source frames/ --rate 10 --compare-tcp

  What a running camera gets, for a minute:
    edge-agent latency --config agent.toml --for 1m

Pictures and videos start again at their end. Answers are not printed; --output FILE keeps them.";

/// Frames unless a number or a time is said: p99 is then the third slowest.
const USUAL_FRAMES: usize = 200;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Answered frames to measure [default: 200; with --for: as many as come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES as i64))]
    frames: Option<u32>,

    /// Measure for this long after the warm-up
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    within: Option<Duration>,

    /// Answered frames before those that are measured
    #[arg(long, value_name = "N", default_value_t = 20)]
    warm_up: u64,

    /// Pictures and videos: frames a second, each due at a fixed time that its latency is counted from. Cameras and
    /// streams: at most so many. Without it and --fps, each picture follows the answer to the one before
    #[arg(long, value_name = "N")]
    rate: Option<f64>,

    /// Measure over TCP too, in turns, and print both and their quotient: at this address, or where the encoder is
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "", value_parser = compared)]
    compare_tcp: Option<Compared>,

    /// Give up when no frame is answered for this long
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    patience: Duration,

    /// Write percentiles and every frame's waterfall to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the waterfall to this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    options: Options,
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("must be longer than nothing, for example 30s".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// Where the encoder is asked over TCP; `None`: at the host and port of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Compared(Option<ServerAddr>);

fn compared(text: &str) -> Result<Compared, String> {
    if text.is_empty() {
        return Ok(Compared(None));
    }
    let address: ServerAddr = text.parse().map_err(|problem| format!("it {problem}; write HOST:PORT"))?;
    Ok(Compared(Some(ServerAddr { transport: Transport::Tcp, ..address })))
}

impl Compared {
    fn address(self, settings: &Settings) -> ServerAddr {
        let first = || ServerAddr { transport: Transport::Tcp, ..settings.servers[0].clone() };
        self.0.unwrap_or_else(first)
    }
}

impl Args {
    fn plan(&self) -> Plan {
        let unless_said = if self.within.is_some() { MOST_FRAMES } else { USUAL_FRAMES };
        Plan {
            frames: self.frames.map_or(unless_said, |frames| frames as usize),
            within: self.within,
            warm_up: self.warm_up,
            patience: self.patience,
        }
    }

    fn settings(self) -> Result<Settings, Unusable> {
        let mut config = self.options.config()?;
        // A measurement is nothing that a broker's subscribers should see.
        config.mqtt = MqttConfig::default();
        config.fps = self.rate.or(config.fps);
        let alone = config.fps.is_none() && config.max_in_flight.is_none();
        let mut settings = Settings::new(config).map_err(Unusable::Values)?;
        if alone && settings.source.is_finite() {
            // More would wait for each other.
            settings.max_in_flight = 1;
        }
        Ok(settings)
    }
}

/// Measures and prints; 1 if no frame was measured, or fewer than wanted.
pub(super) fn main(args: Args, warning: Option<&str>) -> ExitCode {
    if let Err(error) = start_log(&args.options.log, warning) {
        return failed(USAGE, &error);
    }
    // Before anything is measured: a folder that does not exist should not cost the measurement.
    let files = [(args.json.clone(), latency::json as Render), (args.svg.clone(), latency::svg as Render)];
    let files = files.into_iter().filter_map(|(path, render)| Some(Target::open(path?, render)));
    let files = match files.collect::<Result<Vec<_>, _>>() {
        Ok(files) => files,
        Err(error) => return failed(USAGE, &error),
    };
    let (plan, compare) = (args.plan(), args.compare_tcp.clone());
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(unusable) => return misused(&unusable),
    };
    block_on(async {
        let measured = match compare.map(|compare| compare.address(&settings)) {
            Some(tcp) => latency::compare(settings, tcp, plan, &mut io::stderr()).await,
            None => latency::measure(settings, plan, &mut io::stderr()).await,
        };
        let Outcome { report, cut_short } = match measured {
            Ok(outcome) => outcome,
            Err(error) => return failed(1, &format!("{error:#}")),
        };
        print(&latency::table(&report));
        for file in files {
            if let Err(error) = file.write(&report) {
                return failed(1, &error);
            }
        }
        cut_short.map_or(ExitCode::SUCCESS, |why| failed(1, &why))
    })
}

type Render = fn(&Report) -> String;

/// A file for the report.
struct Target {
    path: PathBuf,
    file: File,
    render: Render,
}

impl Target {
    /// What is in the file stays until there is something better.
    fn open(path: PathBuf, render: Render) -> Result<Self, String> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| cannot_write(&path, &error))?;
        Ok(Self { path, file, render })
    }

    fn write(self, report: &Report) -> Result<(), String> {
        let Self { path, mut file, render } = self;
        let written = file.set_len(0).and_then(|()| file.write_all(render(report).as_bytes()));
        written.map_err(|error| cannot_write(&path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}; name a file in a folder this user may write to", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::{Command, tests::args};
    use super::*;

    fn latency(line: &str) -> Args {
        let source = if line.contains("--source") { "" } else { " --source ." };
        let line = format!("edge-agent latency --server a:1 --identity id{source} {line}");
        match args(line.trim_end()).unwrap().0.command {
            Command::Latency(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plan_ends_by_frames_unless_by_time() {
        let plan = |line| latency(line).plan();
        assert_eq!((plan("").frames, plan("").within, plan("").warm_up), (200, None, 20));
        assert_eq!(
            (plan("--for 30s").frames, plan("--for 30s").within),
            (MOST_FRAMES, Some(Duration::from_secs(30)))
        );
        assert_eq!((plan("--for 30s --frames 7").frames, plan("--warm-up 0").warm_up), (7, 0));
        assert!(
            args("edge-agent latency --frames 0").is_err() && args("edge-agent latency --for 0s").is_err()
        );
        assert!(args("edge-agent latency --frames 100001").is_err());
    }

    #[test]
    fn one_frame_at_a_time_unless_there_is_a_rate_or_a_number() {
        let in_flight = |line| latency(line).settings().unwrap().max_in_flight;
        assert_eq!((in_flight(""), in_flight("--rate 5"), in_flight("--fps 5")), (1, 4, 4));
        assert_eq!((in_flight("--max-in-flight 3"), in_flight("--source /dev/video0")), (3, 4));
        assert_eq!(latency("--rate 5 --fps 2").settings().unwrap().fps, Some(5.0));
    }

    #[test]
    fn tcp_is_compared_at_the_encoders_address_unless_another_is_said() {
        let tcp = |line| {
            let args = latency(line);
            let compare = args.compare_tcp.clone();
            compare.map(|compare| compare.address(&args.settings().unwrap()).to_string())
        };
        assert_eq!(tcp("--rate 5"), None);
        assert_eq!(tcp("--compare-tcp --rate 5").as_deref(), Some("tcp://a:1"));
        assert_eq!(tcp("--compare-tcp b:2").as_deref(), Some("tcp://b:2"));
        assert!(args("edge-agent latency --compare-tcp=b").is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_one_that_can_keeps_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let error = Target::open(dir.path().join("no/a.json"), latency::json).err().unwrap();
        assert!(error.contains("no/a.json: No such file"), "{error}");
        let path = dir.path().join("a.json");
        std::fs::write(&path, "old").unwrap();
        drop(Target::open(path.clone(), latency::json).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }
}
