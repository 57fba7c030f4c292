//! Pictures and videos on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use edge_agent::capture::{CaptureError, Image, Options, SourceUri, open};
use shared::image::{Chroma, Rgb, jpeg};

use super::capture_support::{LIMIT, NamedFfmpeg, ffmpeg, lost, next, quick, run, until};

fn jpeg_of(red: u8) -> Vec<u8> {
    jpeg::encode(&Rgb::filled(32, 16, [red, 20, 30]), 80, Chroma::C420)
}

/// A folder of `count` pictures, named in order.
fn folder(dir: &Path, count: usize) {
    for n in 0..count {
        std::fs::write(dir.join(format!("{n:04}.jpg")), jpeg_of(n as u8)).unwrap();
    }
}

#[tokio::test]
async fn a_folder_is_read_whole_and_bad_files_are_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 3);
    std::fs::write(dir.path().join("0001.jpg"), b"this is no picture").unwrap();
    std::fs::write(dir.path().join("0003.jpg"), b"").unwrap();
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "color=red:size=20x10",
        "-frames:v",
        "1",
        dir.path().join("0004.png").to_str().unwrap(),
    ]);
    std::fs::write(dir.path().join("0005.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
    std::fs::create_dir(dir.path().join("2023-06-13T03_11_46")).unwrap();
    let mut running = run(dir.path().to_str().unwrap(), &quick());
    let mut seen = Vec::new();
    while let Some(frame) = next(&mut running).await {
        let id = frame.id.clone().unwrap();
        match &frame.image {
            Image::Jpeg(bytes) => assert!(*bytes == std::fs::read(dir.path().join(&id)).unwrap(), "{id}"),
            Image::Rgb(image) => {
                assert_eq!((image.width, image.height, id.as_str()), (20, 10, "0004.png"));
                assert!(image.data[0] > 250 && image.data[1] < 5);
            }
            Image::Yuyv { .. } => panic!("{id}"),
        }
        assert!(frame.ready >= frame.started);
        seen.push((frame.seq, id));
    }
    let expected = [(0, "0000.jpg"), (2, "0002.jpg"), (4, "0004.png")];
    assert!(seen.iter().map(|(seq, id)| (*seq, id.as_str())).eq(expected), "{seen:?}");
    let counts = running.frames.counts();
    assert_eq!((counts.taken, counts.replaced), (3, 0));
    assert_eq!(running.pump.finish(LIMIT).unwrap(), 6);
    let (count, reasons) = lost(&mut running.losses).await;
    assert_eq!(count, 3);
    assert!(reasons[0].contains("neither JPEG nor PNG"), "{reasons:?}");
    assert!(reasons[1].contains("empty"), "{reasons:?}");
    assert!(reasons[2].starts_with("unreadable: "), "{reasons:?}");
}

#[tokio::test]
async fn at_a_frame_rate_files_are_a_camera_that_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 60);
    let mut running = run(dir.path().to_str().unwrap(), &Options { fps: Some(500.0), ..quick() });
    // A consumer that is busy from its first frame until the source is through.
    let first = next(&mut running).await.unwrap();
    let mut frames = running.frames;
    let (count, reasons) = lost(&mut running.losses).await;
    // On a busy machine the source may be through before anything is taken.
    let last = frames.take().await.unwrap_or(first);
    assert!(frames.take().await.is_none());
    assert_eq!(last.id.as_deref(), Some("0059.jpg"), "the newest one is kept");
    assert_eq!(count + frames.counts().taken, 60);
    assert!(reasons.iter().all(|reason| reason == "superseded by a newer frame"));
    assert_eq!(running.pump.finish(LIMIT).unwrap(), 60);
}

#[tokio::test]
async fn one_picture_is_a_source_with_the_time_in_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("2023-06-13T03_11_46Z.jpg");
    std::fs::write(&path, jpeg_of(1)).unwrap();
    let mut running = run(path.to_str().unwrap(), &quick());
    let frame = next(&mut running).await.unwrap();
    assert_eq!(frame.captured_at.to_string(), "2023-06-13T03:11:46Z");
    assert!(next(&mut running).await.is_none());
}

#[tokio::test]
async fn a_frame_left_in_the_slot_at_shutdown_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 5);
    let mut running = run(dir.path().to_str().unwrap(), &quick());
    next(&mut running).await.unwrap();
    // The second frame is put into the slot and waits there.
    while running.frames.counts().held == 0 {
        tokio::task::yield_now().await;
    }
    let captured = running.pump.finish(LIMIT).unwrap();
    assert_eq!((captured, running.frames.close().map(|frame| frame.seq)), (2, Some(1)));
    assert_eq!(lost(&mut running.losses).await.0, 0);
}

fn clip(dir: &Path, seconds: u32) -> String {
    let path = dir.join("clip.mp4").to_str().unwrap().to_owned();
    let source = format!("color=c=0x2060c0:size=160x90:rate=10:duration={seconds}");
    ffmpeg(&["-f", "lavfi", "-i", &source, "-c:v", "libx264", "-pix_fmt", "yuv420p", &path]);
    path
}

#[tokio::test]
async fn a_video_file_gives_every_frame_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let program = NamedFfmpeg::new(dir.path());
    let mut running = run(&clip(dir.path(), 2), &Options { ffmpeg: program.0.clone(), ..quick() });
    for n in 0..20 {
        let frame = next(&mut running).await.unwrap();
        assert_eq!((frame.seq, frame.id), (n, Some(format!("clip.mp4#{n}"))));
        let Image::Rgb(image) = frame.image else { panic!("{:?}", frame.image) };
        assert_eq!((image.width, image.height), (160, 90));
        for (got, wanted) in image.pixel(80, 45).into_iter().zip([0x20, 0x60, 0xc0]) {
            assert!(i32::abs(i32::from(got) - wanted) < 8, "{:?}", image.pixel(80, 45));
        }
    }
    assert!(next(&mut running).await.is_none());
    assert_eq!(running.pump.finish(LIMIT).unwrap(), 20);
    assert_eq!(lost(&mut running.losses).await.0, 0);
    assert!(program.all().is_empty());
}

#[tokio::test]
async fn a_video_at_a_frame_rate_plays_at_its_own_speed() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut running = run(&clip(dir.path(), 2), &Options { fps: Some(5.0), ..quick() });
    let mut taken = 0;
    while next(&mut running).await.is_some() {
        taken += 1;
    }
    // Ten frames, 0.2 s between them.
    assert!(started.elapsed() >= Duration::from_millis(1800));
    assert_eq!(running.pump.finish(LIMIT).unwrap(), 10);
    assert_eq!(taken + lost(&mut running.losses).await.0, 10);
}

#[tokio::test]
async fn what_is_no_video_is_said_in_ffmpeg_s_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.mp4");
    std::fs::write(&path, "no video at all").unwrap();
    let mut running = run(path.to_str().unwrap(), &quick());
    assert!(next(&mut running).await.is_none());
    let error = running.pump.finish(LIMIT).unwrap_err().to_string();
    assert!(error.contains("notes.mp4") && error.contains("Invalid data"), "{error}");
}

#[test]
fn a_missing_ffmpeg_names_the_package() {
    let uri: SourceUri = "rtsp://user:hunter2@127.0.0.1/cam".parse().unwrap();
    let options = Options { ffmpeg: "/nowhere/ffmpeg".into(), ..quick() };
    let error = open(&uri, &options).err().unwrap();
    assert!(matches!(error, CaptureError::NoFfmpeg { .. }));
    assert!(error.to_string().contains("apt-get install ffmpeg"), "{error}");
    let error = open(&uri, &Options { fps: Some(0.0), ..quick() }).err().unwrap();
    assert!(matches!(error, CaptureError::Rate { .. }));
}

#[tokio::test]
async fn what_repeats_starts_again_unless_there_was_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), 2);
    std::fs::write(dir.path().join("0002.jpg"), b"this is no picture").unwrap();
    let repeat = Options { repeat: true, ..quick() };
    let mut running = run(dir.path().to_str().unwrap(), &repeat);
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let frame = next(&mut running).await.unwrap();
        seen.push((frame.seq, frame.id.unwrap()));
    }
    let expected = [(0, "0000.jpg"), (1, "0001.jpg"), (3, "0000.jpg"), (4, "0001.jpg"), (6, "0000.jpg")];
    assert!(seen.iter().map(|(seq, id)| (*seq, id.as_str())).eq(expected), "{seen:?}");

    // Ten frames each time.
    let mut running = run(&clip(dir.path(), 1), &repeat);
    until(&mut running, |frame| frame.seq == 25).await;

    for picture in ["0000.jpg", "0001.jpg"] {
        std::fs::write(dir.path().join(picture), b"").unwrap();
    }
    let mut running = run(dir.path().to_str().unwrap(), &repeat);
    assert!(next(&mut running).await.is_none(), "or it would look for ever");
    assert_eq!(running.pump.finish(LIMIT).unwrap(), 3);
}
