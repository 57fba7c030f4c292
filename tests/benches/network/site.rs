//! A server whose encoder takes no time, and a frame of a given size.

#[path = "../common/stand_in.rs"]
mod stand_in;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dc_encoder::serve::{Config, Server, ServerHandle};
use fixtures::{ALWAYS, Authority, Leaf};
use shared::image::{Chroma, Rgb, jpeg};
use stand_in::StandIn;
use tests::netns::FAR;

/// Values of an embedding: as many as the models give.
const DIM: usize = 512;
pub(crate) const CAMERA: &str = "plaza-1";

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
        let at_once = StandIn { dim: DIM, input: (16, 32), max_batch: 8, encode: Duration::ZERO };
        Ok(Server::start(&config, Box::new(at_once))?)
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
