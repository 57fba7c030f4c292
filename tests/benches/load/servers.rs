//! Servers as processes of their own, so that memory and processor time are theirs alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fixtures::{ALWAYS, Authority, Leaf};
use tempfile::TempDir;
use tests::process::{self, Running};
use tests::setup::demo_model;

use crate::null;

/// A server that loads a model is ready long before this.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A drain takes ten seconds at most.
const END_WITHIN: Duration = Duration::from_secs(30);

/// What encodes.
#[derive(Debug, Clone)]
pub(crate) enum Encoder {
    /// A model's folder, and further arguments of `dc-encoder serve`.
    Model(PathBuf, Vec<String>),
    /// Nothing; frames are decoded to this height and width.
    Null(usize, usize),
}

impl Encoder {
    pub(crate) fn demo() -> Self {
        Self::Model(demo_model(), Vec::new())
    }
}

/// Makes the seed's encoder, with random weights, in a folder of this one.
pub(crate) fn seed_80m(dir: &Path) -> anyhow::Result<PathBuf> {
    let model = dir.join("seed-80m");
    let shown = model.display().to_string();
    process::run("dc-encoder", ["model", "init", "--preset", "seed-80m", "--seed", "1", "--out", &shown])?;
    Ok(model)
}

/// A running server with an authority of its own.
pub(crate) struct Server {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    encoder: Encoder,
    dir: TempDir,
}

impl Server {
    pub(crate) fn start(encoder: Encoder) -> anyhow::Result<Self> {
        let authority = Authority::new("CA", ALWAYS);
        authority.issue_as("server", &Leaf::server(ALWAYS));
        let dir = tempfile::tempdir()?;
        let (process, address) = spawn(&encoder, &authority, &dir, ([127, 0, 0, 1], 0).into())?;
        Ok(Self { process, address, authority, encoder, dir })
    }

    /// The same server again, on the same port, after it was killed.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        (self.process, self.address) = spawn(&self.encoder, &self.authority, &self.dir, self.address)?;
        Ok(())
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop(END_WITHIN)?;
        Ok(())
    }
}

fn spawn(
    encoder: &Encoder,
    authority: &Authority,
    dir: &TempDir,
    listen: SocketAddr,
) -> anyhow::Result<(Running, SocketAddr)> {
    let ready = dir.path().join("ready");
    let _ = std::fs::remove_file(&ready);
    let shown = |path: &Path| path.display().to_string();
    let (pki, listen, ready_file) = (shown(authority.dir()), listen.to_string(), shown(&ready));
    let log = dir.path().join("server.log");
    let mut process = match encoder {
        Encoder::Null(height, width) => {
            let args = [null::COMMAND.to_owned(), pki, listen, ready_file];
            let size = [height.to_string(), width.to_string()];
            let mut command = Command::new(std::env::current_exe()?);
            Running::start_in(command.args(args).args(size), "the null server", &log)?
        }
        Encoder::Model(model, more) => {
            let keys = ["--model", "--pki", "--listen", "--ready-file", "--log"];
            let values = [shown(model), pki, listen, ready_file, "warn".to_owned()];
            let args = keys.into_iter().zip(values).flat_map(|(key, value)| [key.to_owned(), value]);
            let args = std::iter::once("serve".to_owned()).chain(args).chain(more.iter().cloned());
            Running::start("dc-encoder", args, &log)?
        }
    };
    let address = process.wait_for_file(&ready, READY_WITHIN)?.trim().parse()?;
    Ok((process, address))
}
