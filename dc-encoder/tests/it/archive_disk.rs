//! The archive on a disk that is full, read-only or broken: said, and nothing that was stored is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use dc_encoder::archive::Archive;
use tempfile::TempDir;

use crate::archive::{incoming, picture};

/// Two folders of pictures.
fn pictures(dir: &Path) -> [PathBuf; 2] {
    ["first", "second"].map(|name| {
        let folder = dir.join(name);
        std::fs::create_dir(&folder).unwrap();
        for i in 0..30 {
            let number = i + if name == "first" { 0 } else { 100 };
            std::fs::write(folder.join(format!("2026-06-01T12_00_{i:02}.jpg")), picture(number)).unwrap();
        }
        folder
    })
}

/// Runs a script in a mount namespace of its own, where `$DISK` is a small disk: what it prints.
fn with_small_disk(script: &str) -> String {
    const REMEDY: &str = "user and mount namespaces must be allowed (sysctl kernel.unprivileged_userns_clone=1, \
        user.max_user_namespaces above 0, kernel.apparmor_restrict_unprivileged_userns=0; in a container CAP_SYS_ADMIN)";
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let [first, second] = pictures(dir.path());
    let script = format!("set -e\nmount -t tmpfs -o size=12M small \"$DISK\"\necho mounted\n{script}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env("DISK", &disk)
        .env("FIRST", first)
        .env("SECOND", second)
        .env("ARCHIVE", disk.join("archive"))
        .env("DC", env!("CARGO_BIN_EXE_dc-encoder"))
        .output()
        .expect("this test needs unshare: apt-get install util-linux");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("mounted"), "{REMEDY}: {why}");
    assert!(output.status.success(), "{said}\n{why}");
    format!("{said}{why}")
}

#[test]
fn a_full_disk_is_said_and_costs_nothing_that_was_stored() {
    let said = with_small_disk(
        r#"
        $DC archive add --archive "$ARCHIVE" --camera gate --frames "$FIRST" 2>&1
        dd if=/dev/zero of="$DISK/filler" bs=4k 2>/dev/null || echo full
        if $DC archive add --archive "$ARCHIVE" --camera gate --frames "$SECOND" 2>&1; then echo accepted; fi
        rm "$DISK/filler"
        $DC archive verify --archive "$ARCHIVE" 2>&1
        $DC archive add --archive "$ARCHIVE" --camera gate --frames "$SECOND" 2>&1
        $DC archive verify --archive "$ARCHIVE" 2>&1
        ls "$ARCHIVE/incoming" "$ARCHIVE/intents" | grep -c -e '-' -e intent$ || true
        "#,
    );
    assert!(said.contains("full\n") && !said.contains("accepted"), "{said}");
    assert!(said.contains("error: ") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("make room"), "{said}");
    assert!(said.contains("30 frames (") && said.contains("30 frames added"), "{said}");
    assert!(said.contains("60 frames ("), "{said}");
    assert_eq!(said.matches(": 0 faults").count(), 2, "{said}");
}

#[test]
fn a_read_only_disk_is_said() {
    let said = with_small_disk(
        r#"
        $DC archive add --archive "$ARCHIVE" --camera gate --frames "$FIRST" 2>&1
        mount -o remount,ro "$DISK"
        if $DC archive add --archive "$ARCHIVE" --camera gate --frames "$SECOND" 2>&1; then echo accepted; fi
        if $DC archive init --archive "$DISK/other" 2>&1; then echo accepted; fi
        mount -o remount,rw "$DISK"
        $DC archive verify --archive "$ARCHIVE" 2>&1
        "#,
    );
    assert!(!said.contains("accepted"), "{said}");
    let remedy = "the disk is read-only: mount it for writing, or name another --archive";
    assert_eq!(said.matches(remedy).count(), 2, "{said}");
    assert!(said.contains("30 frames (") && said.contains(": 0 faults"), "{said}");
}

#[test]
fn a_damaged_index_is_said_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("archive");
    let archive = Archive::open(&at).unwrap();
    archive.add((0..50).map(|i| incoming("plaza-1", i)).collect()).unwrap();
    drop(archive);
    let index = at.join("index.redb");
    let whole = std::fs::read(&index).unwrap();
    let zeroed = {
        let mut bytes = whole.clone();
        bytes[64..4096].fill(0);
        bytes
    };
    for (what, bytes) in [
        ("another file", b"<html>404</html>".repeat(400)),
        ("its beginning", whole[..1000].to_vec()),
        ("its first half", whole[..whole.len() / 2].to_vec()),
        ("without its roots", zeroed),
    ] {
        std::fs::write(&index, &bytes).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_dc-encoder"))
            .args(["archive", "stats", "--archive"])
            .arg(&at)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{what}");
        assert!(
            said.contains("index.redb is damaged (") && said.contains("put a backup of it back"),
            "{what}: {said}"
        );
        assert!(!said.contains("panicked"), "{what}: {said}");
    }
    std::fs::write(&index, &whole).unwrap();
    assert_eq!(Archive::open(&at).unwrap().verify(false).unwrap().faults, []);
}
