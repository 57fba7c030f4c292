//! A V4L2 camera, where there is one: the kernel's virtual camera (`modprobe vivid`) will do.
//!
//! `FTH_TEST_CAMERA=/dev/video0 cargo test -p edge-agent --test it capture_camera -- --ignored --test-threads 1`;
//! with `FTH_TEST_CAMERA_DRIVER=/sys/bus/platform/drivers/vivid` and `FTH_TEST_CAMERA_NAME=vivid.0` it is also
//! taken away and given back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use edge_agent::capture::{CaptureError, Image, Options, SourceUri, open, yuyv};

use super::capture_support::{LIMIT, lost, next, quick, run, until, wait_for};

fn camera() -> String {
    std::env::var("FTH_TEST_CAMERA").expect("set FTH_TEST_CAMERA=/dev/videoN")
}

#[tokio::test]
#[ignore = "needs a camera"]
async fn frames_come_at_the_size_and_rate_asked_for() {
    for (size, fps) in [((640, 360), 5.0), ((320, 180), 10.0), ((1280, 720), 2.0)] {
        let mut running = run(&camera(), &Options { size, fps: Some(fps), ..quick() });
        let first = next(&mut running).await.unwrap();
        match &first.image {
            Image::Yuyv { width, height, data } => {
                assert!(*width >= size.0 && *height >= size.1, "{width}x{height}");
                let image = yuyv::to_rgb(*width, *height, data).unwrap();
                let spread = image.data.iter().max().unwrap() - image.data.iter().min().unwrap();
                assert!(spread > 100, "a blank picture");
            }
            Image::Jpeg(bytes) => {
                shared::image::jpeg::decode(bytes, &shared::image::Limits::default()).unwrap();
            }
            Image::Rgb(_) => panic!("{first:?}"),
        }
        let frames = fps as u64 * 2;
        until(&mut running, |frame| frame.seq == frames).await;
        let rate = frames as f64 / first.started.elapsed().as_secs_f64();
        println!("{size:?}: {:?}, {rate:.2} of {fps} frames a second", first.image);
        assert!(rate < fps * 1.2 && rate > fps * 0.5, "{rate} frames a second");
        let captured = running.pump.finish(LIMIT).unwrap();
        let held = running.frames.counts().held;
        assert_eq!(running.frames.counts().taken + held + lost(&mut running.losses).await.0, captured);
    }
}

#[tokio::test]
#[ignore = "needs a camera"]
async fn a_camera_in_use_is_busy() {
    let mut running = run(&camera(), &quick());
    next(&mut running).await.unwrap();
    let uri: SourceUri = camera().parse().unwrap();
    let error = open(&uri, &quick()).err().unwrap();
    assert!(matches!(error, CaptureError::DeviceBusy { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs a camera"]
async fn a_camera_taken_away_is_waited_for() {
    let driver = PathBuf::from(std::env::var("FTH_TEST_CAMERA_DRIVER").expect("set FTH_TEST_CAMERA_DRIVER"));
    let name = std::env::var("FTH_TEST_CAMERA_NAME").expect("set FTH_TEST_CAMERA_NAME");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut running = run(&camera(), &quick());
    next(&mut running).await.unwrap();
    let before = descriptors();
    for _ in 0..5 {
        std::fs::write(driver.join("unbind"), &name).unwrap();
        wait_for("the device's end", || !std::path::Path::new(&camera()).exists());
        // Long enough for a few attempts that find nothing.
        std::thread::sleep(Duration::from_millis(500));
        std::fs::write(driver.join("bind"), &name).unwrap();
        let now = Instant::now();
        until(&mut running, |frame| frame.started > now).await;
        assert_eq!(descriptors(), before, "the device's descriptors leak");
    }
    running.pump.finish(LIMIT).unwrap();
}
