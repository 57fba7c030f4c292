//! A camera's device file: who may open it, and who has it open.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Item;

/// What a process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Me {
    user: u32,
    groups: Vec<u32>,
}

impl Me {
    /// From `/proc/self/status`.
    fn parse(status: &str) -> Option<Self> {
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let numbers =
            |text: &str| text.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<u32>>();
        // Real, effective, saved, of the file system.
        let user = *numbers(line("Uid:")?).get(1)?;
        let mut groups = numbers(line("Groups:")?);
        groups.extend(numbers(line("Gid:")?).get(1));
        Some(Self { user, groups })
    }

    /// Whether the mode lets it read and write.
    fn may(&self, mode: u32, user: u32, group: u32) -> bool {
        let bits = match () {
            () if self.user == 0 => return true,
            () if self.user == user => mode >> 6,
            () if self.groups.contains(&group) => mode >> 3,
            () => mode,
        };
        bits & 0o6 == 0o6
    }
}

/// A group's name, by `/etc/group`.
fn group_name(groups: &str, id: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

/// What keeps this process from opening the device, and whoever has it open already.
pub(super) fn check(path: &Path) -> Vec<Item> {
    let Ok(file) = path.metadata() else { return Vec::new() };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut items = Vec::new();
    if let Some(me) = Me::parse(&status)
        && !me.may(file.mode(), file.uid(), file.gid())
    {
        let name = group_name(&groups, file.gid()).map_or_else(|| file.gid().to_string(), str::to_owned);
        let words = format!(
            "{} belongs to group {name} (mode {:o}), and this process, of user {}, is not in it",
            path.display(),
            file.mode() & 0o777,
            me.user
        );
        let remedy = format!("`sudo usermod -aG {name} $USER`, then log in again");
        items.push(Item::fail("device", words, remedy));
    }
    if let Some((pid, program)) = holder(path) {
        let words = format!("{} is open in {program} (process {pid})", path.display());
        items.push(Item::warn("device", words, format!("fine if that is the agent; else `sudo kill {pid}`")));
    }
    items
}

/// Another process that has the file open, as far as this one may look.
fn holder(path: &Path) -> Option<(u32, String)> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .find_map(|pid| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
            let open = files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == path);
            let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            open.then(|| (pid, name().trim().to_owned()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tedge-agent\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t27 44 \n";

    #[test]
    fn who_may_open_a_device() {
        let me = Me::parse(STATUS).unwrap();
        assert_eq!(me, Me { user: 1000, groups: vec![27, 44, 1000] });
        assert!(me.may(0o660, 0, 44));
        assert!(!me.may(0o660, 0, 45) && !me.may(0o640, 0, 44));
        assert!(me.may(0o600, 1000, 0) && me.may(0o666, 0, 0));
        assert!(Me { user: 0, groups: vec![] }.may(0o000, 5, 5));
        assert_eq!(Me::parse("nothing"), None);
    }

    #[test]
    fn groups_have_names() {
        let groups = "root:x:0:\nvideo:x:44:ann\n";
        assert_eq!((group_name(groups, 44), group_name(groups, 45)), (Some("video"), None));
    }

    #[test]
    fn whoever_holds_a_device_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("video0");
        std::fs::write(&path, "").unwrap();
        assert_eq!(holder(&path), None);
        let file = std::fs::File::open(&path).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(file)
            .stdout(std::process::Stdio::null())
            .arg("-")
            .arg("/dev/zero")
            .spawn()
            .unwrap();
        let found = holder(&path);
        let pid = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some((pid, "cat".to_owned())));
    }
}
