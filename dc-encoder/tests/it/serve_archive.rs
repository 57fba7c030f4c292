//! Samples of live agents' frames reach the archive with their embeddings, and no frame waits for them.

use std::net::SocketAddr;

use dc_encoder::archive::{Archive, Query, Sampling};
use dc_encoder::serve::ServeError;
use fixtures::prometheus::Page;
use protocol::FrameReplyMsg;
use tempfile::TempDir;

use crate::serve_support::{Fake, Pki, World, grey, soon, start};

fn sampling(text: &str, dir: &TempDir) -> Sampling {
    let at = dir.path().join("archive");
    toml::from_str(&format!("dir = {:?}\n{text}", at.display().to_string())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_so_many_frames_is_kept_as_it_was_answered() {
    let dir = TempDir::new().unwrap();
    let text = "one_in = 3\nzone = '+02:00'\n[cameras.dressing-room]\noff = true";
    let archive = sampling(text, &dir);
    let world = World::start(Fake::new(), |config| config.archive = archive);
    let mut embeddings = Vec::new();
    for (camera, serial) in [("gate", 10), ("dressing-room", 11)] {
        let mut agent = world.agent(camera, serial).await;
        for level in 0..7 {
            match agent.grey(10 * level).await.reply().await {
                FrameReplyMsg::Answer(answer) => embeddings.push(answer),
                other => panic!("{other:?}"),
            }
        }
    }
    soon(world.server.shutdown()).await.unwrap();
    let archive = Archive::open_existing(&dir.path().join("archive")).unwrap();
    let found = archive.find(&Query::default()).unwrap();
    let jpegs: Vec<Vec<u8>> = found.iter().map(|it| archive.jpeg(&it.record).unwrap()).collect();
    for level in [0, 30, 60] {
        assert!(jpegs.contains(&grey(level)), "frame {level} is kept byte for byte");
    }
    assert_eq!(found.len(), 3, "nothing of the camera that is off");
    let record = &found[0].record;
    assert_eq!(
        (record.camera.as_str(), record.zone.as_str(), record.source.as_str()),
        ("gate", "+02:00", "agent")
    );
    let embedded = archive.embeddings("gate", None).unwrap();
    assert_eq!(embedded.ids.len(), 3, "each with its embedding");
    assert_eq!(archive.verify(false).unwrap().faults, []);
}

/// Scrapes until the archive's thread has kept or refused so many.
async fn settled(metrics: SocketAddr, outcome: &str, value: f64) -> Page {
    soon(async {
        loop {
            let page = tokio::task::spawn_blocking(move || Page::scrape(metrics)).await.unwrap();
            if page.get("fth_encoder_archive_frames_total", &[("outcome", outcome)]) == value {
                return page;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_is_counted_once_by_whether_it_is_kept_and_why_not() {
    let dir = TempDir::new().unwrap();
    let archive = sampling("one_in = 2\n[cameras.dressing-room]\noff = true", &dir);
    let world = World::start(Fake::new(), |config| {
        (config.archive, config.metrics) = (archive, "0".parse().ok());
    });
    let metrics = world.server.metrics().unwrap();
    let mut bytes = 0;
    // Kept: the first and every second one after it; the last of those has the first one's bytes.
    for (camera, serial, levels) in
        [("gate", 10, [10, 20, 30, 40, 10]), ("dressing-room", 11, [1, 2, 3, 4, 5])]
    {
        let mut agent = world.agent(camera, serial).await;
        for level in levels {
            let reply = agent.grey(level).await.reply().await;
            assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
        }
        let header = agent.header(b"no picture");
        agent.send(&header, b"no picture").await.reply().await;
    }
    for level in [10, 30] {
        bytes += grey(level).len();
    }
    settled(metrics, "same", 1.0).await;
    let page = settled(metrics, "kept", 2.0).await;
    let frames = |outcome| page.get("fth_encoder_archive_frames_total", &[("outcome", outcome)]);
    let seen = ["not_due", "off", "unanswered", "patches", "queue_full", "failed"].map(frames);
    assert_eq!(seen, [3.0, 6.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(page.sum("fth_encoder_archive_frames_total"), 12.0);
    assert_eq!(page.get("fth_encoder_archive_bytes_total", &[]), bytes as f64);
    assert_eq!(page.get("fth_encoder_archive_removed_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_cannot_be_stored_are_counted_and_frames_are_answered_all_the_same() {
    let dir = TempDir::new().unwrap();
    let archive = sampling("one_in = 1", &dir);
    let world = World::start(Fake::new(), |config| {
        (config.archive, config.metrics) = (archive, "0".parse().ok());
    });
    let metrics = world.server.metrics().unwrap();
    let mut agent = world.agent("gate", 10).await;
    // A file where the camera's folder should be, which not even root can write into.
    let in_the_way = dir.path().join("archive/frames/gate");
    std::fs::write(&in_the_way, "").unwrap();
    let reply = agent.grey(10).await.reply().await;
    assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
    settled(metrics, "failed", 1.0).await;
    std::fs::remove_file(&in_the_way).unwrap();
    let reply = agent.grey(20).await.reply().await;
    assert!(matches!(reply, FrameReplyMsg::Answer(_)), "{reply:?}");
    settled(metrics, "kept", 1.0).await;
    soon(world.server.shutdown()).await.unwrap();
    let archive = Archive::open_existing(&dir.path().join("archive")).unwrap();
    assert_eq!(
        (archive.find(&Query::default()).unwrap().len(), archive.verify(false).unwrap().faults),
        (1, vec![])
    );
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_named() {
    let pki = Pki::new();
    let refused = start(&pki, Fake::new(), |config| {
        config.archive.every = Some(std::time::Duration::from_secs(1));
    });
    let error = refused.err().unwrap();
    assert!(matches!(error, ServeError::Sampling(_)));
    assert!(error.to_string().contains("archive.dir is missing"), "{error}");
}
