//! Frames of files and streams come into the archive, once, with their times.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dc_encoder::archive::{Archive, Found, Query};
use dc_encoder::model::file::{self, Precision};
use dc_encoder::model::init;
use shared::image::{Limits, jpeg};
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

/// Whether the columns in the left half, but for those whose blocks reach into the right one, are grey.
fn left_half_is_grey(jpeg: &[u8]) -> bool {
    let picture = jpeg::decode(jpeg, &Limits::default()).unwrap();
    let hidden = (0..picture.height).flat_map(|y| (0..picture.width / 2 - 16).map(move |x| (x, y)));
    hidden.clone().count() > 100
        && hidden.into_iter().all(|(x, y)| picture.pixel(x, y).iter().all(|it| it.abs_diff(128) < 3))
}

#[test]
fn what_a_mask_hides_is_in_no_frame_that_is_kept() {
    let world = World::new();
    // JPEGs, which would be kept as they are, and a video.
    let folder = frames(world.dir.path(), 3);
    let clip = world.path("clip.mp4");
    video(&clip);
    for source in [&folder, &clip] {
        world.collect(&[source.to_str().unwrap(), "--mask", "0,0,0.5,1"]).unwrap();
    }
    let archive = Archive::open_existing(&world.path("archive")).unwrap();
    let jpegs: Vec<Vec<u8>> = world.found().iter().map(|it| archive.jpeg(&it.record).unwrap()).collect();
    assert!(jpegs.len() > 3);
    for jpeg in jpegs {
        assert!(left_half_is_grey(&jpeg));
    }
    assert!(!left_half_is_grey(&std::fs::read(folder.join("000.jpg")).unwrap()));
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
        (vec![text.to_str().unwrap(), "--mask", "0,0,1"], "\"0,0,1\" is neither left,top,right,bottom"),
        (vec![text.to_str().unwrap(), "--mask", "0,0,640,480"], "640 is outside the picture"),
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

/// A server on loopback that writes what `serve` writes to each connection, of which there is a number.
fn stream_server(
    serve: impl Fn(usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    // Ends with the test's process, as its listener does.
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let (mut connection, serve) = (connection.unwrap(), Arc::clone(&serve));
            std::thread::spawn(move || {
                let mut asked = BufReader::new(connection.try_clone().unwrap());
                let mut line = String::new();
                while asked.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = serve(number, &mut connection);
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_stream_that_stalls_is_opened_again_and_each_frame_counts_once() {
    let world = World::new();
    let shown = Arc::new(AtomicUsize::new(0));
    // Ten pictures and then nothing, at each connection; the first one is the last one's again.
    let server = stream_server(move |_, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")?;
        for i in 0..10 {
            let number = shown.fetch_add(usize::from(i > 0), Ordering::SeqCst) + usize::from(i > 0);
            let frame = super::archive::picture(number as u32);
            let head =
                format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", frame.len());
            to.write_all(&[head.as_bytes(), &frame, b"\r\n"].concat())?;
            std::thread::sleep(Duration::from_millis(100)); // ten a second, as a camera
        }
        to.write_all(b"--frame\r\n")?;
        std::thread::sleep(Duration::from_secs(600)); // a stall
        Ok(())
    });
    let output = Command::new(env!("CARGO_BIN_EXE_dc-encoder"))
        .args(["collect", &format!("{server}/video.mjpg"), "--camera", "plaza-1", "--archive"])
        .arg(world.path("archive"))
        .args(["--rate", "10", "--stall", "1s", "--frames", "14"])
        .output()
        .unwrap();
    let (said, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{log}");
    assert!(said.contains("frames kept in"), "{said}");
    assert!(world.found().len() >= 14, "{}", world.found().len());
    assert!(log.contains("no frame for 1.1s"), "{log}");
    assert!(log.contains("the stream is gone, trying again after the wait"), "{log}");
    assert!(log.contains("frames come"), "{log}");
}

#[test]
fn what_never_gives_a_frame_is_given_up_with_its_words() {
    let world = World::new();
    let page = stream_server(|_, to| {
        let body = "<html><body>a page</body></html>";
        write!(
            to,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let silent = stream_server(|_, _| {
        std::thread::sleep(Duration::from_secs(600));
        Ok(())
    });
    for (url, want) in [
        (format!("{page}/live.m3u8"), "failed 3 times in a row, the last time because"),
        (format!("{page}/video.mjpg"), "failed 3 times in a row, the last time because"),
        (format!("{silent}/live.m3u8"), "no first frame for"),
    ] {
        let error = world.collect(&[&url, "--stall", "400ms"]).unwrap_err();
        assert!(error.contains(&url) && error.contains(want), "{url}: {error}");
    }
    assert!(!world.path("archive/frames/plaza-1").exists());
}

#[test]
fn a_schedule_may_be_said_as_what_it_is() {
    let world = World::new();
    let clip = world.path("clip.mp4");
    video(&clip);
    // A video's own time is not the clock's: it is taken whenever, once the schedule opens.
    let error = world.collect(&[clip.to_str().unwrap(), "--during", "7-19"]).unwrap_err();
    assert!(error.contains("`7-19` is no schedule"), "{error}");
    let said = world.collect(&[clip.to_str().unwrap(), "--during", "00:00-24:00", "--rate", "1"]).unwrap();
    assert!(said.starts_with("plaza-1: 4 frames kept in "), "{said}");
}

#[test]
fn a_camera_keeps_no_more_bytes_than_it_may() {
    let (measured, world) = (World::new(), World::new());
    let clip = world.path("clip.mp4");
    video(&clip);
    let args = [clip.to_str().unwrap(), "--rate", "5", "--start", "2026-06-01T12:00:00Z"];
    measured.collect(&args).unwrap();
    let all = measured.found();
    let bytes: u64 = all.iter().map(|it| it.record.bytes).sum();
    assert_eq!(all.len(), 20);
    let limit = (bytes / 3).to_string();
    let said = world.collect(&[&args[..], &["--keep-bytes", &limit]].concat()).unwrap();
    let left = world.found();
    assert!(said.starts_with("plaza-1: 20 frames kept in "), "{said}");
    assert!(said.contains(&format!("{} removed", 20 - left.len())), "{said}");
    assert!((4..=7).contains(&left.len()), "{}", left.len());
    assert!(left.iter().map(|it| it.record.bytes).sum::<u64>() <= bytes / 3);
    assert_eq!(left.last().unwrap().record.id, all[19].record.id, "the newest stay");
}
