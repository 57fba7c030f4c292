//! Frames of files and streams come into the archive, once, with their times.

use std::path::{Path, PathBuf};
use std::process::Command;

use dc_encoder::archive::{Archive, Found, Query};
use dc_encoder::model::file::{self, Precision};
use dc_encoder::model::init;
use tempfile::TempDir;

use super::pretrain::{frames, tiny};

struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `dc-encoder collect`: what it prints, or says when it fails.
    fn collect(&self, args: &[&str]) -> Result<String, String> {
        let out = Command::new(env!("CARGO_BIN_EXE_dc-encoder"))
            .args(["collect", "--camera", "plaza-1", "--archive"])
            .arg(self.path("archive"))
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
    }

    fn found(&self) -> Vec<Found> {
        let archive = Archive::open_existing(&self.path("archive")).unwrap();
        assert_eq!(archive.verify(false).unwrap().faults, []);
        archive.find(&Query::default()).unwrap()
    }
}

/// Four seconds of a moving test picture, ten frames a second.
fn video(path: &Path) {
    let status = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=64x48:rate=10:duration=4",
        ])
        .arg(path)
        .status()
        .expect("this test needs ffmpeg: apt-get install ffmpeg");
    assert!(status.success());
}

#[test]
fn a_video_is_collected_at_a_rate_with_times_from_its_beginning() {
    let world = World::new();
    let clip = world.path("clip.mp4");
    video(&clip);
    let args = [clip.to_str().unwrap(), "--rate", "2", "--start", "2026-06-01T12:00:00Z", "--zone", "+02:00"];
    let said = world.collect(&args).unwrap();
    assert!(said.starts_with("plaza-1: 8 frames kept in "), "{said}");
    let found = world.found();
    let times: Vec<String> = found.iter().map(|it| it.record.captured_at.to_string()).collect();
    assert_eq!(times[..3], ["2026-06-01T12:00:00Z", "2026-06-01T12:00:00.5Z", "2026-06-01T12:00:01Z"]);
    let record = &found[3].record;
    assert_eq!(
        (record.width, record.height, record.uncertainty_ms, record.zone.as_str()),
        (64, 48, 500, "+02:00")
    );
    assert!(record.source.contains("clip.mp4"), "{}", record.source);
    let again = world.collect(&args).unwrap();
    assert!(again.contains("0 frames kept") && again.contains("8 were there"), "{again}");
}

#[test]
fn a_folder_keeps_its_own_times_and_a_model_adds_embeddings() {
    let world = World::new();
    let folder = frames(world.dir.path(), 12);
    let model = world.path("model");
    file::save(&model, &tiny(), &init::random(&tiny(), 2).unwrap(), Precision::F32, false).unwrap();
    let (folder, model) = (folder.to_str().unwrap(), model.to_str().unwrap());
    let said = world.collect(&[folder, "--model", model, "--device", "cpu", "--frames", "9"]).unwrap();
    assert!(said.starts_with("plaza-1: 9 frames kept"), "{said}");
    let archive = Archive::open_existing(&world.path("archive")).unwrap();
    let embedded = archive.embeddings("plaza-1", None).unwrap();
    assert_eq!((embedded.ids.len(), embedded.dim), (9, tiny().embed_dim));
    let jpegs: Vec<Vec<u8>> = world.found().iter().map(|it| archive.jpeg(&it.record).unwrap()).collect();
    assert!(jpegs.contains(&std::fs::read(world.path("frames/000.jpg")).unwrap()), "a JPEG stays as it was");
}

#[test]
fn what_is_no_source_is_explained() {
    let world = World::new();
    let text = world.path("page.mp4");
    std::fs::write(&text, "<html>not a video</html>").unwrap();
    for (args, want) in [
        (vec!["nowhere.mp4"], "nowhere.mp4 does not exist"),
        (vec!["gopher://host/x"], "gopher"),
        (vec![text.to_str().unwrap()], "ffmpeg cannot read "),
        (
            vec!["--page", "http://127.0.0.1:9/watch", "--yt-dlp", "/nowhere/yt-dlp"],
            "/nowhere/yt-dlp was not found: install it",
        ),
        (vec![text.to_str().unwrap(), "--rate", "often"], "`often` is no rate"),
        (vec![text.to_str().unwrap(), "--schedule", "6-20"], "`6-20` is no schedule"),
        (vec![text.to_str().unwrap(), "--zone", "Mars"], "\"Mars\" is no time zone"),
    ] {
        let error = world.collect(&args).unwrap_err();
        assert!(error.contains(want), "{args:?}: {error}");
    }
}

#[test]
fn a_page_is_resolved_by_yt_dlp() {
    let world = World::new();
    let clip = world.path("clip.mp4");
    video(&clip);
    // Stands in for yt-dlp: checks what it is asked for, and answers with an address.
    let fake = |name: &str, body: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = world.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = fake(
        "good",
        &format!("for last; do :; done\n[ \"$last\" = https://youtu.be/x ] && echo {}", clip.display()),
    );
    let said = world.collect(&["https://youtu.be/x", "--yt-dlp", &good, "--rate", "1"]).unwrap();
    assert!(said.starts_with("plaza-1: 4 frames kept"), "{said}");
    assert_eq!(world.found()[0].record.source.split('#').next(), Some("https://youtu.be/x"));
    let bad = fake("bad", "echo 'ERROR: [youtube] x: Video unavailable' >&2; exit 1");
    let error = world.collect(&["https://youtu.be/x", "--yt-dlp", &bad]).unwrap_err();
    assert!(
        error.contains("yt-dlp finds no video at https://youtu.be/x: ERROR: [youtube] x: Video unavailable"),
        "{error}"
    );
}
