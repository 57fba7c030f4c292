//! A server whose encoder answers at once: the serving path alone. It is this program again, as a process
//! of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded};
use dc_encoder::serve::{Config, Server};
use protocol::SpaceId;
use shared::image::Rgb;
use tokio::signal::unix::{SignalKind, signal};

/// First argument of this program as a server.
pub(crate) const COMMAND: &str = "null-server";
/// As many numbers as the seed encoder's embedding has.
const DIM: usize = 512;

/// Answers every frame with zeros.
struct Null {
    /// Height and width of the frames it takes, pixels.
    input: (usize, usize),
}

impl Backend for Null {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            device: "none".into(),
            path: "null".into(),
            reason: String::new(),
            model: "null".into(),
            note: "random weights".into(),
            space: SpaceId([7; 32]),
            embed_dim: DIM,
            grid: (0, 0, 0),
            cells: 1,
            input: self.input,
            patches: None,
            max_batch: 32,
            flops: 1000,
        }
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], _: bool) -> Result<Vec<Encoded>, BackendError> {
        Ok(batch.iter().map(|_| Encoded { embedding: vec![0.0; DIM], tokens: None }).collect())
    }
}

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
        let null = Null { input: (height.parse()?, width.parse()?) };
        let server = Server::start(&config, Box::new(null))?;
        terminate.recv().await;
        Ok(server.shutdown().await?)
    })
}
