//! Processor, memory, graphics cards, clock, disk, limits.

use std::path::Path;

use shared::report::Item;

use super::{ask, read};
use crate::backend::cuda;
use crate::serve::Config;

/// Below this even the demo encoder has no room beside the system.
const LEAST_MEMORY_KIB: u64 = 1024 * 1024;
/// A seed-80m model, its registry, and logs.
const LEAST_DISK_KIB: u64 = 2 * 1024 * 1024;
/// Files of the program itself: model, registry, logs, metrics.
const OWN_FILES: u64 = 256;
/// PCI's number of NVIDIA.
const NVIDIA: &str = "0x10de";

pub(super) fn examine(config: &Config) -> Vec<Item> {
    let mut items = vec![processor(&read("/proc/cpuinfo")), memory(&read("/proc/meminfo"))];
    items.extend(cards());
    items.push(clock(ask("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref()));
    let places = [config.model.as_deref(), config.registry.as_deref(), config.enroll.dir.as_deref()];
    for place in places.into_iter().flatten().filter_map(existing) {
        let table = ask("df", &["-Pk", &place.to_string_lossy()]).unwrap_or_default();
        items.extend(disk(place, &table));
    }
    let sockets = if config.tcp.is_some() { config.limits.max_sessions as u64 } else { 0 };
    items.extend(open_files(&read("/proc/self/limits"), OWN_FILES + sockets));
    items
}

/// The folder, or the nearest one above that is there.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists())
}

fn processor(cpuinfo: &str) -> Item {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let name = value("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let flags = value("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|have| have == flag);
    let faster = [("avx512_bf16", "--precision bf16"), ("avx512_vnni", "--precision int8")];
    let faster: Vec<&str> =
        faster.into_iter().filter(|(flag, _)| has(flag)).map(|(_, option)| option).collect();
    let words = format!("{name}, {cores} threads");
    match (has("avx512f"), faster.is_empty()) {
        (true, false) => Item::ok("processor", format!("{words}, AVX-512; faster: {}", faster.join(" or "))),
        (true, true) => Item::ok("processor", format!("{words}, AVX-512")),
        _ => Item::ok("processor", format!("{words}; without AVX-512 encoding takes longer")),
    }
}

fn memory(meminfo: &str) -> Item {
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = available.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let Some(kib) = kib else { return Item::warn("memory", "nobody knows how much is free", "") };
    let words = format!("{:.1} GiB free", kib as f64 / 1024.0 / 1024.0);
    if kib < LEAST_MEMORY_KIB {
        return Item::warn(
            "memory",
            words,
            "seed-80m wants 1 GiB, a registry and a thousand cameras more: add some",
        );
    }
    Item::ok("memory", words)
}

fn cards() -> Vec<Item> {
    let version = read("/proc/driver/nvidia/version");
    let driver = version.lines().next().unwrap_or_default().to_owned();
    match cuda::devices() {
        Ok(devices) if !devices.is_empty() => {
            let mut items: Vec<Item> = devices.into_iter().map(|device| Item::ok("card", device)).collect();
            if !driver.is_empty() {
                items.push(Item::ok("driver", driver));
            }
            items
        }
        found => {
            let why = found.err().unwrap_or_else(|| "CUDA knows of none".to_owned());
            vec![no_card(has_nvidia(Path::new("/sys/bus/pci/devices")), &driver, &why)]
        }
    }
}

fn has_nvidia(bus: &Path) -> bool {
    let devices = std::fs::read_dir(bus).into_iter().flatten().flatten();
    let vendor = |device: std::fs::DirEntry| std::fs::read_to_string(device.path().join("vendor"));
    devices.filter_map(|device| vendor(device).ok()).any(|vendor| vendor.trim() == NVIDIA)
}

fn no_card(present: bool, driver: &str, why: &str) -> Item {
    match (present, driver.is_empty()) {
        (false, _) => {
            Item::ok("card", "no NVIDIA card: the processor encodes, or --device wgpu another card")
        }
        (true, true) => Item::fail(
            "card",
            format!("an NVIDIA card without its driver ({why})"),
            "`sudo apt-get install nvidia-driver` (Debian: non-free), or `sudo ubuntu-drivers install`; then reboot",
        ),
        (true, false) => Item::fail(
            "card",
            format!("{driver}, and CUDA cannot be used: {why}"),
            "where a library is missing, install it; `nvidia-smi` says more, and `sudo modprobe nvidia-uvm` makes \
             /dev/nvidia-uvm",
        ),
    }
}

/// `synchronized`: what timedatectl says.
fn clock(synchronized: Option<&str>) -> Item {
    let now = format!("{:.0}", jiff::Timestamp::now());
    match synchronized.map(str::trim) {
        Some("yes") => Item::ok("clock", format!("{now}, synchronised")),
        Some(_) => Item::warn(
            "clock",
            format!("{now}, not synchronised: certificates and tokens go by it"),
            "`sudo timedatectl set-ntp true`",
        ),
        None => Item::ok("clock", format!("{now}; whether it is synchronised, nothing here tells")),
    }
}

/// The second line of `df -Pk`: file system, blocks, used, free, …
fn disk(place: &Path, table: &str) -> Option<Item> {
    let free: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    let words = format!("{:.1} GiB free at {}", free as f64 / 1024.0 / 1024.0, place.display());
    Some(if free < LEAST_DISK_KIB {
        Item::warn("disk", words, "make room: `sudo du -xh / | sort -h | tail` shows what takes it")
    } else {
        Item::ok("disk", words)
    })
}

fn open_files(limits: &str, needed: u64) -> Option<Item> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let soft = line.split_whitespace().nth(3)?;
    let enough = soft == "unlimited" || soft.parse().is_ok_and(|soft: u64| soft >= needed);
    let words = format!("{soft} allowed, {needed} needed at most");
    Some(if enough {
        Item::ok("open files", words)
    } else {
        Item::fail("open files", words, "`ulimit -n 65536`, or LimitNOFILE=65536 in the service's unit")
    })
}

#[cfg(test)]
mod tests {
    use shared::report::Status;

    use super::*;

    #[test]
    fn processors_are_told_what_makes_them_faster() {
        let words = |flags: &str| processor(&format!("model name\t: Chip 9\nflags\t\t: fpu {flags}\n")).words;
        assert!(words("avx2").contains("without AVX-512"));
        assert!(words("avx512f avx512_bf16 avx512_vnni").contains("--precision bf16 or --precision int8"));
        assert!(words("avx512f").starts_with("Chip 9, ") && processor("").words.contains("threads"));
    }

    #[test]
    fn little_room_is_pointed_out() {
        assert_eq!(memory("MemAvailable:   8000000 kB\n").status, Status::Ok);
        assert_eq!(memory("MemAvailable:   800000 kB\n").status, Status::Warn);
        assert_eq!(memory("").status, Status::Warn);
        let df = |free: u64| {
            format!("Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 9 9 {free} 9% /\n")
        };
        assert_eq!(disk(Path::new("/"), &df(9_000_000)).unwrap().status, Status::Ok);
        assert_eq!(disk(Path::new("/"), &df(9)).unwrap().status, Status::Warn);
        assert_eq!(disk(Path::new("/"), ""), None);
    }

    #[test]
    fn limits_are_held_against_what_is_needed() {
        let limits = |soft: &str| {
            format!("Max open files            {soft}                 524288               files\n")
        };
        let status = |soft: &str, needed| open_files(&limits(soft), needed).unwrap().status;
        assert_eq!([status("1024", 1024), status("unlimited", 9)], [Status::Ok; 2]);
        assert_eq!(status("1024", 1025), Status::Fail);
        assert_eq!(open_files("", 1), None);
    }

    #[test]
    fn a_card_without_its_driver_is_told_which_command() {
        assert_eq!(no_card(false, "", "").status, Status::Ok);
        let item = no_card(true, "", "no libcuda");
        assert!(item.status == Status::Fail && item.remedy.contains("nvidia-driver"), "{item}");
        assert!(no_card(true, "NVRM version 1", "error 999").to_string().contains("nvidia-smi"));
    }

    #[test]
    fn a_clock_that_nobody_sets_is_pointed_out() {
        assert_eq!(clock(Some("yes\n")).status, Status::Ok);
        assert!(clock(Some("no\n")).remedy.contains("set-ntp"));
        assert_eq!(clock(None).status, Status::Ok);
    }
}
