//! Certificates for the agent's tests.

use std::path::{Path, PathBuf};

use fixtures::{ALWAYS, Authority, Leaf};
use shared::tls::PkiPaths;

/// Over since 2021.
pub const LONG_OVER: [i64; 2] = [ALWAYS[0], 1_609_459_200];

/// A certificate authority in a folder of its own, with one encoder and any number of cameras.
pub struct Pki(Authority);

impl Pki {
    pub fn new() -> Self {
        Self(Authority::new("test CA", ALWAYS))
    }

    pub fn path(&self) -> &Path {
        self.0.dir()
    }

    /// Identity folder of a camera.
    pub fn camera(&self, name: &str) -> PathBuf {
        self.camera_valid(name, ALWAYS)
    }

    /// The same folder, with a certificate of other dates.
    pub fn camera_valid(&self, name: &str, valid: [i64; 2]) -> PathBuf {
        self.0.issue_as(name, &Leaf::camera(name, 7, valid))
    }

    /// What an encoder on this machine needs.
    pub fn encoder(&self, valid: [i64; 2]) -> PkiPaths {
        self.0.server_paths(&Leaf::server(valid))
    }
}
