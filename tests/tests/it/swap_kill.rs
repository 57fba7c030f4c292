//! A server that is killed in the middle of publications: what it acknowledged is there, whole, and nothing else is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dc_encoder::keys::KeyFolder;
use dc_encoder::operate::order::Publication;
use dc_encoder::operate::{Client, Desk, OperateError};
use shared::release::{Channel, KeyRole, ReleaseId, Share, digest, sign_head, unpack};
use tests::{
    ports, process,
    setup::{Options, Prepared, Server, demo_model, prepare},
};
use tokio::sync::oneshot;

use crate::agent::GUARD;

/// Publications that are acknowledged before each kill.
const KILLS_AFTER: [usize; 3] = [1, 4, 9];

struct Registry {
    prepared: Prepared,
    keys: KeyFolder,
    dir: PathBuf,
    address: String,
}

impl Registry {
    fn new(dir: &Path) -> Self {
        let prepared =
            prepare(dir, &Options { model: demo_model(), training_frames: 40, live_frames: 1 }).unwrap();
        let args = ["pki", "issue", "--dir", prepared.pki.to_str().unwrap(), "--operator", "ann"];
        process::run("dc-encoder", args).unwrap();
        let keys = KeyFolder::open(&prepared.keys).unwrap();
        let address = format!("127.0.0.1:{}", ports::lasting());
        Self { prepared, keys, dir: dir.to_owned(), address }
    }

    fn serve(&self) -> Server {
        let [registry, root] =
            ["registry", "keys/root.pub"].map(|name| self.dir.join(name).display().to_string());
        let extra = ["--registry", &registry, "--release-root", &root];
        self.prepared.serve_with(&self.dir, &self.address, &extra).unwrap()
    }

    async fn desk(&self) -> Desk {
        let certificate = self.prepared.pki.join("operators/ann");
        let desk = Desk::Remote(Client::connect(&self.address, &certificate).await.unwrap());
        desk.bring_ring(&self.keys).await.unwrap();
        desk
    }

    /// Publishes another file of the head, and gives it to all cameras.
    async fn publish(&self, desk: &Desk, number: usize) -> Result<ReleaseId, OperateError> {
        let file = self.file(number);
        let signature = sign_head(&file, &self.keys.signing_key(KeyRole::Heads, None).unwrap());
        desk.publish(&file, &signature).await?;
        let standing = desk.standing(&self.keys, &channel()).await?.map(|(standing, _)| standing);
        let release = digest(&file);
        let publication =
            Publication { channel: channel(), release, cameras: None, share: Share::WHOLE, promotion: None };
        desk.assign(&self.keys, &publication.after(standing.as_ref())).await?;
        Ok(release)
    }

    /// safetensors allows spaces after its JSON header: the same head, another file.
    fn file(&self, number: usize) -> Vec<u8> {
        let head = std::fs::read(&self.prepared.heads[0]).unwrap();
        let len = u64::from_le_bytes(head[..8].try_into().unwrap());
        let (end, spaces) = (8 + usize::try_from(len).unwrap(), 8 * (number + 1));
        [&(len + spaces as u64).to_le_bytes(), &head[8..end], &vec![b' '; spaces], &head[end..]].concat()
    }
}

fn channel() -> Channel {
    "people-count@stable".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_while_publishing_has_all_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(dir.path());
    let (mut acknowledged, mut tried) = (Vec::new(), BTreeSet::new());
    let mut number = 0;
    for kill_after in KILLS_AFTER {
        let server = registry.serve();
        let desk = registry.desk().await;
        let (kill, killing) = oneshot::channel();
        let mut killed = tokio::task::spawn_blocking(move || {
            let mut server = server;
            killing.blocking_recv().unwrap();
            server.encoder.signal("KILL").unwrap();
            server.encoder.wait(GUARD).unwrap();
        });
        let mut kill = Some(kill);
        for done in 0.. {
            tried.insert(digest(&registry.file(number)).to_string());
            if done == kill_after
                && let Some(kill) = kill.take()
            {
                // While the next publication is on its way.
                kill.send(()).unwrap();
            }
            tokio::select! {
                biased;
                published = registry.publish(&desk, number) => acknowledged.push(published.unwrap()),
                dead = &mut killed => {
                    dead.unwrap();
                    break;
                }
            }
            number += 1;
        }
        assert!(acknowledged.len() >= kill_after);
    }
    let _server = registry.serve();
    let desk = registry.desk().await;
    let (standing, history) = desk.standing(&registry.keys, &channel()).await.unwrap().unwrap();
    let given: BTreeSet<ReleaseId> = history.iter().map(|entry| entry.release).collect();
    assert!(acknowledged.iter().all(|release| given.contains(release)), "all that was acknowledged");
    assert!(standing.assignment.counter as usize >= acknowledged.len());
    let blobs = dir.path().join("registry/blobs");
    for entry in std::fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let digits = name.strip_suffix(".zlib").unwrap_or(&name);
        assert!(tried.contains(digits), "{name} is no release");
        let bytes = std::fs::read(&path).unwrap();
        let len = blobs.join(digits).metadata().unwrap().len().try_into().unwrap();
        let file = if digits == name { bytes } else { unpack(&bytes, len).unwrap() };
        assert_eq!(digest(&file).to_string(), digits, "every file is whole");
    }
    registry.publish(&desk, number + 1).await.unwrap();
}
