//! A server with a registry, an operator, and heads that can be told apart by their answers.

#[path = "../common/stand_in.rs"]
mod stand_in;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dc_encoder::keys::KeyFolder;
use dc_encoder::operate::order::Publication;
use dc_encoder::operate::{Client, Desk};
use dc_encoder::serve::{Config, Server, ServerHandle};
use fixtures::{ALWAYS, Authority, Leaf, linear, manifest};
use shared::release::{Assignment, Channel, KeyRole, ReleaseId, Share, digest, sign_head};
use stand_in::{SPACE, StandIn};
use tempfile::TempDir;

/// Values of the stand-in's embedding: a linear head on them is 20 kB.
const DIM: usize = 1200;
pub(crate) const NAME: &str = "people-count";

pub(crate) struct Shop {
    pub(crate) server: ServerHandle,
    pub(crate) authority: Authority,
    pub(crate) dir: TempDir,
    keys: KeyFolder,
    desk: Desk,
}

impl Shop {
    /// `encode`: how long the stand-in takes for a frame.
    pub(crate) async fn open(encode: Duration) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let keys = KeyFolder::init(&dir.path().join("keys"))?;
        let authority = Authority::new("CA", ALWAYS);
        authority.issue_as("server", &Leaf::server(ALWAYS));
        let config = Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            pki: Some(authority.dir().to_owned()),
            registry: Some(dir.path().join("registry")),
            release_root: Some(dir.path().join("keys/root.pub")),
            ..Config::default()
        };
        let server =
            Server::start(&config, Box::new(StandIn { dim: DIM, input: (16, 32), max_batch: 1, encode }))?;
        let operator = authority.issue(&Leaf::operator("ann", 250, ALWAYS));
        let desk = Desk::Remote(Client::connect(&server.local_addr().to_string(), &operator).await?);
        desk.bring_ring(&keys).await?;
        Ok(Self { server, authority, dir, keys, desk })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("keys/root.pub")
    }

    /// What `head publish` does: the file, where the channel stands, the next assignment.
    pub(crate) async fn publish(&self, head: &[u8]) -> anyhow::Result<ReleaseId> {
        let release = self.keep(head).await?;
        let standing = self.desk.standing(&self.keys, &channel()).await?.map(|(standing, _)| standing);
        let publication =
            Publication { channel: channel(), release, cameras: None, share: Share::WHOLE, promotion: None };
        self.desk.assign(&self.keys, &publication.after(standing.as_ref())).await?;
        Ok(release)
    }

    pub(crate) async fn keep(&self, head: &[u8]) -> anyhow::Result<ReleaseId> {
        let key = self.keys.signing_key(KeyRole::Heads, None)?;
        self.desk.publish(head, &sign_head(head, &key)).await?;
        Ok(digest(head))
    }

    /// The next assignment; releases take turns, so each is a rollback.
    pub(crate) async fn give(&self, counter: u64, release: ReleaseId) -> anyhow::Result<()> {
        let first =
            Publication { channel: channel(), release, cameras: None, share: Share::WHOLE, promotion: None };
        let assignment = Assignment { counter, rollback: true, ..first.after(None) };
        Ok(self.desk.assign(&self.keys, &assignment).await?)
    }

    /// The release that the camera's last report names as active.
    pub(crate) fn reported(&self, camera: &str) -> anyhow::Result<Option<ReleaseId>> {
        let registrar = self.server.registrar().context("the server has a registry")?;
        let request =
            protocol::OperatorRequestMsg::Status { channel: String::new(), cameras: camera.to_owned() };
        let replies = registrar.answer("bench", &request, jiff::Timestamp::now(), &|_| true)?;
        Ok(replies.into_iter().find_map(|reply| match reply {
            protocol::OperatorReplyMsg::Head(head) => head.report.active,
            _ => None,
        }))
    }
}

fn channel() -> Channel {
    format!("{NAME}@stable").parse().expect("a channel's name")
}

/// A head of 20 kB that always answers `number`.
pub(crate) fn head(number: u16) -> Vec<u8> {
    let zeros = vec![0.0; DIM];
    linear(&manifest(NAME, SPACE, DIM), &zeros, f32::from(number), &zeros)
}
