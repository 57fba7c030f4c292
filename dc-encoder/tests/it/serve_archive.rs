//! Samples of live agents' frames reach the archive with their embeddings, and no frame waits for them.

use dc_encoder::archive::{Archive, Query, Sampling};
use dc_encoder::serve::ServeError;
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
