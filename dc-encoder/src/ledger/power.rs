//! Where the encoder's joules come from: a meter of the machine, or time in use × watts.

use std::fmt;
use std::time::{Duration, Instant};

use super::config::{Energy, MeterChoice};
use super::meter::{Meter, Nvml, Rapl};

/// What a busy core of a server is assumed to draw where nothing is said, in watts: the share of one of an AMD EPYC 9654's
/// 96 in its 360 W (its data sheet).
const WATTS_PER_CORE: f64 = 3.75;

/// A meter that was asked for is not there.
#[derive(Debug, thiserror::Error)]
#[error("energy.meter = \"{name}\": {why}; say \"auto\" or \"model\"")]
pub struct PowerError {
    name: &'static str,
    why: String,
}

/// Where joules come from, and when they were last asked for.
#[derive(Debug)]
pub(super) struct Power {
    source: Source,
    last: Instant,
}

#[derive(Debug)]
enum Source {
    Meter(Box<dyn Meter>),
    Model(Model),
}

/// Watts while it encodes and while it waits.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    busy_watts: f64,
    idle_watts: f64,
    words: String,
}

impl Power {
    /// The meter that the configuration and the device (in words) allow.
    pub(super) fn open(energy: &Energy, device: &str) -> Result<Self, PowerError> {
        let named = |name, why: String| PowerError { name, why };
        let source = match energy.meter {
            MeterChoice::Model => Source::Model(Model::new(energy, device)),
            MeterChoice::Rapl => Source::Meter(Box::new(Rapl::open().map_err(|why| named("rapl", why))?)),
            MeterChoice::Nvml => {
                let index = cuda_index(device).ok_or_else(|| {
                    named("nvml", format!("the encoder runs on {device}, not on an NVIDIA card"))
                })?;
                Source::Meter(Box::new(Nvml::open(index).map_err(|why| named("nvml", why))?))
            }
            MeterChoice::Auto => Self::any(energy, device),
        };
        Ok(Self { source, last: Instant::now() })
    }

    fn any(energy: &Energy, device: &str) -> Source {
        let meter: Result<Box<dyn Meter>, String> = match cuda_index(device) {
            Some(index) => Nvml::open(index).map(|meter| Box::new(meter) as Box<dyn Meter>),
            None if device.starts_with("CPU") => Rapl::open().map(|meter| Box::new(meter) as Box<dyn Meter>),
            None => Err(format!("no meter is known for {device}")),
        };
        meter.map_or_else(
            |why| {
                tracing::debug!("energy is modelled: {why}");
                Source::Model(Model::new(energy, device))
            },
            Source::Meter,
        )
    }

    pub(super) fn is_meter(&self) -> bool {
        matches!(self.source, Source::Meter(_))
    }

    /// How energy is known, for a person.
    pub(super) fn words(&self) -> String {
        match &self.source {
            Source::Meter(meter) => format!("metered: {meter}"),
            Source::Model(model) => format!("modelled: {}", model.words),
        }
    }

    /// Joules since the last call, of which the device was `busy` for a time.
    pub(super) fn since_last(&mut self, busy: Duration) -> f64 {
        let elapsed = self.last.elapsed();
        self.last += elapsed;
        match &mut self.source {
            Source::Meter(meter) => meter.joules().unwrap_or_else(|why| {
                tracing::warn!("the meter failed, this second's energy is missing: {why}");
                0.0
            }),
            Source::Model(model) => model.joules(busy, elapsed),
        }
    }
}

impl Model {
    fn new(energy: &Energy, device: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (busy_watts, words) = match energy.busy_watts {
            Some(watts) => (watts, format!("{watts} W while it encodes (energy.busy_watts)")),
            None if device.starts_with("CPU") => {
                let words = format!(
                    "{cores} cores × {WATTS_PER_CORE} W while it encodes (an AMD EPYC 9654's share by its data sheet; \
                     say energy.busy_watts)"
                );
                (WATTS_PER_CORE * cores as f64, words)
            }
            None => (0.0, format!("not known for {device} (say energy.busy_watts)")),
        };
        let words = match energy.idle_watts {
            0.0 => words,
            idle => format!("{words}, {idle} W while it waits"),
        };
        Self { busy_watts, idle_watts: energy.idle_watts, words }
    }

    /// A batch may have begun before this time did.
    fn joules(&self, busy: Duration, elapsed: Duration) -> f64 {
        let waited = elapsed.saturating_sub(busy);
        self.busy_watts * busy.as_secs_f64() + self.idle_watts * waited.as_secs_f64()
    }
}

/// The number in `NVIDIA H200, CUDA device 0`.
fn cuda_index(device: &str) -> Option<u32> {
    let (_, rest) = device.split_once("CUDA device ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_time_and_watts() {
        let energy = Energy { busy_watts: Some(100.0), idle_watts: 10.0, ..Energy::default() };
        let model = Model::new(&energy, "CPU, 2 threads");
        let s = Duration::from_secs;
        assert_eq!(model.joules(s(3), s(10)), 300.0 + 70.0);
        assert_eq!(model.joules(s(11), s(10)), 1100.0);
        assert!(
            model.words.contains("100 W") && model.words.contains("10 W while it waits"),
            "{}",
            model.words
        );
    }

    #[test]
    fn a_meter_that_is_not_there_is_an_error_only_when_it_was_asked_for() {
        let energy = Energy { meter: MeterChoice::Nvml, ..Energy::default() };
        let error = Power::open(&energy, "CPU, 2 threads").unwrap_err().to_string();
        assert!(error.contains("energy.meter = \"nvml\": the encoder runs on CPU, 2 threads"), "{error}");
        let power = Power::open(&Energy::default(), "Vulkan device").unwrap();
        assert!(power.words().starts_with("modelled: not known for Vulkan device"), "{power}");
    }

    #[test]
    fn a_card_is_known_by_its_number() {
        assert_eq!(cuda_index("NVIDIA H200, CUDA device 3"), Some(3));
        assert_eq!(cuda_index("CPU, 2 threads"), None);
    }
}
