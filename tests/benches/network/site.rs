//! A server whose encoder takes no time, and a frame of a given size.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dc_encoder::backend::{Backend, BackendError, BackendInfo, Encoded};
use dc_encoder::serve::{Config, Server, ServerHandle};
use fixtures::{ALWAYS, Authority, Leaf};
use protocol::SpaceId;
use shared::image::{Chroma, Rgb, jpeg};
use tests::netns::FAR;

/// Values of an embedding: as many as the models give.
const DIM: usize = 512;
pub(crate) const CAMERA: &str = "plaza-1";

struct AtOnce;

impl Backend for AtOnce {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            device: "none".into(),
            path: "stand-in".into(),
            reason: String::new(),
            model: "stand-in".into(),
            note: "random weights".into(),
            space: SpaceId([7; 32]),
            embed_dim: DIM,
            grid: (0, 0, 0),
            cells: 1,
            input: (16, 32),
            patches: None,
            max_batch: 8,
            flops: 1000,
        }
    }

    fn encode(&mut self, batch: &[Arc<Rgb>], _: bool) -> Result<Vec<Encoded>, BackendError> {
        Ok(batch.iter().map(|_| Encoded { embedding: vec![0.0; DIM], tokens: None }).collect())
    }
}

/// Certificates for both ends.
pub(crate) struct Site {
    pub(crate) authority: Authority,
}

impl Site {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("CA", ALWAYS);
        let far = FAR.to_string();
        authority.issue_as("server", &Leaf { hosts: vec![&far, "127.0.0.1"], ..Leaf::server(ALWAYS) });
        Self { authority }
    }

    pub(crate) fn camera(&self) -> PathBuf {
        self.authority.issue(&Leaf::camera(CAMERA, 1, ALWAYS))
    }

    /// Starts a server on this address, UDP and TCP. Within a runtime of its namespace.
    pub(crate) fn serve(&self, address: SocketAddr) -> anyhow::Result<ServerHandle> {
        let config = Config {
            listen: address,
            tcp: Some(address),
            metrics: "0".parse().ok(),
            pki: Some(self.authority.dir().to_owned()),
            ..Config::default()
        };
        Ok(Server::start(&config, Box::new(AtOnce))?)
    }
}

/// A JPEG of exactly so many bytes: a small picture and a long comment.
pub(crate) fn frame(bytes: usize) -> Vec<u8> {
    let picture = jpeg::encode(&Rgb::filled(64, 32, [90; 3]), 90, Chroma::C420);
    let (start, rest) = picture.split_at(2);
    // Two bytes of marker; the length counts its own two.
    let comment = bytes - picture.len() - 2;
    let length = u16::try_from(comment).expect("a comment is shorter than 64 kB").to_be_bytes();
    [start, &[0xff, 0xfe], &length, &vec![b' '; comment - 2], rest].concat()
}
