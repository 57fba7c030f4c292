//! An operator's keys, heads and assignments, and a box that trusts them.

use std::path::PathBuf;

use fixtures::Keys;
use protocol::{EncoderToAgentMsg, HeadReport, ReleaseId, Wanted};
use shared::head::Manifest;
use shared::release::Assignment;
use tokio::process::Command;

use crate::agent_encoder::{Encoder, Seen};
use crate::agent_pki::Pki;
use crate::agent_process::{bare, frames, head, manifest};

/// The head that is pushed.
pub const NAME: &str = "frame-number";

/// Keys, and a box that trusts them.
pub struct Operator {
    pub pki: Pki,
    pub keys: Keys,
    source: PathBuf,
}

impl Operator {
    pub fn new() -> Self {
        let (pki, keys) = (Pki::new(), Keys::default());
        let source = frames(&pki, 3000);
        std::fs::write(pki.path().join("root.pub"), keys.root.public().to_string()).unwrap();
        std::fs::write(pki.path().join("key-ring"), keys.ring(1, &[])).unwrap();
        Self { pki, keys, source }
    }

    /// A head file, as the encoder has it.
    pub fn publish(&self, encoder: &Encoder, manifest: &Manifest) -> (ReleaseId, Vec<u8>) {
        let bytes = std::fs::read(head(&self.pki, manifest)).unwrap();
        (self.publish_bytes(encoder, &bytes), bytes)
    }

    pub fn publish_bytes(&self, encoder: &Encoder, bytes: &[u8]) -> ReleaseId {
        let (release, signature) = self.keys.sign(bytes);
        encoder.behave(|behaviour| {
            behaviour.releases.insert(release, (bytes.to_vec(), signature));
        });
        release
    }

    /// A signed head file for `heads install`.
    pub fn signed(&self, manifest: &Manifest) -> (ReleaseId, PathBuf) {
        let path = head(&self.pki, manifest);
        let bytes = std::fs::read(&path).unwrap();
        let (release, signature) = self.keys.sign(&bytes);
        std::fs::write(shared::release::signature_path(&path), signature).unwrap();
        (release, path)
    }

    pub fn wants(&self, counter: u64, release: ReleaseId) -> EncoderToAgentMsg {
        self.assigns(counter, release, false)
    }

    pub fn assigns(&self, counter: u64, release: ReleaseId, rollback: bool) -> EncoderToAgentMsg {
        let change = |assignment: &mut Assignment| assignment.rollback = rollback;
        let assignment = self.keys.assign(&format!("{NAME}@stable"), counter, release, change);
        EncoderToAgentMsg::Wanted(Wanted { assignment, share: 1000 })
    }

    pub fn store(&self) -> PathBuf {
        self.pki.path().join("store")
    }

    pub fn agent(&self, encoder: &Encoder) -> Command {
        let mut command = bare(["run", "--fps", "20", "--server", &encoder.server()]);
        command.arg("--source").arg(&self.source);
        command.arg("--identity").arg(self.pki.camera("plaza-1"));
        command.arg("--heads-dir").arg(self.store());
        command.arg("--release-root").arg(self.pki.path().join("root.pub"));
        command
    }
}

pub fn unit(unit: &str) -> Manifest {
    let mut manifest = manifest(NAME);
    manifest.output.unit = unit.into();
    manifest
}

pub async fn report(encoder: &mut Encoder, mut wanted: impl FnMut(&HeadReport) -> bool) -> HeadReport {
    encoder
        .sees(|seen| match seen {
            Seen::Head(report) if wanted(report) => Some(report.clone()),
            _ => None,
        })
        .await
}

pub fn push(encoder: &Encoder, message: EncoderToAgentMsg) {
    encoder.behave(|behaviour| behaviour.push.push(message));
}
