//! Agents without cameras: the real link, fetch, store and swap.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use edge_agent::config::{Config, Settings};
use edge_agent::heads::Heads;
use edge_agent::releases::{Opened, Running};
use edge_agent::uplink::dial::{Dialer, Greeting};
use edge_agent::uplink::link::{Link, Options};
use edge_agent::uplink::session::OnWire;
use fixtures::{ALWAYS, Leaf};
use shared::release::ReleaseId;
use shared::tls::Identity;

use crate::shop::Shop;

/// A release that has not arrived by then will not.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the set of heads is looked at.
const LOOK: Duration = Duration::from_micros(200);

pub(crate) struct Camera {
    heads: Arc<Heads>,
    _link: Link,
    _releases: Option<Running>,
}

impl Camera {
    pub(crate) fn start(shop: &Shop, number: u8, server: SocketAddr) -> anyhow::Result<Self> {
        let name = format!("plaza-{number}");
        let folder = shop.authority.issue(&Leaf::camera(&name, number, ALWAYS));
        let settings = Settings::new(Config {
            camera: Some(name.clone()),
            source: Some(format!("folder:{}", shop.dir.path().display())),
            servers: Some(vec![server.to_string()]),
            identity: Some(folder.clone()),
            heads_dir: Some(shop.dir.path().join(number.to_string())),
            release_root: Some(shop.root()),
            ..Config::default()
        })?;
        let opened = Opened::new(&settings)?;
        let heads = Arc::new(Heads::new(opened.fixed(&settings)?));
        let (releases, port) = opened.start(&settings, &name, Arc::clone(&heads))?.unzip();
        let greeting = Greeting { instance: u64::from(number), camera: name };
        let dialer = Dialer::new(&folder, Identity::load(&folder)?, greeting)?;
        let options = Options {
            servers: settings.servers.clone(),
            on_wire: OnWire { in_flight: settings.max_in_flight, patches: false },
            spaces: Box::new(Vec::new),
            work: Arc::default(),
            releases: port,
            give_up: false,
        };
        Ok(Self { heads, _link: Link::start(dialer, options), _releases: releases })
    }

    fn runs(&self, release: ReleaseId) -> bool {
        self.heads.current().iter().any(|loaded| loaded.release == release)
    }
}

/// Waits until every camera runs the release.
pub(crate) async fn all_run(cameras: &Arc<Vec<Camera>>, release: ReleaseId) -> anyhow::Result<()> {
    let cameras = Arc::clone(cameras);
    // A thread of its own: the runtime's timers count whole milliseconds.
    tokio::task::spawn_blocking(move || {
        let until = Instant::now() + PATIENCE;
        let mut missing: Vec<&Camera> = cameras.iter().collect();
        loop {
            missing.retain(|camera| !camera.runs(release));
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{} cameras do not run it after {PATIENCE:?}", missing.len());
            std::thread::sleep(LOOK);
        }
    })
    .await?
}
