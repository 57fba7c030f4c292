//! Counters of energy: the processor's, through the kernel's powercap files, and NVIDIA's, through NVML.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel shows the processor's counters.
const POWERCAP: &str = "/sys/class/powercap";

/// A counter of energy.
pub(super) trait Meter: fmt::Debug + fmt::Display + Send {
    /// Joules since the last call; the first one counts from when the meter was opened.
    fn joules(&mut self) -> Result<f64, String>;
}

/// The processor packages, and memory where it has a counter of its own: everything that runs on them.
#[derive(Debug)]
pub(super) struct Rapl {
    zones: Vec<Zone>,
}

/// One counter, which wraps around.
#[derive(Debug)]
struct Zone {
    name: String,
    counter: PathBuf,
    /// Its largest value, in microjoules.
    range: u64,
    last: u64,
}

impl Rapl {
    pub(super) fn open() -> Result<Self, String> {
        Self::open_in(Path::new(POWERCAP))
    }

    fn open_in(folder: &Path) -> Result<Self, String> {
        let none = |why: String| format!("no energy counter in {}: {why}", folder.display());
        let mut zones = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| none(error.to_string()))?.flatten() {
            let path = entry.path();
            let Ok(name) = read(&path.join("name")) else { continue };
            // Cores and graphics are parts of their package.
            if entry.file_name().to_string_lossy().starts_with("intel-rapl:")
                && (name.starts_with("package") || name == "dram")
            {
                zones.push(Zone::open(&path, name)?);
            }
        }
        match zones.is_empty() {
            true => Err(none("this processor, or this virtual machine, has none".to_owned())),
            false => Ok(Self { zones }),
        }
    }
}

impl Zone {
    fn open(path: &Path, name: String) -> Result<Self, String> {
        let counter = path.join("energy_uj");
        let range = number(&path.join("max_energy_range_uj"))?;
        let last = number(&counter)?;
        Ok(Self { name, counter, range, last })
    }

    fn microjoules(&mut self) -> Result<u64, String> {
        let now = number(&self.counter)?;
        let since =
            if now >= self.last { now - self.last } else { self.range - self.last.min(self.range) + now };
        self.last = now;
        Ok(since)
    }
}

impl Meter for Rapl {
    fn joules(&mut self) -> Result<f64, String> {
        let all = self.zones.iter_mut().map(Zone::microjoules).sum::<Result<u64, String>>()?;
        Ok(all as f64 / 1e6)
    }
}

impl fmt::Display for Rapl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.zones.iter().map(|zone| zone.name.as_str()).collect();
        write!(f, "the processor's counters (RAPL: {}), whoever uses it", names.join(", "))
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Result<u64, String> {
    let text = read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "; let this user read it, or run as root",
            _ => "",
        };
        format!("cannot read {}: {error}{remedy}", path.display())
    })?;
    text.parse().map_err(|_| format!("{} holds {text:?}, not a number", path.display()))
}

/// One card's counter: the whole board, whoever uses it.
pub(super) struct Nvml {
    nvml: nvml_wrapper::Nvml,
    uuid: String,
    name: String,
    last: u64,
}

impl Nvml {
    /// The card that CUDA calls `index`: the driver counts those that `CUDA_VISIBLE_DEVICES` lists.
    pub(super) fn open(index: u32) -> Result<Self, String> {
        let nvml = nvml_wrapper::Nvml::init().map_err(|error| format!("NVML does not load: {error}"))?;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let said = |error| format!("NVML on CUDA device {index}: {error}");
        let (uuid, name, last) = {
            let device = match card(visible.as_deref(), index) {
                Card::Number(number) => nvml.device_by_index(number),
                Card::Uuid(uuid) => nvml.device_by_uuid(uuid),
            };
            let device = device.map_err(said)?;
            let uuid = device.uuid().map_err(said)?;
            let name = device.name().map_err(said)?;
            (uuid, name, device.total_energy_consumption().map_err(said)?)
        };
        Ok(Self { nvml, uuid, name, last })
    }
}

/// How a card is named to NVML.
#[derive(Debug, PartialEq)]
enum Card<'a> {
    Number(u32),
    Uuid(&'a str),
}

fn card(visible: Option<&str>, index: u32) -> Card<'_> {
    let listed = visible.and_then(|list| list.split(',').map(str::trim).nth(index as usize));
    match listed.filter(|name| !name.is_empty()) {
        Some(name) => name.parse().map_or(Card::Uuid(name), Card::Number),
        None => Card::Number(index),
    }
}

impl Meter for Nvml {
    fn joules(&mut self) -> Result<f64, String> {
        let device = self.nvml.device_by_uuid(self.uuid.as_str());
        let now =
            device.and_then(|device| device.total_energy_consumption()).map_err(|error| error.to_string())?;
        // It starts at nothing when the driver is loaded again.
        let since = now.checked_sub(self.last).unwrap_or(now);
        self.last = now;
        Ok(since as f64 / 1e3)
    }
}

impl fmt::Debug for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvml").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

impl fmt::Display for Nvml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'s counter (NVML), the whole board", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(folder: &Path, zone: &str, name: &str, energy: u64) -> PathBuf {
        let path = folder.join(zone);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("name"), format!("{name}\n")).unwrap();
        fs::write(path.join("max_energy_range_uj"), "1000000\n").unwrap();
        fs::write(path.join("energy_uj"), format!("{energy}\n")).unwrap();
        path.join("energy_uj")
    }

    #[test]
    fn packages_and_memory_are_added_up_also_around_the_end_of_a_counter() {
        let folder = tempfile::tempdir().unwrap();
        let package = zone(folder.path(), "intel-rapl:0", "package-0", 900_000);
        let memory = zone(folder.path(), "intel-rapl:0:1", "dram", 5);
        zone(folder.path(), "intel-rapl:0:0", "core", 77);
        zone(folder.path(), "dtpm", "package-lookalike", 77);
        let mut meter = Rapl::open_in(folder.path()).unwrap();
        assert_eq!(meter.joules(), Ok(0.0));
        fs::write(&package, "200000").unwrap();
        fs::write(&memory, "500005").unwrap();
        assert_eq!(meter.joules(), Ok(0.3 + 0.5));
        let words = meter.to_string();
        assert!(words.contains("package-0") && words.contains("dram") && !words.contains("core"), "{words}");
    }

    #[test]
    fn a_machine_without_counters_and_a_damaged_one_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Rapl::open_in(folder.path()).unwrap_err();
        assert!(error.contains("this virtual machine"), "{error}");
        fs::write(zone(folder.path(), "intel-rapl:0", "package-0", 1), "much").unwrap();
        let error = Rapl::open_in(folder.path()).unwrap_err();
        assert!(error.contains("energy_uj holds \"much\", not a number"), "{error}");
    }

    #[test]
    fn cards_are_found_under_the_name_that_cuda_was_given() {
        assert_eq!(card(None, 1), Card::Number(1));
        assert_eq!(card(Some("3, 2"), 1), Card::Number(2));
        assert_eq!(card(Some("GPU-7d"), 0), Card::Uuid("GPU-7d"));
        assert_eq!(card(Some(""), 0), Card::Number(0));
    }
}
