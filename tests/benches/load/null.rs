//! A server whose encoder answers at once: the serving path alone. It is this program again, as a process
//! of its own.

#[path = "../common/stand_in.rs"]
mod stand_in;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use dc_encoder::serve::{Config, Server};
use stand_in::StandIn;
use tokio::signal::unix::{SignalKind, signal};

/// First argument of this program as a server.
pub(crate) const COMMAND: &str = "null-server";
/// As many numbers as the seed encoder's embedding has.
const DIM: usize = 512;

/// Serves until SIGTERM. Arguments: folder of certificates, address, ready file, height and width of frames.
pub(crate) fn serve(args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let args: Vec<String> = args.collect();
    let [pki, listen, ready, height, width] = args.as_slice() else {
        anyhow::bail!("{COMMAND} takes five arguments, not {}", args.len());
    };
    let config = Config {
        listen: listen.parse().context("an address")?,
        pki: Some(PathBuf::from(pki)),
        ready_file: Some(Path::new(ready).to_owned()),
        ..Config::default()
    };
    shared::telemetry::init("warn", shared::telemetry::Format::Text)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let input = (height.parse()?, width.parse()?);
        let null = StandIn { dim: DIM, input, max_batch: 32, encode: Duration::ZERO };
        let server = Server::start(&config, Box::new(null))?;
        terminate.recv().await;
        Ok(server.shutdown().await?)
    })
}
