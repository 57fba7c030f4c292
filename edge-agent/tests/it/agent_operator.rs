//! An operator's keys, heads and assignments, and a box that trusts them.

use std::path::PathBuf;

use protocol::{EncoderToAgentMsg, HeadReport, ReleaseId, Wanted};
use shared::head::Manifest;
use shared::release::{Assignment, FORMAT, KeyRing, KeyRole, RingKey, Share, SigningKey, digest, sign_head};
use tokio::process::Command;

use crate::agent_encoder::{Encoder, Seen};
use crate::agent_pki::Pki;
use crate::agent_process::{bare, frames, head, manifest};

/// The head that is pushed.
pub const NAME: &str = "frame-number";

/// Keys, and a box that trusts them.
pub struct Operator {
    pub pki: Pki,
    root: SigningKey,
    heads: SigningKey,
    assignments: SigningKey,
    source: PathBuf,
}

impl Operator {
    pub fn new() -> Self {
        let (pki, root) = (Pki::new(), SigningKey::generate());
        let source = frames(&pki, 3000);
        let operator =
            Self { pki, root, heads: SigningKey::generate(), assignments: SigningKey::generate(), source };
        let keys = operator.pki.path();
        std::fs::write(keys.join("root.pub"), operator.root.public().to_string()).unwrap();
        std::fs::write(keys.join("key-ring"), operator.ring(1, false)).unwrap();
        operator
    }

    pub fn ring(&self, version: u64, revoked: bool) -> Vec<u8> {
        let entry = |name: &str, key: &SigningKey, role, revoked| RingKey {
            name: name.into(),
            key: key.public(),
            role,
            revoked,
        };
        let keys = vec![
            entry("heads-1", &self.heads, KeyRole::Heads, revoked),
            entry("assignments-1", &self.assignments, KeyRole::Assignments, false),
        ];
        KeyRing { format: FORMAT, version, keys }.sign(&self.root).unwrap()
    }

    /// A head file, as the encoder has it.
    pub fn publish(&self, encoder: &Encoder, manifest: &Manifest) -> (ReleaseId, Vec<u8>) {
        let bytes = std::fs::read(head(&self.pki, manifest)).unwrap();
        (self.publish_bytes(encoder, &bytes), bytes)
    }

    pub fn publish_bytes(&self, encoder: &Encoder, bytes: &[u8]) -> ReleaseId {
        let (release, signature) = (digest(bytes), sign_head(bytes, &self.heads));
        encoder.behave(|behaviour| {
            behaviour.releases.insert(release, (bytes.to_vec(), signature));
        });
        release
    }

    /// A signed head file for `heads install`.
    pub fn signed(&self, manifest: &Manifest) -> (ReleaseId, PathBuf) {
        let path = head(&self.pki, manifest);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(shared::release::signature_path(&path), sign_head(&bytes, &self.heads)).unwrap();
        (digest(&bytes), path)
    }

    pub fn wants(&self, counter: u64, release: ReleaseId) -> EncoderToAgentMsg {
        self.assigns(counter, release, false)
    }

    pub fn assigns(&self, counter: u64, release: ReleaseId, rollback: bool) -> EncoderToAgentMsg {
        let assignment = Assignment {
            format: FORMAT,
            channel: format!("{NAME}@stable").parse().unwrap(),
            counter,
            release,
            fallback: None,
            cameras: vec!["*".parse().unwrap()],
            share: Share::WHOLE,
            promotion: None,
            rollback,
        };
        let assignment = assignment.sign(&self.assignments).unwrap();
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
